"""Which heights of a line are evaluated and which interpolated: against the real loss at every place."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from landscape.test_grid import ROUGH, SMOOTH, Point, bowl, ground_of, point
from landscape.test_survey import data_of, trained
from unstuck import Training
from unstuck.landscape.heights import Heights
from unstuck.landscape.line import PLACES, Line
from unstuck.landscape.profiles import filter_direction

SLOPE = torch.tensor([1.0, 0.3])


def line_of(training, end=SLOPE, *, exact=False, held=False):
    ground = ground_of(training, exact=exact, held=held)
    return Line(Heights(ground.judge, ground.held), end.to(ground.theta), ground.limits)


def training_of(line):
    return torch.tensor([height.training for height in line.heights], dtype=torch.float64)


def off(line, function):
    truth = [function(*(share * SLOPE.double())) for share in line.shares]
    return (training_of(line) - torch.stack(truth)).abs()


@pytest.mark.parametrize("name", SMOOTH)
def test_of_a_smooth_loss_few_heights_are_evaluated_and_every_height_is_within_its_error(name):
    line = line_of(point(SMOOTH[name]))
    interpolated = torch.tensor(line.interpolated)
    assert 9 <= int((~interpolated).sum()) <= 17
    missed, heights = off(line, SMOOTH[name]), training_of(line)
    assert (missed <= torch.tensor(line.errors) + 1e-6).all()
    assert float(missed.max()) <= 1e-2 * float(heights.max() - heights.min())
    assert float(missed[~interpolated].max()) < 1e-5
    assert line.interpolation.checked == int((~interpolated).sum()) - 2


@pytest.mark.parametrize("name", ROUGH)
def test_of_a_rough_loss_every_height_is_within_its_error(name):
    line = line_of(point(ROUGH[name]))
    rounding = 2e-3 if name == "noise" else 1e-5  # of a sine of ten thousand in float32
    assert (off(line, ROUGH[name]) <= torch.tensor(line.errors) + rounding).all()
    if name in {"step", "kink", "clipped", "fine waves", "noise"}:
        assert not any(line.interpolated)
        assert line.interpolation is None


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_of_a_network_the_line_is_that_of_all_places_up_to_its_errors(act):
    training = replace(trained(act), data=data_of(2, 50), validation=data_of(1, 100, seed=9))
    parameters, theta = ground_of(training).objective.parameters, ground_of(training).theta
    for seed in range(3):
        end = filter_direction(parameters, theta, torch.Generator().manual_seed(seed))
        quick, whole = (line_of(training, end, exact=exact, held=True) for exact in (False, True))
        assert not any(whole.interpolated)
        errors = torch.tensor(quick.errors)
        assert ((training_of(quick) - training_of(whole)).abs() <= errors).all()
        held = [[height.validation for height in line.heights] for line in (quick, whole)]
        assert ((torch.tensor(held[0]) - torch.tensor(held[1])).abs() <= errors).all()


def test_beside_a_place_without_a_loss_nothing_is_interpolated():
    line = line_of(point(lambda x, y: bowl(x, y) + 0.0 * torch.log(0.55 - x)))
    assert [height.finite for height in line.heights] == [share <= 0.55 for share in line.shares]
    wall = line.shares.index(next(share for share in line.shares if share > 0.55))
    assert any(line.interpolated)
    assert not any(line.interpolated[wall - 2 :])
    missed = off(line, bowl)[:wall]
    assert (missed <= torch.tensor(line.errors)[:wall] + 1e-6).all()


def test_validation_loss_that_is_rough_keeps_training_loss_from_being_interpolated():
    def loss(own, kind):
        own.function = ROUGH["step"] if float(kind) else bowl
        return own()

    training = Training(Point(bowl), loss, [torch.zeros(1)], validation=[torch.ones(1)])
    assert not any(line_of(training, held=True).interpolated)


def test_the_height_of_the_point_is_its_own_and_the_same_seed_evaluates_the_same_places():
    one, other = line_of(point(SMOOTH["valley"])), line_of(point(SMOOTH["valley"]))
    middle = PLACES // 2
    assert one.shares[middle] == 0.0
    assert one.heights[middle].training == float(SMOOTH["valley"](torch.tensor(0.0), torch.tensor(0.0)))
    assert (one.heights, one.interpolated) == (other.heights, other.interpolated)
