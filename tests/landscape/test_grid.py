"""Which heights are evaluated and which interpolated, in which precision: against the real loss at every place."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from landscape.test_survey import data_of, trained
from objective.fingerprint import unchanged
from unstuck import Training
from unstuck.landscape.grid import LEVELS, Grid
from unstuck.landscape.ground import Ground, Limits
from unstuck.landscape.pictures import Axis
from unstuck.landscape.planes import Frame, random_frame
from unstuck.measurements.records import Sample
from unstuck.objective import draw


class Point(nn.Module):
    """Two weights, and a loss that is a function of them."""

    def __init__(self, function, offset=0.0, dtype=torch.float32):
        super().__init__()
        self.weights = nn.Parameter(torch.full((2,), offset, dtype=dtype))
        self.function, self.offset = function, offset

    def forward(self):
        x, y = self.weights - self.offset
        return self.function(x, y)


def bowl(x, y):
    return x**2 + y**2 + 0.3 * x * y


SMOOTH = {
    "bowl": bowl,
    "saddle": lambda x, y: (1 - (y**2 - x**2) / 2) ** 2,
    "valley": lambda x, y: torch.log1p(torch.exp(4 * x + y)) + torch.log1p(torch.exp(-3 * x)) + 0.1 * y**2,
    "waves": lambda x, y: bowl(x, y) + 0.05 * torch.sin(6 * x),
}
ROUGH = {
    "step": lambda x, y: bowl(x, y) + (x + 0.3 * y > 0.21).to(x),
    "kink": lambda x, y: (x + 0.4 * y - 0.13).abs() + y**2,
    "clipped": lambda x, y: torch.clamp(3 * (x**2 + y**2), max=1.7),
    "fine waves": lambda x, y: bowl(x, y) + 0.2 * torch.sin(25 * x),
    "noise": lambda x, y: bowl(x, y) + 0.02 * torch.sin(1e4 * (x + 1.7 * y)),
    "peak": lambda x, y: bowl(x, y) + torch.exp(-((x - 0.4) ** 2 + (y + 0.3) ** 2) / 0.01),
    "leaky units": lambda x, y: (torch.relu(x - 0.1) - torch.relu(0.7 * y - x)) ** 2 + 0.1 * (x + y),
}


def ground_of(training, *, exact=False, precise=False, held=False):
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive=True, stochastic=False, whole=True)
    ground = Ground(training, drawn, sample, Limits(lambda: 1.0, 1e9, 0, exact=exact), precise=precise)
    if held:
        ground.hold()
    return ground


def point(function, **more):
    return Training(Point(function, **more), lambda model, _: model(), [torch.zeros(1)])


def over_the_square(ground, reach=1.0):
    axes = [Axis(name, 1.0, -reach, reach) for name in ("first", "second")]
    return Frame("random", (axes[0], axes[1]), tuple(torch.eye(2, dtype=ground.theta.dtype)))


def drawn(ground, frame, side=LEVELS[-1]):
    grid = Grid(frame, ground, None)
    for level in LEVELS[: LEVELS.index(side) + 1]:
        for place in grid.missing(level):
            grid.look(place)
    return grid.plane()


def square_of(function, *, exact=False, reach=1.0, **more):
    ground = ground_of(point(function, **more), exact=exact)
    return drawn(ground, over_the_square(ground, reach))


def sheet(rows):
    return torch.tensor([[math.nan if v is None else v for v in row] for row in rows], dtype=torch.float64)


def truth_of(function, plane):
    xs, ys = (torch.tensor(places, dtype=torch.float64) for places in (plane.xs, plane.ys))
    rows = [torch.stack([function(x, y) for x in xs]) for y in ys]
    return torch.stack(rows)


@pytest.mark.parametrize("name", SMOOTH)
def test_of_a_smooth_loss_few_heights_are_evaluated_and_every_height_is_within_its_error(name):
    plane = square_of(SMOOTH[name])
    assert plane.whole == LEVELS[-1]
    assert plane.evaluated < 400
    marked = torch.tensor(plane.interpolated)
    assert int(marked.sum()) == LEVELS[-1] ** 2 - plane.evaluated
    off = (sheet(plane.training) - truth_of(SMOOTH[name], plane)).abs()
    assert (off <= sheet(plane.errors) + 1e-9).all()
    assert float(off.max()) <= 4e-3 * (sheet(plane.training).max() - sheet(plane.training).min())
    assert float(off[~marked].max()) < 1e-5
    assert (sheet(plane.errors)[marked] >= plane.interpolation.error).all()


@pytest.mark.parametrize("name", ROUGH)
def test_of_a_rough_loss_every_height_is_within_its_error_and_what_is_rough_is_evaluated(name):
    plane = square_of(ROUGH[name])
    off = (sheet(plane.training) - truth_of(ROUGH[name], plane)).abs()
    rounding = 2e-3 if name == "noise" else 1e-5  # of a sine of ten thousand in float32
    assert (off <= sheet(plane.errors) + rounding).all()
    assert plane.evaluated > 400
    if name in {"step", "kink", "clipped", "fine waves", "noise"}:
        assert plane.evaluated == LEVELS[-1] ** 2
        assert plane.interpolated == ()
        assert plane.interpolation is None


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_of_a_network_the_picture_is_that_of_all_places_up_to_its_errors(act):
    training = replace(trained(act), data=data_of(2, 50), validation=data_of(1, 100, seed=9))
    planes = []
    for exact in (False, True):
        ground = ground_of(training, exact=exact, held=True)
        planes.append(drawn(ground, random_frame(ground, training.model)))
    quick, whole = planes
    assert whole.evaluated == LEVELS[-1] ** 2
    assert whole.interpolation is None
    errors = sheet(quick.errors)
    assert ((sheet(quick.training) - sheet(whole.training)).abs() <= errors).all()
    assert ((sheet(quick.validation) - sheet(whole.validation)).abs() <= errors).all()
    if quick.interpolation is not None:
        evaluated = ~torch.tensor(quick.interpolated)
        assert torch.equal(sheet(quick.training)[evaluated], sheet(whole.training)[evaluated])


def test_beside_a_place_without_a_loss_nothing_is_interpolated():
    def broken(x, y):
        return bowl(x, y) + 0.0 * torch.log(0.55 - x)

    plane = square_of(broken)
    infinite = ~sheet(plane.training).isfinite()
    assert infinite.any()
    assert torch.equal(infinite, torch.tensor([[x > 0.55 for x in plane.xs] for _ in plane.ys]))
    marked = torch.tensor(plane.interpolated)
    assert marked.any()
    for row, column in infinite.nonzero().tolist():
        assert not marked[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
    off = (sheet(plane.training) - truth_of(bowl, plane)).abs()
    assert (off <= sheet(plane.errors) + 1e-9)[~infinite].all()


def test_validation_loss_that_is_rough_keeps_training_loss_from_being_interpolated():
    function = {"training": SMOOTH["bowl"], "validation": ROUGH["step"]}
    model = Point(bowl)

    def loss(own, kind):
        own.function = function["validation" if float(kind) else "training"]
        return own()

    training = Training(model, loss, [torch.zeros(1)], validation=[torch.ones(1)])
    ground = ground_of(training, held=True)
    plane = drawn(ground, over_the_square(ground))
    assert plane.evaluated == LEVELS[-1] ** 2
    assert (sheet(plane.validation) - truth_of(ROUGH["step"], plane)).abs().max() < 1e-5


def test_the_coarsest_grid_and_an_exact_picture_are_evaluated_everywhere():
    ground = ground_of(point(bowl))
    coarse = drawn(ground, over_the_square(ground), LEVELS[0])
    assert (coarse.evaluated, coarse.whole, coarse.interpolated) == (81, 9, ())
    exact = square_of(bowl, exact=True)
    assert (exact.evaluated, exact.interpolated, exact.interpolation) == (LEVELS[-1] ** 2, (), None)


def test_the_same_seed_evaluates_the_same_places():
    one, other = square_of(SMOOTH["valley"]), square_of(SMOOTH["valley"])
    assert one == other


def test_a_finer_grid_that_is_not_finished_shows_what_the_coarser_one_interpolated():
    ground = ground_of(point(SMOOTH["valley"]))
    grid = Grid(over_the_square(ground), ground, None)
    for level in LEVELS[:2]:
        for place in grid.missing(level):
            grid.look(place)
    places = grid.missing(LEVELS[2])
    for _ in range(5):
        grid.look(next(places))
    plane = grid.plane()
    assert (plane.whole, len(plane.xs)) == (17, 33)
    heights, marked = sheet(plane.training), torch.tensor(plane.interpolated)
    assert not heights[::2, ::2].isnan().any()
    assert marked[::2, ::2].any()
    assert not marked[1::2].any()
    assert heights.isnan().sum() > 33 * 33 - 17 * 17 - 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_picture_that_rounding_would_show_in_is_computed_in_float64(dtype):
    def flat(x, y):
        return 1.0 + 1e-5 * bowl(x, y)

    ground = ground_of(point(flat, dtype=dtype))
    plane = drawn(ground, over_the_square(ground))
    column, row = plane.centre
    assert plane.training[row][column] == ground.here == 1.0
    off = (sheet(plane.training) - truth_of(flat, plane)).abs()
    assert (off <= sheet(plane.errors) + 1e-12).all()
    assert float(off.max()) < 1e-7
    assert float(sheet(plane.errors)[~torch.tensor(plane.interpolated)].max()) < 1e-14


def test_a_picture_in_which_rounding_is_nothing_is_computed_in_the_types_of_the_model():
    heights = sheet(square_of(bowl, exact=True).training)
    assert torch.equal(heights, heights.float().double())


def test_rounding_that_cancelling_makes_large_is_measured_and_part_of_the_error(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 40, generator=generator)
    torch.manual_seed(0)
    model = nn.Linear(40, 1)
    with torch.no_grad():
        model.bias += 1000.0
        targets = model(inputs) + 1e-2 * torch.randn(64, 1, generator=generator)
    training = Training(
        model, lambda own, batch: ((own(batch[0]) - batch[1]) ** 2).mean(), [(inputs, targets)]
    )

    def picture(largest):
        monkeypatch.setattr("unstuck.landscape.ground.PRECISE", largest)
        ground = ground_of(training, exact=True)
        axes = [Axis(name, 1.0, -1e-2, 1e-2) for name in ("first", "second")]
        steps = torch.eye(ground.objective.size)[:2]
        return drawn(ground, Frame("random", (axes[0], axes[1]), tuple(steps)), LEVELS[0])

    single, double = picture(0), picture(100_000)
    off = (sheet(single.training) - sheet(double.training)).abs()
    assert (off <= sheet(single.errors)).all()
    assert float(off.max()) > 100.0 * float(sheet(double.errors).max())
    plain = 4.0 * torch.finfo(torch.float32).eps * sheet(double.training)
    assert (off > plain).any()


def test_nothing_of_the_training_is_changed():
    training = replace(
        trained(lambda: nn.BatchNorm1d(10), nn.ReLU, lambda: nn.Dropout(0.3)),
        data=data_of(2, 50),
        validation=data_of(1, 100, seed=9),
    )
    with unchanged(training):
        ground = ground_of(training, held=True)
        drawn(ground, random_frame(ground, training.model))
