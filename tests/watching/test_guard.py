"""Where a graph is not to be looked at, the pass that shows it leaves the training as it is."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from unstuck.watching.kernels.guard import Guard


def gradients(guard=None):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    inputs = torch.randn(3, 5, 8)
    loss = (
        checkpoint(block, checkpoint(block, inputs, use_reentrant=False), use_reentrant=False).square().mean()
    )
    if guard is not None:
        guard.down()
    loss.backward()
    return [parameter.grad for parameter in block.parameters()]


def test_what_a_checkpoint_computes_again_is_what_it_was_at_first():
    guard = Guard()
    found = gradients(guard)
    assert "checkpointing" in guard.seen
    assert all(torch.equal(one, other) for one, other in zip(found, gradients(), strict=True))


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        lambda: nn.Sequential(nn.LSTM(4, 6, batch_first=True)),
    ],
)
def test_transforms_of_functions_go_through_a_pass_that_shows_its_graph(model):
    def gradients():
        torch.manual_seed(0)
        module, inputs = model(), torch.randn(3, 5, 4)

        def loss(parameters):
            found = torch.func.functional_call(module, parameters, (inputs,))
            return (found[0] if isinstance(found, tuple) else found).square().sum()

        return list(torch.func.grad(loss)(dict(module.named_parameters())).values())

    guard = Guard()
    found = gradients()
    guard.down()
    assert all(torch.equal(one, other) for one, other in zip(found, gradients(), strict=True))


def test_what_the_user_differentiates_twice_is_the_same_to_the_bit():
    def gradients():
        torch.manual_seed(0)
        block, inputs = (
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
            torch.randn(4, 6, 8),
        )
        weights = list(block.parameters())
        with sdpa_kernel(SDPBackend.MATH):
            inner = torch.autograd.grad(block(inputs).square().mean(), weights, create_graph=True)
            moved = {
                name: own - 0.01 * by for (name, own), by in zip(block.named_parameters(), inner, strict=True)
            }
            torch.func.functional_call(block, moved, (inputs,)).square().mean().backward()
        return [weight.grad for weight in weights]

    guard = Guard()
    found = gradients()
    guard.down()
    assert all(torch.equal(one, other) for one, other in zip(found, gradients(), strict=True))
