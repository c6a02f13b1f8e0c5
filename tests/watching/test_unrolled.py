"""The gradient after weights that are applied over and over, against that of the values themselves."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from unstuck.watching.graphs.unrolled import unrolled
from unstuck.watching.kernels.sequences import sequences_followed


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.kept = nn.Linear(4, 4), []

    def forward(self, sequence):
        hidden, self.kept = torch.zeros(len(sequence), 4), []
        for inputs in sequence.unbind(1):
            self.kept.append(self.inner(hidden))
            hidden = (self.kept[-1] + inputs).tanh()
        return hidden


def found(model, loss):
    return unrolled(loss, {id(parameter): name for name, parameter in model.named_parameters()})


def test_the_largest_gradient_of_each_quarter_is_that_of_the_values_themselves():
    torch.manual_seed(0)
    model = Cell()
    loss = model(torch.randn(8, 20, 4)).square().mean()
    sizes = [float(one.norm()) for one in torch.autograd.grad(loss, model.kept, retain_graph=True)]
    ((name, times, largest),) = found(model, loss)
    assert (name, times) == ("inner", 20)
    assert largest == pytest.approx([max(sizes[start : start + 5]) for start in range(0, 20, 5)])
    loss.backward()  # the graph is left as it was
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_module_of_torch_is_seen_too_and_what_is_applied_side_by_side_is_not():
    recurrent, shared = nn.RNN(4, 4, batch_first=True), nn.Linear(4, 1)
    inputs = torch.randn(8, 30, 4)
    assert [times for _, times, _ in found(recurrent, recurrent(inputs)[0][:, -1].sum())] == [30]
    assert found(shared, sum(shared(part).sum() for part in inputs.unbind(1))) == ()


def test_what_a_kernel_goes_through_by_itself_is_known_by_the_gradient_at_what_it_takes():
    torch.manual_seed(0)
    recurrent, inputs = nn.LSTM(4, 4), torch.randn(30, 8, 4)
    plain = recurrent(inputs)[0]
    with sequences_followed():
        followed = recurrent(inputs)[0]
    assert torch.equal(plain, followed)
    assert not inputs.requires_grad
    ((name, times, largest),) = found(nn.ModuleList([recurrent]), followed[-1].sum())
    taken = inputs.clone().requires_grad_()
    sizes = torch.autograd.grad(recurrent(taken)[0][-1].sum(), taken)[0].flatten(1).norm(dim=1).tolist()
    cuts = [0, 8, 15, 22, 30]
    assert (name, times) == ("0", 30)
    assert largest == pytest.approx([max(sizes[low:high]) for low, high in pairwise(cuts)])
