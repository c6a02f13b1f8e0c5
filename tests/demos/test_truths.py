"""The demos are what they say they are, by float64 and plain autograd alone."""

import pytest
import torch
from torch import nn
from whole_loss import whole

from unstuck.demos import DEMOS


def train(training, optimizer, steps):
    done = 0
    while done < steps:
        for batch in training.data:
            optimizer.zero_grad()
            training.loss(training.model, batch).backward()
            optimizer.step()
            done += 1
            if done == steps:
                return


def lowest_along(loss, direction, lengths=(0.1, 0.3, 1.0)):
    here = loss.vector()
    return min(loss(here + length * direction) for length in lengths)


def test_the_lecture_stands_at_its_saddle_with_the_eigenvalues_of_the_lecture():
    loss = whole(DEMOS["lecture"].setup())
    assert loss() == 1.0
    assert loss.gradient().abs().max() == 0.0
    assert torch.equal(loss.hessian(), torch.tensor([[0.0, -2.0], [-2.0, 0.0]]).double())


def test_the_saddle_has_no_gradient_and_ways_down_on_both_sides():
    loss = whole(DEMOS["saddle"].setup())
    assert loss.vector().numel() > 2000, "so that the matrix-free way is taken"
    assert loss.gradient().norm() < 1e-6
    value, vector = loss.eigenpair("SA")
    assert value < -0.3
    assert lowest_along(loss, vector) < loss() - 0.05
    assert lowest_along(loss, -vector) < loss() - 0.05


@pytest.mark.parametrize("optimizer", ["its own", "SGD"])
def test_no_optimizer_leaves_the_saddle_in_five_hundred_steps(optimizer):
    training = DEMOS["saddle"].setup()
    before = whole(training)()
    own = training.optimizer
    if optimizer == "SGD":
        own = torch.optim.SGD(training.model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    train(training, own, 500)
    assert whole(training)() > before - 1e-4
    assert int((training.model[0].weight.abs().sum(dim=1) > 0).sum()) == 3, "the zero units are still zero"


def test_a_nudge_off_the_saddle_is_all_that_its_optimizer_needs():
    training = DEMOS["saddle"].setup()
    before = whole(training)()
    _, vector = whole(training).eigenpair("SA")
    with torch.no_grad():
        here = nn.utils.parameters_to_vector(training.model.parameters())
        nn.utils.vector_to_parameters(here + 0.3 * vector.float(), training.model.parameters())
    train(training, training.optimizer, 500)
    assert whole(training)() < 0.9 * before


def test_the_minimum_has_no_gradient_and_only_positive_curvature():
    loss = whole(DEMOS["minimum"].setup())
    assert loss.vector().numel() > 2000, "so that the matrix-free way is taken"
    assert loss.gradient().norm() < 1e-6
    # The dense Hessian, which takes half a minute, agrees to all four digits.
    assert loss.eigenpair("SA")[0] == pytest.approx(9.257e-4, rel=1e-2)


def test_the_degenerate_minimum_has_flat_directions_and_none_that_leads_down():
    loss = whole(DEMOS["degenerate"].setup())
    assert loss.gradient().norm() < 1e-5
    eigenvalues = torch.linalg.eigvalsh(loss.hessian())
    assert eigenvalues.min() > -1e-9
    assert int((eigenvalues < 1e-9).sum()) == 30, "three blank pixels have ten weights each"


def test_every_way_from_the_maximum_is_down():
    loss = whole(DEMOS["maximum"].setup())
    assert loss.gradient().norm() < 1e-5
    assert torch.linalg.eigvalsh(loss.hessian()).max() < -0.01


def test_the_plateau_has_neither_slope_nor_curvature_and_nothing_happens_there():
    training = DEMOS["plateau"].setup()
    loss = whole(training)
    assert loss.gradient().norm() < 1e-9
    slope = loss.gradient(graph=True)
    for seed in range(3):
        probe = torch.randn(len(slope), generator=torch.Generator().manual_seed(seed), dtype=slope.dtype)
        products = torch.autograd.grad(slope @ probe, loss.parameters, retain_graph=True)
        assert max(float(product.abs().max()) for product in products) < 1e-9
    train(training, training.optimizer, 200)
    assert whole(training)() == pytest.approx(loss(), abs=1e-9)


def test_in_the_valley_curvature_corrected_steps_gain_many_times_what_the_gradient_does():
    loss = whole(DEMOS["valley"].setup())
    here, gradient, hessian = loss.vector(), loss.gradient(), loss.hessian()
    assert gradient.norm() > 10.0
    along = loss() - min(loss(here - rate * gradient) for rate in torch.logspace(-10, -4, 61))
    damped = hessian + 1e-2 * torch.eye(len(here), dtype=hessian.dtype)
    newton = loss() - lowest_along(loss, -torch.linalg.solve(damped, gradient))
    assert newton > 10 * along > 0.0


def test_the_bouncing_run_comes_back_to_where_it_was_and_a_tenth_of_the_rate_goes_down():
    training = DEMOS["bounce"].setup()
    before = whole(training)
    assert 20.0 * before.eigenpair("LA")[0] > 2.0
    train(training, training.optimizer, 1)
    assert abs(whole(training)() - before()) > 0.01
    train(training, training.optimizer, 1)
    assert whole(training)() == pytest.approx(before(), abs=1e-3)
    train(training, torch.optim.SGD(training.model.parameters(), lr=2.0), 20)
    assert whole(training)() < before() - 0.02


def test_the_noisy_run_goes_nowhere_until_it_is_given_the_whole_gradient():
    training = DEMOS["noise"].setup()
    before = whole(training)()
    train(training, training.optimizer, 280)
    visited = []
    for _ in range(10):
        train(training, training.optimizer, 5)
        visited.append(whole(training)())
    assert sum(visited) / len(visited) > 0.6 * before
    batches = [torch.cat(tensors) for tensors in zip(*training.data, strict=True)]
    for _ in range(280):
        training.optimizer.zero_grad()
        training.loss(training.model, batches).backward()
        training.optimizer.step()
    assert whole(training)() < 0.9 * min(visited)


def test_the_healthy_run_halves_its_loss_in_the_next_epoch():
    training = DEMOS["healthy"].setup()
    before = whole(training)()
    train(training, training.optimizer, 12)
    assert whole(training)() < 0.5 * before
