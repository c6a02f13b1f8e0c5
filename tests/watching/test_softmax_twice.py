"""Whether outputs are normalised twice is read off the graph of a loss."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck.watching.graphs.outputs import mismatch

inputs, labels = torch.randn(6, 4), torch.randint(0, 3, (6,))
layer = nn.Linear(4, 3)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: functional.cross_entropy(layer(inputs).softmax(1), labels),
        lambda: functional.cross_entropy(
            layer(inputs).softmax(1).view(6, 3).float(), labels, label_smoothing=0.1
        ),
        lambda: 0.5 * functional.cross_entropy(layer(inputs).sigmoid(), labels) + layer.weight.square().sum(),
        lambda: functional.binary_cross_entropy_with_logits(
            layer(inputs)[:, 0].sigmoid(), labels.clamp(0, 1.0)
        ),
    ],
)
def test_what_is_normalised_before_the_loss_does_it_is_said(loss):
    assert "has gone through" in mismatch(loss())


@pytest.mark.parametrize(
    "loss",
    [
        lambda: functional.nll_loss(layer(inputs).softmax(1), labels),
        lambda: functional.nll_loss(layer(inputs).softmax(1)[:, :, None], labels[:, None]),
        lambda: functional.ctc_loss(
            layer(inputs)[:, None].softmax(2), torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2])
        ),
    ],
)
def test_what_lacks_its_logarithm_is_said(loss):
    assert "wants logarithms" in mismatch(loss())


@pytest.mark.parametrize(
    "loss",
    [
        lambda: functional.cross_entropy(layer(inputs), labels),
        lambda: functional.nll_loss(layer(inputs).softmax(1).log(), labels),
        lambda: functional.binary_cross_entropy(layer(inputs).sigmoid(), inputs[:, :3].sigmoid()),
        lambda: functional.cross_entropy(10.0 * layer(inputs).sigmoid(), labels),  # a range of its own
        lambda: functional.cross_entropy(layer(layer(inputs).softmax(1) @ layer.weight), labels),
        lambda: torch.ones((), requires_grad=True),
    ],
)
def test_what_is_normalised_once_or_within_the_model_is_not(loss):
    assert mismatch(loss()) == ""
