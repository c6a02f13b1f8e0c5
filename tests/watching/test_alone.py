"""Whether a loss takes a softmax over a single class is read off the shapes in its graph."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck.findings.records import Cause
from unstuck.watching.graphs.alone import alone
from unstuck.watching.watch import watch

one, two = nn.Linear(4, 1), nn.Linear(4, 2)
inputs, first, shares = torch.randn(8, 4), torch.zeros(8, dtype=torch.long), torch.rand(8, 1)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: functional.cross_entropy(one(inputs), first),
        lambda: functional.cross_entropy(one(inputs), shares),
        lambda: functional.cross_entropy(one(inputs), first, label_smoothing=0.1, weight=torch.ones(1)),
        lambda: functional.nll_loss(functional.log_softmax(one(inputs), dim=-1), first),
        lambda: (
            functional.cross_entropy(one(inputs).reshape(2, 1, 4), first.reshape(2, 4))
            + 0.1 * two.weight.sum()
        ),
    ],
)
def test_a_softmax_over_one_class_is_seen(loss):
    assert "over a single class" in alone(loss())


@pytest.mark.parametrize(
    "loss",
    [
        lambda: functional.cross_entropy(two(inputs), first),
        lambda: functional.cross_entropy(one(inputs).T, first[:1]),  # one example, of eight classes
        lambda: functional.binary_cross_entropy_with_logits(one(inputs), shares),
        # A mixture of one component is a density all the same.
        lambda: (functional.log_softmax(one(inputs), 1) - two(inputs).square()).logsumexp(1).neg().mean(),
        lambda: two(inputs * functional.log_softmax(one(inputs), 1)).square().mean(),
    ],
)
def test_a_softmax_over_several_or_inside_of_the_model_is_not(loss):
    assert alone(loss()) == ""


@pytest.mark.parametrize("classes", [1, 2])
def test_a_loss_that_is_nothing_over_one_class_is_told_and_why(classes, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    targets = shares if classes == 1 else torch.arange(8) % 2
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(300):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    causes = [finding.cause for finding in watched.findings]
    assert causes == ([Cause.MISMATCHED_LOSS] if classes == 1 else [])
