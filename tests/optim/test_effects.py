"""What each part is for, on surfaces where it can be seen: a flat and a steep direction, a small hill."""

import subprocess
import sys

import pytest
import torch

from unstuck import optim
from unstuck.optim import Optimizer, inverse_sqrt, warmup

FLAT, STEEP = 1e-6, 1.0


def walk(rule, loss, start, lr, steps, schedule=None):
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([theta], rule, lr=lr)
    path = [theta.detach().clone()]
    for step in range(steps):
        if schedule is not None:
            optimizer.param_groups[0]["lr"] = lr * schedule(step)
        optimizer.zero_grad()
        loss(theta).backward()
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path)


def valley(theta):
    return 0.5 * (torch.tensor([FLAT, STEEP], dtype=torch.float64) * theta.square()).sum()


def hill(theta):
    """A bowl with its minimum at 0, and a dent at 2 that holds whoever is slow."""
    return (0.05 * theta.square() - 0.5 * torch.exp(-4.0 * (theta - 2.0).square())).sum()


def test_too_large_a_rate_bounces_between_the_walls():
    path = walk(optim.gradient_descent(), valley, [1.0, 1.0], 2.001 / STEEP, 500)
    assert (path[1:, 1] * path[:-1, 1] < 0.0).all()
    assert path[-1, 1].abs() > 1.0


HUNDRED_THOUSAND = f"""
import torch
from unstuck import optim
curvature = torch.tensor([{FLAT}, {STEEP}], dtype=torch.float64)  # of the valley
theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
optimizer = optim.Optimizer([theta], optim.gradient_descent(), lr={1.0 / STEEP})
for _ in range(100_000):
    theta.grad = curvature * theta.detach()
    optimizer.step()
print(*theta.tolist())
"""


def test_a_rate_small_enough_does_not_arrive_in_a_hundred_thousand_updates():
    """In a process of its own, where a step is not slowed down by checks of its types."""
    done = subprocess.run(
        [sys.executable, "-c", HUNDRED_THOUSAND], capture_output=True, text=True, check=True
    )
    flat, steep = map(float, done.stdout.split())
    assert steep == 0.0
    assert flat > 0.9
    assert flat == pytest.approx((1.0 - FLAT / STEEP) ** 100_000, rel=1e-9)


@pytest.mark.parametrize("rule", [optim.adagrad_mean(), optim.adagrad(), optim.rmsprop_from_first(0.9)])
def test_a_rate_for_each_parameter_arrives_however_flat_the_direction(rule):
    path = walk(rule, valley, [1.0, 1.0], 0.1, 300)
    assert path[-1].abs().max() < 0.1
    assert torch.allclose(path[:, 0], path[:, 1], atol=1e-3)  # as if the surface were round


def test_adagrad_of_the_mean_bursts_along_a_direction_that_has_become_flat():
    away = walk(optim.adagrad_mean(), valley, [1.0, 1.0], 0.4, 300)[:, 0].abs()
    assert away.min() < 1e-12
    assert away[away.argmin() :].max() > 1.0


@pytest.mark.parametrize("schedule", [inverse_sqrt(1), warmup(100).then(inverse_sqrt(100))], ids=str)
def test_decay_and_warmup_take_the_burst_away(schedule):
    away = walk(optim.adagrad_mean(), valley, [1.0, 1.0], 0.4, 300, schedule)[:, 0].abs()
    assert (away[1:] <= away[:-1]).all()
    assert away[-1] < 1e-12


def test_momentum_rolls_over_a_small_hill_that_holds_gradient_descent():
    held = walk(optim.gradient_descent(), hill, [4.0], 0.1, 400)
    rolled = walk(optim.momentum(0.9), hill, [4.0], 0.1, 400)
    assert held[-1].item() == pytest.approx(1.95, abs=0.01)
    assert rolled[-1].item() == pytest.approx(0.0, abs=1e-3)


def test_rmsprop_reacts_to_a_change_of_slope_that_adagrad_still_averages_away():
    def kink(theta):
        return (10.0 * theta.clamp(min=0.0) + 0.1 * theta.clamp(max=0.0)).sum()

    def last_step(rule):
        path = walk(rule, kink, [1.0], 0.01, 200)
        return (path[-2] - path[-1]).item()

    # The slope falls a hundred times after as many steps. A rate for each parameter means steps of 0.01 again.
    assert last_step(optim.rmsprop_from_first(0.9)) == pytest.approx(0.01, rel=0.15)
    assert last_step(optim.adagrad_mean()) < 0.001
