import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from unstuck import Training, supervised
from unstuck.errors import TrainingError
from unstuck.target import advance


def training(optimizer=torch.optim.SGD, scheduler=None, **settings):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(4, 3, generator=generator), torch.randn(4, 1, generator=generator)) for _ in range(3)
    ]
    optimizer = optimizer(model.parameters(), **settings)
    return Training(
        model, supervised(nn.MSELoss()), data, optimizer, None if scheduler is None else scheduler(optimizer)
    )


def complaint(run, steps=1):
    with pytest.raises(TrainingError) as caught:
        advance(run, steps)
    return str(caught.value)


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_steps_are_those_of_the_loop_that_everyone_writes(optimizer, clip):
    run, by_hand = training(optimizer, lr=0.1), training(optimizer, lr=0.1)
    advance(replace(run, clip=clip), 7)
    for step in range(7):
        batch = by_hand.data[step % 3]
        by_hand.optimizer.zero_grad()
        by_hand.loss(by_hand.model, batch).backward()
        if clip:
            nn.utils.clip_grad_norm_(by_hand.model.parameters(), clip)
        by_hand.optimizer.step()
    assert torch.equal(run.model.weight, by_hand.model.weight)


def test_no_steps_change_nothing():
    run = training(lr=0.1)
    before = copy.deepcopy(run.model.state_dict())
    advance(run, 0)
    assert torch.equal(run.model.weight, before["weight"])


def test_l_bfgs_is_given_the_loss_to_evaluate():
    run = training(torch.optim.LBFGS, line_search_fn="strong_wolfe")
    before = run.loss(run.model, run.data[0]).item()
    advance(run, 1)
    assert run.loss(run.model, run.data[0]).item() < 1e-2 * before


def test_the_scheduler_steps_after_every_update():
    run = training(lr=1.0, scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5))
    advance(run, 5)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.5**5)


def test_or_as_often_as_is_said():
    run = training(lr=1.0, scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5))
    advance(replace(run, schedule_every=2), 5)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


def test_a_plateau_scheduler_steps_after_every_epoch():
    run = training(
        lr=1e-6, scheduler=lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.1)
    )
    advance(run, 7)  # two epochs and a step: the second one is no better than the first
    assert run.scheduler.last_epoch == 2
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-7)


def test_progress_is_told_from_nothing_to_nearly_all():
    told = []
    advance(training(lr=0.1), 4, lambda stage, share: told.append((stage, share)))
    assert told == [("training 4 steps", share) for share in (0.0, 0.25, 0.5, 0.75)]


def test_without_an_optimizer_there_is_no_training_on():
    run = Training(nn.Linear(3, 1), supervised(nn.MSELoss()), [0])
    assert complaint(run) == (
        "training on needs `optimizer`: pass the one of the run to Training, or leave out the steps"
    )


def test_data_that_give_no_batch_are_named():
    class Nothing:
        def __iter__(self):
            return iter(())

    run = training(lr=0.1)
    run = Training(run.model, run.loss, Nothing(), run.optimizer)
    assert complaint(run) == "`data` gave no batch: pass a DataLoader or a list with at least one batch"


def test_a_step_that_fails_is_named_with_its_batch():
    run = training(lr=0.1)
    run.data[1] = (torch.ones(4, 5), torch.ones(4, 1))
    said = complaint(run, 2)
    assert re.match(
        r"training step 2 failed on a batch \(float32\[4, 5\], float32\[4, 1\]\): RuntimeError: mat1", said
    )
