"""Laws of an escape: never up, out of saddles of every order, and no way down where there is none."""

import math
import os
import signal
from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from measurements.quadratics import batch, bowl, objective_of, symmetric, vector
from objective.fingerprint import unchanged
from objective.zoo import CASES, training
from unstuck import Training, supervised
from unstuck.demos.critical import lecture, minimum, saddle
from unstuck.errors import MeasurementError
from unstuck.objective import Objective, draw
from unstuck.remedies.escape import End, escape

pytestmark = pytest.mark.usefixtures("unchecked")

SQUARES = supervised(nn.functional.mse_loss)
DEAREST = 4.0  # gradients that a single evaluation costs at most: a product by differences, done again


def whole(training, **more):
    return Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches, **more)


def deep_linear(depth, width=4, dtype=torch.float32):
    """All weights zero: the first derivative of the loss that is not is the one of order `depth`."""
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth))).to(dtype)
    for layer in model:
        nn.init.zeros_(layer.weight)
    x = torch.randn(40, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    turned = x.roll(1, dims=1) + 0.5 * x
    return Training(model, SQUARES, list(zip(x.split(16), turned.split(16), strict=True)))


def alike(units=8):
    """All hidden units the same: every gradient keeps them so."""
    model = nn.Sequential(nn.Linear(4, units), nn.Tanh(), nn.Linear(units, 2))
    for layer in (model[0], model[2]):
        nn.init.constant_(layer.weight, 0.1)
        nn.init.zeros_(layer.bias)
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return Training(model, SQUARES, [(x, torch.stack([x[:, 0] * x[:, 1], x[:, 2] - x[:, 3]], dim=1))])


def test_the_saddle_of_the_lecture_is_left_for_a_loss_of_zero():
    found = escape(whole(lecture()), seed=0)
    assert found.before == 1.0
    assert found.after < 1e-6
    assert found.end is End.STATIONARY
    w1, w2 = found.displacement.tolist()
    assert w1 * w2 == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saddles_of_every_order_are_left(depth, dtype):
    found = escape(whole(deep_linear(depth, dtype=dtype)), seed=1)
    assert found.after < 0.2 * found.before


def test_units_that_are_alike_are_told_apart():
    objective = whole(alike())
    found = escape(objective, seed=0)
    incoming = objective.parameters.pieces(objective.theta + found.displacement)[0]
    assert float(incoming.std(dim=0).max()) > 0.1
    assert found.after < 0.5 * found.before


def test_a_bowl_has_no_way_down():
    objective = objective_of(
        bowl, torch.zeros(12), [batch(symmetric([0.1] * 6 + [3.0] * 6), vector(12, scale=0.0))]
    )
    found = escape(objective, seed=0)
    assert found.end is End.STATIONARY
    assert found.after == found.before
    assert float(found.displacement.norm()) == 0.0


def bounded(model, given):
    """A bowl whose negative curvature does not go on for ever: at best it gains lambda^2 / (16 * 0.01)."""
    return bowl(model, given) + 0.01 * model.theta.square().sum().square()


@pytest.mark.parametrize("lowest", [-1.0, -0.1])
@pytest.mark.parametrize("highest", [1e2, 1e4])
def test_weak_curvature_among_much_steeper_is_found(lowest, highest):
    rest = torch.logspace(0.0, math.log10(highest), 199)
    matrix = symmetric([lowest, *rest.tolist()])
    objective = objective_of(bounded, torch.zeros(200), [batch(matrix, vector(200, scale=0.0))])
    found = escape(objective, seed=0)
    assert found.before - found.after > 0.9 * lowest**2 / 0.16


def test_what_is_called_stationary_says_how_surely():
    objective = objective_of(bowl, torch.zeros(12), [batch(symmetric([0.1] * 6 + [3.0] * 6), vector(12))])
    found = escape(objective, seed=0)
    assert found.certificate is not None
    assert found.certificate.bound <= 0.1 + 1e-9
    assert found.certificate.tolerance <= 1e-2


def test_a_loss_that_is_not_finite_is_refused():
    matrices = symmetric([1.0, 2.0, 3.0]), torch.full((3, 3), math.nan).double()
    objective = objective_of(bowl, torch.zeros(3), [batch(matrix, vector(3)) for matrix in matrices])
    with pytest.raises(MeasurementError, match="not finite"):
        escape(objective, seed=0)


@pytest.mark.parametrize("memory", [0.0, 1e5])
def test_little_memory_is_enough(memory):
    assert escape(whole(saddle()), seed=0, gradients=60.0, memory=memory).after < 0.6


def test_a_constant_loss_has_no_way_down_and_no_certificate():
    objective = objective_of(
        bowl, torch.zeros(5), [batch(torch.zeros(5, 5).double(), torch.zeros(5).double())]
    )
    found = escape(objective, seed=0)
    assert found.end is End.NO_WAY_DOWN
    assert found.after == found.before


def test_a_slope_is_followed_without_a_displacement():
    slope = vector(12, seed=3)
    objective = objective_of(bowl, torch.zeros(12), [batch(symmetric([1.0] * 6 + [9.0] * 6), slope)])
    found = escape(objective, seed=0)
    assert found.rounds[0].way == "slope"
    matrix = symmetric([1.0] * 6 + [9.0] * 6)
    assert found.after == pytest.approx(
        1.0 - 0.5 * float(slope @ torch.linalg.solve(matrix, slope)), abs=1e-3
    )


@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=6),
    st.floats(0, 1),
    st.integers(0, 3),
    st.floats(1, 60),
)
@settings(deadline=None, derandomize=True, max_examples=25)
def test_the_loss_never_rises_and_the_budget_holds(eigenvalues, tilt, seed, budget):
    objective = objective_of(
        bowl,
        torch.zeros(len(eigenvalues)),
        [batch(symmetric(eigenvalues), vector(len(eigenvalues), scale=tilt))],
    )
    found = escape(objective, seed=seed, gradients=budget)
    assert found.after <= found.before
    assert found.after == pytest.approx(objective.value(objective.theta + found.displacement), rel=1e-9)
    assert found.gradients <= budget + DEAREST


