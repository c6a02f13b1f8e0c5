"""What a look at one of several processes asks first: whether anything that it differentiates talks to the others."""

import pytest
import torch
from torch import nn

from unstuck.watching import looks, others
from unstuck.watching.kernels.attention import twice_differentiable_attention
from unstuck.watching.looks import Looker


class Gathering(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, inputs):
        return inputs.clone()

    @staticmethod
    def backward(_ctx, *gradients):
        return gradients[0]


@pytest.fixture(autouse=True)
def in_company(monkeypatch):
    for module in (others, looks):
        monkeypatch.setattr(module, "several", lambda: True)


def test_operations_of_pytorch_s_own_are_not_foreign():
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with twice_differentiable_attention():
        attended = block(torch.randn(3, 5, 8))
    images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2))(torch.randn(2, 1, 8, 8))
    sequence, _ = nn.GRU(8, 4, batch_first=True)(attended)
    filled = torch.zeros(4)
    filled[:2] = images.sum()
    assert not others.foreign(sequence.square().mean() + filled.sum())


def test_an_operation_of_somebody_s_own_is_named_however_deep():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    assert not others.foreign(model(torch.randn(2, 4)).sum())
    hidden = Gathering.apply(model[0](torch.randn(2, 4)))
    assert others.foreign(model[2](hidden).sum()) == "GatheringBackward"


def test_a_graph_of_one_process_may_hold_anything(monkeypatch):
    monkeypatch.setattr(others, "several", lambda: False)
    assert not others.foreign(Gathering.apply(torch.ones(2, requires_grad=True)).sum())


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_gradient_of_a_step_is_that_which_the_processes_have_summed_up(decay):
    torch.manual_seed(0)
    model = nn.Linear(3, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
    looker = Looker(optimizer, 1, 6)
    for _ in range(8):
        loss = model(torch.randn(4, 3, dtype=torch.float64)).square().mean()
        if not looker.found:
            looker.find(loss, 1.0, lambda: True)
        elif looker.wanting:
            looker.judge(loss, 1.0)
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            parameter.grad.add_(1.0)  # what another process has to say
        looker.before()
        optimizer.step()
        looker.after()
    found = looker.look()
    assert found.descent == pytest.approx(found.gradient_norm * found.step_length)
