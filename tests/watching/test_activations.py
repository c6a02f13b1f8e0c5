"""What tanh and sigmoid layers give is read off the graph of a loss, by the names of the layers before them."""

import pytest
import torch
from torch import nn

from unstuck.watching.graphs.activations import flat_layers, flat_outputs


def found(model, inputs):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return dict(flat_layers(model(inputs).square().mean(), names))


def test_the_flat_share_of_each_layer_before_weights_is_what_its_values_say():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4), nn.Sigmoid(), nn.Linear(4, 2), nn.Tanh()
    )
    inputs = 5.0 * torch.randn(64, 8)
    hidden = model[:2](inputs)
    share = float((1.0 - hidden.square() < 0.01).float().mean())
    outputs = model[:4](inputs)
    second = float((4.0 * outputs * (1.0 - outputs) < 0.01).float().mean())
    assert share > 0.0
    assert found(model, inputs) == {"0": pytest.approx(share), "2": pytest.approx(second)}  # not the output's


def test_convolutions_are_named_and_gates_are_not():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate, self.last = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(4, 2)

        def forward(self, inputs):
            return self.last(self.first(inputs) * self.gate(inputs).sigmoid())

    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 2))
    assert found(convolution, torch.randn(4, 1, 8, 8)).keys() == {"0"}
    assert found(Gated(), torch.randn(4, 8)) == {}


def test_what_the_loss_takes_as_it_is_is_told_apart_from_gates():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2), nn.Sigmoid())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    given, weights = 50.0 * torch.randn(64, 8), torch.rand(64, 2)
    outputs = model(given)
    share = float((4.0 * outputs * (1.0 - outputs) < 0.01).float().mean())
    loss = nn.functional.binary_cross_entropy(outputs, weights.round(), weight=weights)
    assert dict(flat_outputs(loss, names)) == {"2": pytest.approx(share)}
    gated = (model(given) * model[:1](given)[:, :2]).square().mean()
    assert flat_outputs(gated, names) == ()
    assert flat_outputs(model[:3](given).square().mean(), names) == ()