def test_the_same_seed_gives_the_same_escape():
    first, second = (escape(whole(saddle()), seed=5, gradients=30.0) for _ in range(2))
    assert torch.equal(first.displacement, second.displacement)
    assert first.rounds == second.rounds
    assert sum(done.gradients for done in first.rounds) <= first.gradients


def test_only_the_batches_asked_for_count():
    objective = whole(saddle())
    spent = objective.ledger.examples
    found = escape(objective, only=(1, 3), seed=0, gradients=20.0)
    examples = objective.batches[1].examples + objective.batches[3].examples
    assert found.gradients == pytest.approx((objective.ledger.examples - spent) / examples)
    assert found.gradients < 20.0 + DEAREST
    after = objective.values(objective.theta + found.displacement, (1, 3))
    shares = objective.batches[1].examples / examples, objective.batches[3].examples / examples
    assert found.after == pytest.approx(shares[0] * after[0] + shares[1] * after[1], rel=1e-6)


def test_time_that_is_over_ends_it_with_what_is_known():
    asked = count()
    found = escape(whole(saddle()), seed=0, over=lambda: next(asked) >= 8)
    assert found.end is End.BUDGET
    assert found.after <= found.before < math.inf


def test_a_trained_network_with_zero_units_goes_on_to_learn():
    found = escape(whole(saddle()), seed=0, gradients=60.0)
    assert found.after < 0.5 * found.before


@pytest.mark.slow
def test_a_trained_minimum_is_second_order_stationary():
    found = escape(whole(minimum(), dtype=torch.float64), seed=0)
    assert found.end is End.STATIONARY
    assert found.after == pytest.approx(found.before, rel=1e-3)


@pytest.mark.parametrize(("name", "model", "loss"), CASES, ids=[name for name, _, _ in CASES])
def test_every_kind_of_training_is_borrowed_and_given_back(name, model, loss):
    torch.manual_seed(0)
    borrowed = training(model(), loss)
    objective = whole(borrowed)
    with unchanged(borrowed):
        found = escape(objective, seed=0, gradients=40.0)
    assert found.after <= found.before
    assert found.after == pytest.approx(objective.value(objective.theta + found.displacement), rel=1e-5)


def test_after_ctrl_c_the_training_is_untouched_and_the_lowest_point_known():
    borrowed, asked = saddle(), count()

    def interrupt():
        if next(asked) == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    objective = whole(borrowed)
    with unchanged(borrowed):
        found = escape(objective, seed=0, over=interrupt)
    assert found.end is End.INTERRUPTED
    assert found.after <= found.before
