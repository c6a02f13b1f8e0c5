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


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, targets: ((outputs - targets) ** 2).mean(),
        lambda outputs, targets: (targets - outputs).square().sum() / 7.0,
        functional.l1_loss,
    ],
)
def test_so_are_they_where_the_loss_is_made_of_differences(loss):
    assert "between 20 and 300" in beyond(loss(outputs(nn.Sigmoid()).squeeze(1), FAR))
    assert "between 20 and 300" in beyond(loss(outputs(nn.Sigmoid()).view(4, 4), FAR.view(4, 4)))
    assert not beyond(loss(outputs(nn.Tanh()).squeeze(1), torch.linspace(-1.0, 1.0, 16)))
    assert not beyond(loss(outputs().squeeze(1), FAR))


def test_differences_are_not_taken_for_those_of_other_outputs():
    wide = outputs(nn.Tanh()).view(4, 4)
    assert not beyond((wide.t() - FAR.view(4, 4)).square().mean())  # in another order
    assert not beyond((wide[:, :2] - FAR.view(8, 2)[:4]).square().mean())
    assert not beyond((outputs(nn.Tanh()) - FAR).square().mean())  # a table of both
    assert not beyond((outputs(nn.Tanh()) - outputs()).square().mean())


def test_what_is_mapped_over_examples_is_read_as_well():
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    weights = dict(model.named_parameters())

    def one(weights, example, target):
        return ((torch.func.functional_call(model, weights, (example,)) - target) ** 2).mean()

    loss = torch.func.vmap(one, in_dims=(None, 0, 0))(weights, INPUTS, FAR).mean()
    assert "between 20 and 300" in beyond(loss)


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
