import copy

import pytest
import torch

from unstuck import optim
from unstuck.optim import (
    AverageOfSquares,
    HeavyBall,
    MovingAverage,
    Nesterov,
    Optimizer,
    OptimizerError,
    Role,
    SumOfSquares,
    chain,
)


@pytest.fixture
def gradients():
    return list(torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def run(optimizer, theta, gradients):
    for gradient in gradients:
        theta.grad = gradient.clone()
        optimizer.step()


def test_a_new_scale_starts_anew_and_the_momentum_goes_on(gradients):
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([theta], optim.adam(0.9, 0.999), lr=0.01)
    run(optimizer, theta, gradients[:20])
    optimizer.replace(scale=AverageOfSquares(0.5))
    run(optimizer, theta, gradients[20:])

    expected, m, v = torch.ones(3, dtype=torch.float64), 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        age, beta = (t, 0.999) if t <= 20 else (t - 20, 0.5)
        m = 0.9 * m + 0.1 * gradient
        v = beta * (v if t != 21 else 0.0) + (1 - beta) * gradient**2
        expected = expected - 0.01 * m / (1 - 0.9**t) / ((v / (1 - beta**age)).sqrt() + 1e-8)
    assert torch.allclose(theta, expected, rtol=1e-12, atol=0.0)


def test_a_new_momentum_starts_anew_and_the_scale_goes_on(gradients):
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([theta], optim.adam(), lr=0.01)
    run(optimizer, theta, gradients[:20])
    scale = optimizer.state[theta]["exp_avg_sq"].clone()
    optimizer.replace(momentum=MovingAverage(0.5))
    assert torch.equal(optimizer.state[theta]["exp_avg_sq"], scale)
    before = theta.detach().clone()
    run(optimizer, theta, gradients[20:21])
    v = (0.999 * scale + 0.001 * gradients[20] ** 2) / (1 - 0.999**21)
    expected = before - 0.01 * gradients[20] / (
        v.sqrt() + 1e-8
    )  # its bias corrected, the average is the gradient
    assert torch.allclose(theta, expected, rtol=1e-12, atol=0.0)


def test_the_same_part_again_changes_nothing(gradients):
    one, other = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    left, asked = (Optimizer([theta], optim.adamw(), lr=0.01) for theta in (one, other))
    run(left, one, gradients[:20])
    run(asked, other, gradients[:20])
    asked.replace(scale=AverageOfSquares(0.999), momentum=MovingAverage(0.9))
    run(left, one, gradients[20:])
    run(asked, other, gradients[20:])
    assert torch.equal(one, other)


def test_left_out_parts_are_forgotten_and_what_is_left_is_the_simpler_rule(gradients):
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([theta], optim.adam(), lr=0.01)
    run(optimizer, theta, gradients[:20])
    optimizer.replace(momentum=None, scale=None)
    assert optimizer.param_groups[0]["rule"] == optim.gradient_descent()
    assert set(optimizer.state[theta]) == {"step"}
    before = theta.detach().clone()
    run(optimizer, theta, gradients[20:21])
    assert torch.allclose(theta, before - 0.01 * gradients[20], rtol=1e-14, atol=0.0)


def test_every_group_keeps_the_rest_of_its_own_rule():
    one, other, late = (torch.ones(1, requires_grad=True) for _ in range(3))
    groups = [{"params": [one]}, {"params": [other], "rule": optim.momentum(weight_decay=0.1)}]
    optimizer = Optimizer(groups, optim.adamw(), lr=0.01)
    optimizer.replace(scale=SumOfSquares())
    optimizer.add_param_group({"params": [late]})
    rules = [group["rule"] for group in optimizer.param_groups]
    assert rules[0].part(Role.SCALE) == rules[1].part(Role.SCALE) == SumOfSquares()
    assert rules[1] == chain(optim.momentum(weight_decay=0.1), SumOfSquares())
    assert rules[2] == rules[0]


def test_a_replaced_part_survives_a_checkpoint(gradients):
    one, other = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = Optimizer([one], optim.adam(), lr=0.01)
    run(optimizer, one, gradients[:10])
    optimizer.replace(scale=AverageOfSquares(0.9))
    run(optimizer, one, gradients[10:20])
    resumed = Optimizer([other], chain(MovingAverage(), AverageOfSquares(0.9)), lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.no_grad():
        other.copy_(one)
    run(optimizer, one, gradients[20:])
    run(resumed, other, gradients[20:])
    assert torch.equal(one, other)


def test_fused_goes_on_where_ages_differ(gradients):
    one, other = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for theta, fused in ((one, False), (other, True)):
        optimizer = Optimizer([theta], optim.adam(), lr=0.01, fused=fused)
        run(optimizer, theta, gradients[:10])
        optimizer.replace(scale=AverageOfSquares(0.9))
        run(optimizer, theta, gradients[10:])
    assert torch.allclose(one, other, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": HeavyBall()}, r"`scale` must be such a part, as AverageOfSquares\(0.99\), not HeavyBall"),
        (
            {"momentum": SumOfSquares()},
            r"`momentum` must be such a part, as HeavyBall\(0.9\), not SumOfSquares",
        ),
        ({"momentum": Nesterov(), "scale": SumOfSquares()}, "no fused kernel"),
    ],
)
def test_what_is_refused_changes_nothing(asked, words):
    theta = torch.ones(1, requires_grad=True)
    optimizer = Optimizer([theta], optim.adam(), lr=0.01, fused=True)
    run(optimizer, theta, [torch.ones(1)])
    with pytest.raises(OptimizerError, match=words):
        optimizer.replace(**asked)
    assert optimizer.param_groups[0]["rule"] == optim.adam()
    assert set(optimizer.state[theta]) == {"step", "exp_avg", "exp_avg_sq"}
