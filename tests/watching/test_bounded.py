"""Targets that outputs cannot reach are seen in the graph of the loss."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck.watching.graphs.bounded import beyond

INPUTS = torch.linspace(-1.0, 1.0, 64).view(16, 4)
FAR = torch.linspace(20.0, 300.0, 16)


def outputs(*last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), *last)(INPUTS)


@pytest.mark.parametrize("loss", [functional.mse_loss, functional.smooth_l1_loss, functional.huber_loss])
@pytest.mark.parametrize("last", [nn.Tanh(), nn.Sigmoid()])
def test_targets_far_beyond_the_last_activation_are_seen(loss, last):
    assert "between 20 and 300" in beyond(0.5 * loss(outputs(last).squeeze(1), FAR) + 0.1)


def test_targets_that_can_be_reached_are_not():
    assert not beyond(functional.mse_loss(outputs().squeeze(1), FAR))
    assert not beyond(functional.mse_loss(outputs(nn.Tanh()).squeeze(1), torch.linspace(-1.0, 1.0, 16)))
    assert not beyond(functional.mse_loss(100.0 * outputs(nn.Tanh()).squeeze(1), FAR))


def test_few_targets_beyond_the_bounds_leave_most_of_the_loss_to_be_learnt():
    targets = torch.linspace(-1.05, 1.05, 16)
    assert not beyond(functional.mse_loss(outputs(nn.Tanh()).squeeze(1), targets))


def test_two_sides_that_are_both_learnt_have_no_targets():
    one, other = outputs(nn.Tanh()), outputs()
    assert not beyond(functional.mse_loss(one, other))
    assert not beyond(functional.mse_loss(other, one))
