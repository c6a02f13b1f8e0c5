"""A training begun anew has fresh weights and an optimizer of the same kind for them."""

from functools import partial

import pytest
import torch
from torch import nn

from objective.fingerprint import unchanged
from unstuck import Training, optim, supervised
from unstuck.remedies.anew import begun_anew
from unstuck.remedies.run import settings

MAKES = (
    torch.optim.SGD,
    partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adamax,
    partial(optim.Optimizer, rule=optim.adamw()),
)


@pytest.mark.parametrize("make", MAKES)
def test_of_any_optimizer_there_is_another_with_its_settings_and_no_memory_for_fresh_weights(make):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = make(
        [{"params": model[0].parameters(), "lr": 0.03}, {"params": model[2].parameters()}], lr=0.2
    )
    data = [(torch.randn(8, 5), torch.randn(8, 1))] * 2
    training = Training(model, supervised(nn.MSELoss()), data, optimizer)
    training.loss(model, data[0]).backward()
    optimizer.step()
    with unchanged(training):
        fresh = begun_anew(training, seed=1)
        assert type(fresh.optimizer) is type(optimizer)
        # Adagrad begins its sums before the first step.
        assert not any(
            bool(torch.as_tensor(kept).any())
            for state in fresh.optimizer.state.values()
            for kept in state.values()
        )
        kept, old = (
            [{**group, "params": None} for group in settings(each)] for each in (fresh.optimizer, optimizer)
        )
        assert kept == old
        before = [parameter.clone() for parameter in fresh.model.parameters()]
        fresh.loss(fresh.model, data[0]).backward()
        fresh.optimizer.step()
        moved = zip(before, fresh.model.parameters(), strict=True)
        assert not any(torch.equal(one, other) for one, other in moved)
    assert not torch.equal(fresh.model[0].weight, model[0].weight)
