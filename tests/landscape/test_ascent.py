"""The ascent sharpness of SAM and ASAM against closed forms on bowls."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from measurements.quadratics import batch, bowl, judge_of, objective_of, symmetric, vector
from unstuck.landscape.ascent import one_step, several_steps
from unstuck.landscape.rises import Rises


def highest_of_bowl(matrix, slope, radius):
    """The maximum of s.d + d.A.d / 2 over the ball: (nu - A) d = s with |d| = radius, nu above all eigenvalues."""
    values, vectors = np.linalg.eigh(matrix.numpy())
    part = vectors.T @ slope.numpy()

    def excess(nu):
        return np.linalg.norm(part / (nu - values)) - radius

    nu = brentq(excess, values[-1] + 1e-12, values[-1] + np.linalg.norm(part) / radius + 1.0, xtol=1e-15)
    displacement = part / (nu - values)
    return float(part @ displacement + 0.5 * displacement @ (values * displacement))


def judged(size, seed, strength=1.0):
    matrix, theta = symmetric(torch.linspace(0.1, 4.0, size), seed=seed), vector(size, seed=seed)
    slope = strength * vector(size, seed=seed + 50)
    return matrix, slope, judge_of(objective_of(bowl, theta, [batch(matrix, matrix @ theta - slope)]))


def ascended(judge, radius, scales=None):
    theta = judge.objective.theta
    scales = torch.ones_like(theta) if scales is None else scales
    gradient = judge.objective.gradient(theta)
    rises, start = Rises(judge, gradient), vector(len(theta), seed=9)
    first = one_step(judge, gradient, radius, scales)
    return (
        first,
        rises.absolute(first),
        rises.absolute(several_steps(judge, first, radius, scales, start)),
    )


@pytest.mark.parametrize("seed", range(4))
def test_one_step_of_sam_rises_as_the_formula_says(seed):
    matrix, slope, judge = judged(8, seed)
    _, one, _ = ascended(judge, 0.05)
    unit = slope / slope.norm()
    assert one.value.value == pytest.approx(
        float(0.05 * slope.norm() + 0.00125 * unit @ matrix @ unit), rel=1e-9
    )
    assert one.slope == pytest.approx(0.05 * float(slope.norm()), rel=1e-9)


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("seed", range(4))
def test_several_steps_reach_the_highest_point_of_the_ball(seed, strength):
    matrix, slope, judge = judged(8, seed, strength)
    _, one, several = ascended(judge, 0.05)
    exact = highest_of_bowl(matrix, slope, 0.05)
    assert one.value.value <= several.value.value <= exact * (1 + 1e-9)
    assert several.value.value >= 0.98 * exact


def test_at_a_critical_point_one_step_says_nothing_and_several_do():
    _, _, judge = judged(6, 3, strength=0.0)
    theta = judge.objective.theta
    first = one_step(judge, torch.zeros_like(theta), 0.05, torch.ones_like(theta))
    assert not bool(first.displacement.any())
    several = several_steps(judge, first, 0.05, torch.ones_like(theta), vector(6, seed=1))
    exact = 0.5 * 4.0 * 0.05**2
    assert 0.9 * exact <= several.found - judge.found(judge.base) <= exact * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_asam_is_sam_of_the_weights_in_units_of_themselves(seed):
    matrix, slope, judge = judged(8, seed)
    scales = judge.objective.theta.abs()
    first, one, several = ascended(judge, 0.5, scales)
    assert float((first.displacement / scales).norm()) == pytest.approx(0.5, rel=1e-12)
    unit = scales * slope / (scales * slope).norm()
    scaled = scales[:, None] * matrix * scales
    expected = float(0.5 * (scales * slope).norm() + 0.125 * unit @ scaled @ unit)
    assert one.value.value == pytest.approx(expected, rel=1e-9)
    assert several.value.value >= 0.98 * highest_of_bowl(scaled, scales * slope, 0.5)


def test_a_weight_of_zero_does_not_move_under_asam():
    _, _, judge = judged(6, 1)
    scales = judge.objective.theta.abs()
    scales[2] = 0.0
    first, _, _ = ascended(judge, 0.5, scales)
    assert float(first.displacement[2]) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_beside_a_saddle_the_ascent_does_not_go_back_and_forth(seed):
    matrix = symmetric(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]), seed=seed)
    zero = torch.zeros(5, dtype=torch.float64)
    judge = judge_of(objective_of(bowl, zero, [batch(matrix, zero)]))
    first = one_step(judge, zero, 0.1, torch.ones_like(zero))
    several = several_steps(judge, first, 0.1, torch.ones_like(zero), vector(5, seed=seed))
    assert several.found - judge.found(judge.base) >= 0.9 * 0.5 * 2.0 * 0.01
