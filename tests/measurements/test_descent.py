import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import batch, bowl, judge_of, mean_bowl, noisy_bowls, objective_of, symmetric, vector

from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import Operator
from unstuck.measurements.descent import (
    along_curvature,
    along_gradient,
    along_krylov,
    line_search,
    onward,
    taken,
)

laws = settings(deadline=None, derandomize=True, max_examples=10)
ONE = torch.ones(1, dtype=torch.float64)


def product(model, _):
    """The lecture's (1 - w1 w2)^2."""
    return (1.0 - model.theta[0] * model.theta[1]).square()


def krylov_run(objective, gradient, products=20):
    with objective.products(objective.theta) as matvec:
        run = Lanczos(Operator(matvec, objective.size, objective.theta, noise=matvec.noise), gradient)
        while not run.finished and run.products < products:
            run.step()
    return run


@laws
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=6), st.floats(-5, 5), st.integers(0, 99))
def test_the_line_search_gains_at_least_four_fifths_of_the_closed_form_and_never_more(spectrum, off, seed):
    H, theta = symmetric(spectrum, seed), vector(len(spectrum), seed)
    objective = objective_of(bowl, theta, [batch(H, torch.zeros_like(theta))])
    g = H @ theta
    best = float((g @ g) ** 2 / (2 * g @ H @ g))
    optimum = float(g.norm() * (g @ g) / (g @ H @ g))
    route = along_gradient(judge_of(objective), g, g, optimum * 10.0**off, 0.0)
    assert 0.8 * best <= route.gain.value <= best * (1 + 1e-9) + route.gain.margin()


@laws
@given(st.floats(-5, 5), st.floats(0.01, 100))
def test_what_was_looked_at_is_told_in_order_and_is_the_real_loss(off, present):
    H, theta = symmetric([1.0, 3.0]), vector(2)
    objective = objective_of(bowl, theta, [batch(H, torch.zeros_like(theta))])
    g = H @ theta
    route = along_gradient(judge_of(objective), g, g, 10.0**off, present)
    assert route.distances[0] == 0.0
    assert list(route.distances) == sorted(set(route.distances))
    for distance, loss in zip(route.distances, route.losses, strict=True):
        point = theta - distance * g / g.norm()
        assert loss == pytest.approx(float(0.5 * point @ H @ point) + 1.0, rel=1e-9)
    assert route.gain.value == pytest.approx(route.losses[0] - min(route.losses))
    assert route.multiple == pytest.approx(route.distance / present)


def test_where_the_loss_rises_along_a_direction_the_search_stays():
    objective = objective_of(bowl, [1.0, 0.0], [batch(symmetric([2.0, 2.0]), torch.zeros(2).double())])
    best = line_search(judge_of(objective), torch.tensor([1.0, 0.0]).double(), 0.1)
    assert float(best.displacement.norm()) == 0.0


@pytest.mark.parametrize("distinct", [(1.0, 2.0), (1e-3, 1.0, 5.0), (0.01, 0.5, 3.0, 40.0)])
def test_few_distinct_eigenvalues_let_the_krylov_route_reach_the_minimum(distinct):
    H, theta = symmetric([value for value in distinct for _ in range(8)]), vector(8 * len(distinct))
    objective = objective_of(bowl, theta, [batch(H, torch.zeros_like(theta))])
    g = H @ theta
    run = krylov_run(objective, g, products=len(distinct))
    exact = float(0.5 * theta @ H @ theta)
    route = along_krylov(judge_of(objective), run, g, g)
    assert route.gain.value == pytest.approx(exact, rel=1e-6)
    assert route.slope == pytest.approx(exact, rel=1e-6)  # of a bowl, the slope accounts for all of it


@laws
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=30), st.integers(0, 99))
def test_the_krylov_route_never_beats_the_minimum_nor_loses_to_the_line_search(spectrum, seed):
    H, theta = symmetric(spectrum, seed), vector(len(spectrum), seed)
    objective = objective_of(bowl, theta, [batch(H, torch.zeros_like(theta))])
    g = H @ theta
    judge = judge_of(objective)
    krylov = along_krylov(judge, krylov_run(objective, g), g, g)
    line = along_gradient(judge, g, g, 1.0, 0.0)
    assert krylov.gain.value <= float(0.5 * theta @ H @ theta) + krylov.gain.margin()
    assert krylov.gain.value >= 0.99 * line.gain.value


def test_a_straight_loss_has_no_krylov_step():
    objective = objective_of(lambda model, _: 1.0 + model.theta.sum(), torch.zeros(3), [ONE])
    g = torch.ones(3).double()
    route = along_krylov(judge_of(objective), krylov_run(objective, g), g, g)
    assert route.distance == 0.0
    assert route.gain.value == 0.0


@laws
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8), st.floats(-3, 3), st.integers(0, 99))
def test_the_slope_is_what_the_gradient_promises_and_at_most_the_gain(spectrum, off, seed):
    theta = vector(len(spectrum), seed)
    H = symmetric(spectrum, seed)
    objective = objective_of(bowl, theta, [batch(H, vector(len(spectrum), seed + 1))])
    g = objective.gradient(objective.theta)
    judge = judge_of(objective)
    line = along_gradient(judge, g, g, 10.0**off, 0.0)
    assert line.slope == pytest.approx(min(line.gain.value, float(g.norm()) * line.distance), rel=1e-9)
    krylov = along_krylov(judge, krylov_run(objective, g), g, g)
    assert krylov.slope <= krylov.gain.value


