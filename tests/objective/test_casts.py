from dataclasses import replace

import pytest
import torch
from torch import nn

from unstuck import Training, supervised
from unstuck.objective import Objective, draw
from unstuck.objective.casts import casts_kept


def small():
    torch.manual_seed(0)
    data = [(torch.randn(8, 6), torch.arange(8) % 2) for _ in range(3)]
    return Training(
        nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)), supervised(nn.CrossEntropyLoss()), data
    )


def value(training):
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    return objective.value(objective.theta)


def test_casting_around_a_call_is_part_of_the_loss_and_of_nothing_else():
    training = small()

    def casting(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return training.loss(model, batch)

    with torch.autocast("cpu", torch.bfloat16), casts_kept(training) as inside:
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32
        around = value(inside)
    assert around == value(replace(training, loss=casting)) != value(training)


def test_casting_is_on_again_afterwards_also_after_an_exception():
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(KeyError), casts_kept(small()):
            raise KeyError
        assert torch.is_autocast_enabled("cpu")
