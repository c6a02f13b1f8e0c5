import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import bowl, judge_of, mean_bowl, noisy_bowls, objective_of, vector

from unstuck.measurements.slices import look_along, natural_reach

laws = settings(deadline=None, derandomize=True, max_examples=6)


@laws
@given(st.integers(0, 1000), st.floats(0.01, 10))
def test_on_a_quadratic_the_model_is_the_loss(seed, reach):
    objective = objective_of(bowl, vector(4), noisy_bowls(4, 4))
    u = vector(4, seed)
    u /= u.norm()
    gradient = objective.gradient(objective.theta)
    slice_ = look_along(judge_of(objective), "lowest", u, gradient, reach=reach)
    assert slice_.model == pytest.approx(slice_.losses, rel=1e-9, abs=1e-9)
    assert slice_.distances == tuple(sorted(slice_.distances))
    assert slice_.distances[0] == -reach
    assert slice_.distances[-1] == reach


def test_the_loss_and_its_model_are_those_of_the_half_that_judges():
    data = noisy_bowls(6, 4)
    objective = objective_of(bowl, vector(4), data)
    u = torch.eye(4, dtype=torch.float64)[0]
    judges = objective.gradient(objective.theta, (1, 3, 5))
    slice_ = look_along(judge_of(objective, exhaustive=False), "highest", u, judges, reach=1.0)
    H, b = mean_bowl(data[1::2])
    points = [objective.theta + t * u for t in slice_.distances]
    exact = [float(0.5 * at @ H @ at - b @ at) + 1.0 for at in points]
    assert slice_.losses == pytest.approx(exact, rel=1e-9)
    assert slice_.model == pytest.approx(exact, rel=1e-9)
    assert slice_.eigenvalue.value == pytest.approx(float(H[0, 0]), rel=1e-9)


@settings(laws, max_examples=100)
@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.floats(0, 1e3))
def test_the_model_changes_by_a_quarter_of_the_scale_or_the_weights_length_is_reached(
    scale, eigenvalue, length
):
    reach = natural_reach(scale, eigenvalue, length)
    assert reach == natural_reach(scale, -eigenvalue, length)
    furthest = max(length, 1.0)
    if reach < furthest:
        assert 0.5 * eigenvalue * reach**2 == pytest.approx(0.25 * scale)
    else:
        assert 0.5 * eigenvalue * furthest**2 <= 0.25 * scale * (1 + 1e-9)


@pytest.mark.parametrize(("scale", "eigenvalue"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1e300, 1e-300)])
def test_without_a_scale_the_weights_length_is_the_reach(scale, eigenvalue):
    assert natural_reach(scale, eigenvalue, 5.0) == 5.0
    assert math.isfinite(natural_reach(scale, eigenvalue, 0.0))
