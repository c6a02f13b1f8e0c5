import time

import pytest
import torch
from torch import nn

from unstuck import Training, supervised
from unstuck.objective import Objective, draw
from unstuck.objective.pace import now, seconds_per_gradient


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator")
def test_what_an_accelerator_still_has_to_do_counts():
    device = torch.accelerator.current_accelerator()
    factor = torch.randn(2000, 2000, device=device)
    begun = now(device)
    product = factor
    for _ in range(50):
        product = (product @ factor).clamp(-1.0, 1.0)
    taken = now(device) - begun
    torch.accelerator.synchronize(device)
    assert now(device) - begun - taken < 0.1 * taken


def test_where_another_device_computes_an_accelerator_is_not_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    before = time.perf_counter()
    assert before <= now(torch.device("cpu")) <= time.perf_counter()
    assert waited == []
    now(torch.device("cuda", 1))
    assert waited == [torch.device("cuda", 1)]


def test_a_gradient_takes_about_as_long_as_the_loss_says():
    model = nn.Linear(3, 1)

    def loss(model, batch):
        time.sleep(0.02)
        return supervised(nn.MSELoss())(model, batch)

    training = Training(model, loss, [(torch.randn(4, 3), torch.randn(4, 1))])
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    assert 0.02 <= seconds_per_gradient(objective) < 0.2