@pytest.mark.parametrize("eps", [1e-2, 1e-3, 1e-4])
def test_beside_the_lectures_saddle_the_slope_is_small_though_the_line_search_gains_all(eps):
    objective = objective_of(product, [eps, eps], [ONE])
    g = objective.gradient(objective.theta)
    judge = judge_of(objective)
    line = along_gradient(judge, g, g, math.sqrt(2) * (1 - eps), 0.0)
    assert line.gain.value == pytest.approx(1.0, abs=4 * eps)
    # To (1, 1) the gradient promises 4 eps; a step corrected for curvature stays near, and is promised 4 eps^2.
    assert line.slope == pytest.approx(4 * eps * (1 - eps) * (1 - eps**2), rel=1e-6)
    krylov = along_krylov(judge, krylov_run(objective, g), g, g)
    assert krylov.slope == pytest.approx(4 * eps**2, rel=0.25)


def test_from_the_lectures_saddle_curvature_and_escape_lead_down_and_the_control_stays():
    objective = objective_of(product, [0.0, 0.0], [ONE])
    judge, g = judge_of(objective), torch.zeros(2).double()
    lowest = torch.tensor([1.0, 1.0]).double() / math.sqrt(2)  # by hand: eigenvalue -2
    route, displacement = along_curvature(judge, lowest, g, 0.1)
    # Along it the loss is (1 - t^2 / 2)^2, 0 at t = sqrt(2); the search is right to a factor of sqrt(2).
    assert route.gain.value > 0.4
    assert abs(float(displacement @ lowest)) == pytest.approx(route.distance)
    assert route.slope == 0.0
    escape = onward("escape", judge, displacement, g, lambda: False)
    assert escape.gain.value == pytest.approx(1.0, abs=1e-6)
    control = onward("control", judge, torch.zeros_like(displacement), g, lambda: False)
    assert control.gain.value == 0.0


@pytest.mark.parametrize("exhaustive", [True, False])
def test_both_signs_of_an_eigenvector_are_tried(exhaustive):
    # 1 - t^2 / 2 + t^3 falls for t < 0 without end, and for t > 0 by 1/54 only.
    def cubic(model, _):
        t = model.theta[0]
        return 1.0 - t * t / 2 + t**3 + model.theta[1].square()

    judge = judge_of(objective_of(cubic, [0.0, 0.0], [ONE, ONE]), exhaustive=exhaustive)
    for sign in (1.0, -1.0):
        lowest = torch.tensor([sign, 0.0]).double()
        _, displacement = along_curvature(judge, lowest, torch.zeros(2).double(), 0.1)
        assert float(displacement[0]) < 0.0


@laws
@given(st.lists(st.floats(1e-3, 10), min_size=2, max_size=10), st.integers(0, 99))
def test_a_descent_gains_no_more_than_there_is(spectrum, seed):
    H, theta = symmetric(spectrum, seed), vector(len(spectrum), seed)
    objective = objective_of(bowl, theta, [batch(H, torch.zeros_like(theta))])
    route = onward("control", judge_of(objective), torch.zeros_like(theta), H @ theta, lambda: False)
    available = float(0.5 * theta @ H @ theta)
    # It goes on until a tenth of the loss is gained; of a bowl with few directions it finds as much.
    assert min(available, 0.1 * (1.0 + available)) * 0.99 <= route.gain.value <= available + 1e-9


def test_a_gain_is_judged_on_batches_that_did_not_find_it():
    data = noisy_bowls(8, 4)
    theta = vector(4)
    objective = objective_of(bowl, theta, data)
    judge = judge_of(objective, exhaustive=False)
    finds, judges = (objective.gradient(objective.theta, half) for half in (range(0, 8, 2), range(1, 8, 2)))
    route = along_gradient(judge, finds, judges, 0.5, 0.0)
    H, b = mean_bowl(data[1::2])
    p = -route.distance * finds / finds.norm()

    def loss(at):
        return float(0.5 * at @ H @ at - b @ at)

    assert route.gain.value == pytest.approx(loss(theta) - loss(theta + p), rel=1e-9)
    A, c = mean_bowl(data[::2])
    assert route.found == pytest.approx(float(c @ p - 0.5 * p @ A @ p - p @ A @ theta), rel=1e-9)
    promised = -float((H @ theta - b) @ p)
    assert route.slope == pytest.approx(min(route.gain.value, promised), rel=1e-9)


def test_what_steps_gain_is_their_mean_with_the_spread_between_them():
    data = noisy_bowls(6, 3)
    objective = objective_of(bowl, vector(3), data)
    judge = judge_of(objective, exhaustive=False)
    steps = [vector(3, seed, 0.1) for seed in range(5)]
    gains = [judge.gain(objective.values(objective.theta + step)) for step in steps]
    values = torch.tensor([gain.value for gain in gains])
    route = taken("now", judge, steps)
    assert route.gain.value == pytest.approx(float(values.mean()), rel=1e-5)
    within = max(gain.stderr for gain in gains)
    assert route.gain.stderr == pytest.approx(math.hypot(within, float(values.std()) / 5**0.5), rel=1e-5)
    assert route.distance == pytest.approx(sum(float(step.norm()) for step in steps) / 5)


def test_a_step_into_overflow_is_sure_of_nothing():
    objective = objective_of(bowl, vector(2), noisy_bowls(4, 2))
    route = taken("ahead", judge_of(objective), [1e200 * vector(2), vector(2)])
    assert not route.gain.surely_above(0.0)
    assert not route.gain.surely_below(0.0)
