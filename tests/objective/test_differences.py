"""Central differences of a gradient whose Hessian is known, in the rounding of float32."""

import math
from dataclasses import replace

import pytest
import torch

from unstuck.objective.differences import Differences, central
from unstuck.space import Space

SIZE = 400
POWERS = [0.5 + 0.1 * number for number in range(50)]


def gradient(level, frequency):
    """Of the sum of level * x - cos(frequency * x) / frequency: a large level is a large rounding."""
    return lambda theta: level + torch.sin(frequency * theta)


class Counted:
    def __init__(self, slope):
        self.slope, self.calls = slope, 0

    def __call__(self, theta):
        self.calls += 1
        return self.slope(theta)


def exact(theta, frequency, unit):
    return frequency * torch.cos(frequency * theta.double()) * unit.double()


def point():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(3)) / math.sqrt(SIZE)


def direction():
    drawn = torch.randn(SIZE, generator=torch.Generator().manual_seed(4))
    return drawn / drawn.norm()


def error(product, truth):
    return float((product.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("frequency", [1.0, 30.0])
def test_the_step_is_nearly_the_best_that_there_is(frequency):
    theta, unit, slope = point(), direction(), gradient(1.0, frequency)
    truth = exact(theta, frequency, unit)
    best = min(error(central(slope, theta, unit, 10.0**-power), truth) for power in POWERS)
    made = Differences(slope, theta, Space(SIZE))
    assert error(made(unit), truth) < 3.0 * best


@pytest.mark.parametrize("level", [1.0, 300.0])
@pytest.mark.parametrize("frequency", [1.0, 30.0])
def test_the_error_is_no_more_than_what_is_said_and_not_much_less(level, frequency):
    theta, unit = point(), direction()
    made = Differences(gradient(level, frequency), theta, Space(SIZE))
    seen = error(made(unit), exact(theta, frequency, unit))
    assert 0.1 * made.error < seen < 1.5 * made.error


def test_extrapolation_betters_what_no_plain_step_reaches():
    theta, unit, slope = point(), direction(), gradient(300.0, 30.0)
    truth = exact(theta, 30.0, unit)
    best = min(error(central(slope, theta, unit, 10.0**-power), truth) for power in POWERS)
    assert error(Differences(slope, theta, Space(SIZE))(unit), truth) < 0.7 * best


def test_a_good_step_is_not_extrapolated_since_that_costs_twice_as_much():
    slope = Counted(gradient(1.0, 1.0))
    made, before = Differences(slope, point(), Space(SIZE)), slope.calls
    made(direction())
    assert slope.calls - before == 2


def test_a_step_that_is_known_is_taken_if_it_still_serves_and_else_chosen_anew():
    slope = Counted(gradient(1.0, 1.0))
    first, made = Differences(slope, point(), Space(SIZE)), slope.calls
    again = Differences(slope, point(), Space(SIZE), first.chosen)
    assert again.chosen.length == first.chosen.length
    assert slope.calls - made == 4
    poor = replace(first.chosen, length=100.0 * first.chosen.length)
    anew = Differences(slope, point(), Space(SIZE), poor)
    assert anew.chosen == first.chosen
