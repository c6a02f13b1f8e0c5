"""Whether outputs are compared with all targets is read off the shapes in the graph of a loss."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck.findings.records import Cause
from unstuck.watching.graphs.crossed import crossed
from unstuck.watching.watch import watch

layer, inputs, targets = nn.Linear(4, 1), torch.randn(8, 4), torch.randn(8)
pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs: functional.mse_loss(outputs, targets),
        lambda outputs: functional.l1_loss(outputs, targets),
        lambda outputs: functional.huber_loss(outputs[:, 0], targets[:, None]),
        lambda outputs: 0.5 * ((outputs - targets) ** 2).mean() + 0.1 * layer.weight.square().sum(),
        lambda outputs: (targets - outputs).abs().sum() / 8,
    ],
)
def test_a_table_of_all_outputs_and_all_targets_is_seen(loss):
    assert "(8, 1)" in (said := crossed(loss(layer(inputs)))) or "(8,)" in said
    assert "(8, 8)" in said


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs: functional.mse_loss(outputs[:, 0], targets),
        lambda outputs: (outputs - targets[:3]).abs().mean(),  # as of three quantiles
        lambda outputs: (outputs - outputs.T - (targets[:, None] - targets)).square().mean(),  # ranks
        lambda outputs: ((outputs - targets).square().neg().exp() @ torch.ones(8)).mean(),  # kernels
        lambda outputs: functional.mse_loss(outputs[:1], targets[:1]),
    ],
)
def test_what_is_compared_one_by_one_or_in_pairs_is_not(loss):
    assert crossed(loss(layer(inputs))) == ""


@pytest.mark.parametrize("kept", [False, True])
def test_gradients_that_are_set_to_zero_before_the_step_are_told(kept, tmp_path):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(300):
            (model(inputs)[:, 0] - targets).square().mean().backward()
            optimizer.zero_grad(set_to_none=not kept)
            optimizer.step()
    assert [finding.cause for finding in watched.findings] == [Cause.FROZEN_PARAMETERS]
    assert "between backward() and step()" in watched.findings[0].explanation
