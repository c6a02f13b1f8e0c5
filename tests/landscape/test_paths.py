"""The principal plane of a path: against a singular value decomposition, random walks, and training by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from landscape.test_survey import trained
from landscape.test_viewer import ground_of
from objective.fingerprint import unchanged
from unstuck.errors import MeasurementError
from unstuck.landscape.paths import Trajectory, path_frame, random_walk_shares
from unstuck.objective import draw
from unstuck.objective.ledger import Ledger
from unstuck.trials.onward import walked


@pytest.fixture(scope="module")
def ground():
    return ground_of(trained(nn.Tanh, steps=20))


def wandering(ground, places, seed=0):
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randn(places, ground.objective.size, generator=generator, dtype=torch.float64).cumsum(0)
    return Trajectory("run", tuple(range(places)), [ground.theta + 0.1 * move for move in moves])


def test_the_plane_is_that_of_the_two_largest_singular_values(ground):
    trajectory = wandering(ground, 12)
    frame, path = path_frame(ground, trajectory)
    moves = torch.stack(list(trajectory.places)) - ground.theta
    _, values, rows = torch.linalg.svd(moves - moves.mean(dim=0), full_matrices=False)
    assert path.shares == pytest.approx(tuple((values[:2] ** 2 / (values**2).sum()).tolist()))
    for step, row, places in zip(frame.steps, rows, (path.xs, path.ys), strict=False):
        assert abs(float(step @ row)) == pytest.approx(1.0)
        assert torch.allclose(moves @ step, torch.tensor(places, dtype=torch.float64))
    aside = moves - torch.outer(moves @ rows[0], rows[0]) - torch.outer(moves @ rows[1], rows[1])
    assert path.aside == pytest.approx(aside.norm(dim=1).tolist())
    assert path.apart == pytest.approx(float(moves[-1].norm()))


def test_the_picture_takes_in_the_whole_path_and_the_weights(ground):
    frame, path = path_frame(ground, wandering(ground, 12))
    for axis, places in zip(frame.axes, (path.xs, path.ys), strict=True):
        assert axis.low < min(0.0, *places)
        assert axis.high > max(0.0, *places)


def test_the_loss_beside_each_place_is_that_of_the_weights_there(ground):
    trajectory = wandering(ground, 5)
    _, path = path_frame(ground, trajectory)
    assert path.losses == pytest.approx([ground.objective.value(place) for place in trajectory.places])


def test_of_a_random_walk_the_shares_are_the_published_ones_and_those_that_are_seen():
    assert random_walk_shares(20_000) == pytest.approx((6 / math.pi**2, 1.5 / math.pi**2), rel=1e-3)
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(40, 20_000, generator=generator, dtype=torch.float64).cumsum(0)
    values = torch.linalg.svdvals(walk - walk.mean(dim=0)) ** 2
    assert random_walk_shares(40) == pytest.approx(tuple((values[:2] / values.sum()).tolist()), rel=0.03)


@pytest.mark.parametrize("places", [0, 2])
def test_too_few_places_span_no_plane(ground, places):
    trajectory = Trajectory("run", tuple(range(places)), [ground.theta + index for index in range(places)])
    with pytest.raises(MeasurementError, match="path needs"):
        path_frame(ground, trajectory)


def test_a_path_along_a_line_spans_no_plane(ground):
    trajectory = Trajectory("run", (0, 1, 2), [ground.theta + index for index in range(3)])
    with pytest.raises(MeasurementError, match="one line"):
        path_frame(ground, trajectory)


def test_a_copy_goes_on_as_the_run_itself_would():
    training = trained(nn.Tanh, steps=20)
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    with unchanged(training):
        places = walked(training, drawn.batches, steps=10, every=2, ledger=Ledger(), over=lambda: False)
    model = copy.deepcopy(training.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    optimizer.load_state_dict(training.optimizer.state_dict())
    expected = [parameters_to_vector(model.parameters()).detach()]
    for step in range(10):
        inputs, targets = training.data[step % len(training.data)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if step % 2:
            expected.append(parameters_to_vector(model.parameters()).detach())
    assert len(places) == 6
    for place, weights in zip(places, expected, strict=True):
        assert torch.allclose(place, weights, rtol=1e-5, atol=1e-6)


def test_without_an_optimizer_no_copy_goes_on():
    training = replace(trained(nn.Tanh, steps=1), optimizer=None)
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    with pytest.raises(MeasurementError, match="optimizer"):
        walked(training, batches, steps=1, every=1, ledger=Ledger(), over=lambda: False)
