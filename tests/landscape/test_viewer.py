"""Pictures of the loss: against models displaced by hand, closed forms, and changes that leave the function be."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from landscape.test_survey import data_of, rescaled, trained
from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.demos.critical import lecture
from unstuck.landscape.grid import LEVELS
from unstuck.landscape.ground import Ground, Limits
from unstuck.landscape.planes import random_frame
from unstuck.landscape.profiles import filter_direction, normalisations
from unstuck.landscape.viewer import Viewer
from unstuck.measurements.records import Sample
from unstuck.objective import Objective, draw


def looked(training, *, along=("random", "hessian"), places=10_000, exhaustive=True, seed=0, exact=True):
    """Evaluate all of so many places, as if the time were over then."""
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive, stochastic=False, whole=exhaustive)
    left = itertools.count(places - 1, -1)
    grids = []

    def told(stage, share):
        grids.append(share)

    def remaining():
        return float(next(left)) if any(share > 0.15 for share in grids) else 1.0

    viewer = Viewer(training, drawn, sample, Limits(remaining, 1e9, seed, exact=exact), along)
    viewer.run(told)
    return viewer.view()


def coarse(training, **more):
    """The coarsest grid of every plane."""
    planes = len(more.get("along", ("random", "hessian")))
    return looked(training, places=planes * LEVELS[0] ** 2, **more)


def heights(plane):
    return torch.tensor([[math.nan if v is None else v for v in line] for line in plane.training])


def ground_of(training):
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive=True, stochastic=False, whole=True)
    return Ground(training, drawn, sample, Limits(lambda: 1.0, 1e9, 0))


def test_every_filter_of_a_direction_is_as_long_as_the_weights_own_and_nothing_else_moves():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LayerNorm([3, 4, 4]), nn.Flatten(), nn.Linear(48, 5)
    )
    training = Training(
        model, supervised(nn.CrossEntropyLoss()), [(torch.randn(4, 1, 6, 6), torch.arange(4))]
    )
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: True).batches)
    still = normalisations(model)
    direction = filter_direction(
        objective.parameters, objective.theta, torch.Generator().manual_seed(0), still
    )
    pieces = dict(zip(dict(model.named_parameters()), objective.parameters.pieces(direction), strict=True))
    for name, piece in pieces.items():
        weights = dict(model.named_parameters())[name].detach()
        if name in {"0.weight", "4.weight"}:
            assert torch.allclose(piece.flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1))
        else:
            assert not piece.any(), name


@pytest.mark.parametrize("name", ["random", "hessian"])
def test_the_height_of_a_place_is_the_loss_of_the_model_displaced_by_hand(name):
    training = replace(trained(nn.Tanh), validation=data_of(seed=9))
    view = coarse(training, along=(name,))
    plane = view.plane(name)
    ground = ground_of(training)
    steps = random_frame(ground, training.model).steps
    if name == "hessian":
        batches = ground.objective.batches
        with Objective(training, batches, dtype=torch.float64).products(ground.theta) as products:
            vectors = torch.linalg.eigh(products.block(torch.eye(ground.objective.size).double()))[1]
        steps = vectors[:, -1], vectors[:, 0]
    model = copy.deepcopy(training.model).double()
    start = parameters_to_vector(model.parameters()).detach()

    @torch.no_grad()
    def loss(data, x, y):
        vector_to_parameters(start + x * steps[0] + y * steps[1], model.parameters())
        values = [nn.functional.cross_entropy(model(inputs.double()), targets) for inputs, targets in data]
        return float(sum(values)) / len(values)

    def off(first, second):
        pairs = ((plane.training, training.data), (plane.validation, training.validation))
        return max(
            abs(value - loss(data, first * x, second * y))
            for sheet, data in pairs
            for y, line in zip(plane.ys, sheet, strict=True)
            for x, value in zip(plane.xs, line, strict=True)
        )

    # An eigenvector has no sign.
    signs = itertools.product((1, -1), repeat=2) if name == "hessian" else [(1, 1)]
    assert min(off(*pair) for pair in signs) < 1e-6
    column, row = plane.centre
    assert plane.training[row][column] == pytest.approx(view.here, rel=1e-9)
    assert plane.validation[row][column] == pytest.approx(view.validation.value, rel=1e-9)


def test_around_the_saddle_of_the_lecture_the_picture_is_the_closed_form():
    view = looked(lecture(), places=LEVELS[1] ** 2)
    assert [omission.name for omission in view.omitted] == ["random"]
    assert "no trained matrix" in view.omitted[0].reason
    plane = view.plane("hessian")
    assert (view.lowest.value, view.highest.value) == pytest.approx((-2.0, 2.0))
    for y, line in zip(plane.ys, plane.training, strict=True):
        for x, value in zip(plane.xs, line, strict=True):
            assert value == pytest.approx((1.0 - (y * y - x * x) / 2.0) ** 2, abs=1e-6)
            assert plane.quadratic.at(view.here, x, y) == pytest.approx(1.0 + x * x - y * y, abs=1e-6)
    assert plane.whole == LEVELS[1]


def test_of_a_quadratic_loss_the_quadratic_model_is_all():
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(10, 4, generator=generator), torch.randn(10, 2, generator=generator)) for _ in range(4)
    ]
    torch.manual_seed(0)
    view = coarse(Training(nn.Linear(4, 2), supervised(nn.MSELoss()), data))
    for plane in view.planes:
        for y, line in zip(plane.ys, plane.training, strict=True):
            for x, value in zip(plane.xs, line, strict=True):
                assert value == pytest.approx(plane.quadratic.at(view.here, x, y), rel=1e-6), plane.name


def test_the_random_picture_is_blind_to_the_scale_of_relu_layers_and_that_of_eigenvectors_is_not():
    training = trained(nn.ReLU)
    one, other = coarse(training), coarse(rescaled(training, 4.0))
    assert torch.allclose(heights(one.plane("random")), heights(other.plane("random")), rtol=1e-5)
    ratio = one.plane("hessian").axes[0].high / other.plane("hessian").axes[0].high
    assert abs(math.log(ratio)) > 0.1


def test_the_picture_ends_where_the_quadratic_model_has_changed_by_the_rise():
    view = coarse(trained(nn.Tanh), along=("hessian",))
    axis = view.plane("hessian").axes[0]
    assert 0.5 * view.highest.value * axis.high**2 == pytest.approx(view.rise, rel=1e-6)


def test_as_long_as_there_is_time_the_grid_grows_finer_and_what_was_seen_stays():
    training = trained(nn.Tanh, steps=20)
    finest = looked(training, places=17 * 17, along=("random",)).plane("random")
    for places, whole, side in ((20, 0, 9), (81, 9, 9), (120, 9, 17)):
        view = looked(training, places=places, along=("random",))
        plane = view.plane("random")
        assert (plane.evaluated, plane.whole, len(plane.xs)) == (places, whole, side)
        assert view.complete == (whole > 0)
        seen = 0
        for y, line in zip(plane.ys, plane.training, strict=True):
            for x, value in zip(plane.xs, line, strict=True):
                seen += value is not None
                assert value in {None, finest.training[finest.ys.index(y)][finest.xs.index(x)]}
        assert seen == places


def test_the_middle_is_looked_at_first():
    plane = looked(trained(nn.Tanh, steps=20), places=12, along=("random",)).plane("random")
    known = [(x, y) for y, line in zip(plane.ys, plane.training, strict=True)
             for x, value in zip(plane.xs, line, strict=True) if value is not None]  # fmt: skip
    assert (0.0, 0.0) in known
    assert max(math.hypot(*place) for place in known) < 0.6


def test_heights_are_of_batches_that_did_not_find_the_eigenvectors_and_have_errors():
    training = trained(nn.Tanh)
    view = coarse(training, exhaustive=False)
    judges = training.data[1::2]
    with torch.no_grad():
        values = [nn.functional.cross_entropy(training.model(inputs), targets) for inputs, targets in judges]
    assert view.here == pytest.approx(float(sum(values)) / len(values), rel=1e-5)
    plane = view.plane("hessian")
    column, row = plane.centre
    rounding = torch.finfo(torch.float32).eps * view.here
    assert plane.errors[row][column] < 20.0 * rounding < 1e-3 * plane.errors[0][0]


def test_where_the_loss_overflows_or_raises_the_place_is_infinite():
    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 1), 2.0))
            self.other = nn.Parameter(torch.ones(1, 1))

        def forward(self, inputs):
            if float(self.weight.detach().abs()) > 3.5:
                msg = "too far"
                raise ValueError(msg)
            return torch.exp(400.0 * (self.weight - 2.0)) * self.other * inputs

    data = [(torch.ones(4, 1), torch.zeros(4, 1))]
    plane = coarse(Training(Steep(), supervised(nn.MSELoss()), data), along=("random",)).plane("random")
    ends = [line[0 if plane.axes[0].length else -1] for line in plane.training] + [
        line[-1] for line in plane.training
    ]
    assert math.inf in ends
    assert any(math.isfinite(value) for value in ends)


def test_nothing_of_the_training_is_changed():
    training = replace(
        trained(lambda: nn.BatchNorm1d(10), nn.ReLU, lambda: nn.Dropout(0.3)), validation=data_of(seed=9)
    )
    with unchanged(training):
        coarse(training, exhaustive=False)


def test_a_picture_whose_turn_did_not_come_is_told_to_be_left_out():
    view = looked(trained(nn.Tanh), places=LEVELS[0] ** 2)
    assert [(omission.name, omission.reason) for omission in view.omitted] == [
        ("hessian", "its turn did not come")
    ]
    assert not coarse(trained(nn.Tanh)).omitted


def test_without_time_everything_is_left_out_with_its_reason():
    drawn = draw(data_of(), seed=0, enough=lambda *_: False)
    sample = Sample(drawn.examples, 4, exhaustive=True, stochastic=False, whole=True)
    viewer = Viewer(
        trained(nn.Tanh, steps=1), drawn, sample, Limits(lambda: 0.0, 1e9, 0), ("random", "hessian")
    )
    viewer.run(lambda *_: None)
    view = viewer.view()
    assert view.planes == ()
    assert {omission.reason for omission in view.omitted} == {"the time was over"}
    assert not view.complete
