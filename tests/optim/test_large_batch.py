"""LARS and LAMB against the papers: a network of several layers and groups, and whatever the numbers and shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from papers import Lamb, Lars
from problem import batches, network
from torch import nn

from unstuck import optim
from unstuck.optim import Optimizer


def lars_pair(lr, decay, coefficient, weight_decay):
    rule = optim.lars(decay, coefficient=coefficient, weight_decay=weight_decay)
    return rule, lambda: Lars(lr, decay, coefficient, weight_decay)


def lamb_pair(lr, beta1, beta2, eps, weight_decay):
    rule = optim.lamb(beta1, beta2, eps=eps, weight_decay=weight_decay)
    return rule, lambda: Lamb(lr, beta1, beta2, eps, weight_decay)


# A pair for each group: the first layer's weights, what follows, the last bias.
LARS = [(2.0, 0.9, 0.01, 1e-3), (1.0, 0.8, 0.02, 0.0), (0.5, 0.0, 0.05, 0.1)]
LAMB = [(0.01, 0.9, 0.999, 1e-6, 0.01), (0.02, 0.5, 0.9, 1e-3, 0.0), (0.005, 0.0, 0.99, 1e-8, 0.1)]


@pytest.mark.parametrize(("pair", "numbers"), [(lars_pair, LARS), (lamb_pair, LAMB)], ids=["lars", "lamb"])
def test_two_hundred_steps_of_a_network_with_groups_are_the_papers(pair, numbers):
    one, other = network(torch.float64), network(torch.float64)
    pairs = [pair(*of) for of in numbers]
    first, *between, last = one.parameters()
    groups = [
        {"params": params, "rule": rule, "lr": of[0]}
        for params, (rule, _), of in zip(([first], between, [last]), pairs, numbers, strict=True)
    ]
    optimizer = Optimizer(groups, optim.gradient_descent(), lr=1.0)
    params = list(other.parameters())
    makers = [pairs[0][1], *[pairs[1][1]] * (len(params) - 2), pairs[2][1]]
    references = [make() for make in makers]
    losses = []
    for _, (inputs, labels) in zip(range(200), batches(torch.float64), strict=False):
        other.zero_grad()
        loss = nn.functional.cross_entropy(other(inputs), labels)
        loss.backward()
        losses.append(loss.item())
        for mine, theirs in zip(one.parameters(), params, strict=True):
            mine.grad = theirs.grad.clone()
        optimizer.step()
        for param, reference in zip(params, references, strict=True):
            stepped = reference.step(param.detach().flatten().tolist(), param.grad.flatten().tolist())
            param.data = torch.tensor(stepped, dtype=torch.float64).view_as(param)
        for mine, theirs in zip(one.parameters(), params, strict=True):
            assert (mine - theirs).norm() <= 1e-12 * theirs.norm()
    assert sum(losses[-15:]) < 0.7 * sum(losses[:15])  # so that it was a training


FRACTION = st.floats(0.0, 0.999)
SMALL = st.floats(0.0, 1.0)
SHAPE = st.lists(st.integers(1, 5), max_size=3)
PAIRS = st.one_of(
    st.tuples(st.just(lars_pair), st.tuples(SMALL, FRACTION, SMALL, SMALL)),
    st.tuples(st.just(lamb_pair), st.tuples(SMALL, FRACTION, FRACTION, st.floats(1e-12, 1.0), SMALL)),
)


@given(PAIRS, SHAPE, st.integers(0, 2**31), st.sampled_from(["drawn", "zero gradient", "zero weights"]))
@settings(deadline=None, derandomize=True)
def test_whatever_the_numbers_and_shapes_they_are_the_papers(pair_of, shape, seed, kind):
    pair, numbers = pair_of
    rule, make = pair(*numbers)
    reference = make()
    generator = torch.Generator().manual_seed(seed)

    def drawn():
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    theta = torch.zeros_like(drawn()) if kind == "zero weights" else drawn()
    layer = theta.flatten().tolist()
    theta.requires_grad_()
    optimizer = Optimizer([theta], rule, lr=numbers[0])
    for _ in range(5):
        theta.grad = torch.zeros_like(theta) if kind == "zero gradient" else drawn()
        optimizer.step()
        layer = reference.step(layer, theta.grad.flatten().tolist())
        expected = torch.tensor(layer, dtype=torch.float64).view_as(theta)
        torch.testing.assert_close(theta.detach(), expected, rtol=1e-10, atol=1e-12)
