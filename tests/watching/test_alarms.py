"""What is said of a loss that stands still comes from what was seen while it did."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck import watch
from unstuck.estimate import Estimate
from unstuck.findings.records import Cause, Finding
from unstuck.measurements.records.live import Along, Look
from unstuck.watching import alarms, recorder
from unstuck.watching.losses.stalls import Stall

NIL, DOWN = Estimate(0.0, 1e-9, 10.0), Estimate(-1.0, 1e-3, 10.0)
WAY_DOWN = Look(
    step=20,
    loss=1.0,
    gradient_norm=1.0,
    lambda_min=NIL,
    lambda_max=Estimate(1.0, 1e-3, 10.0),
    top_share=0.5,
    size=3,
    update=Along(NIL, Estimate(1.0, 1e-3, 10.0)),
    descent=1e-3,
    krylov=Along(DOWN, Estimate(1.0, 1e-3, 10.0)),
    lowest=None,
    step_length=0.01,
    weight_norm=1.0,
    asymmetry=0.0,
    judges=4,
    gradients=52.0,
    seconds=0.1,
)


def go_on(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        functional.mse_loss(model(torch.randn(16, 3)), torch.randn(16, 1)).backward()
        optimizer.step()


@pytest.mark.parametrize(("step", "found"), [(20, []), (40, [Cause.ILL_CONDITIONED])])
def test_a_look_at_a_loss_that_still_moved_does_not_say_why_it_stands_still(step, found, tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, out=tmp_path, share=1e-9) as watched:
        go_on(model, optimizer, 50)
        watched._store.flush()
        own, (follower,) = watched._alarms, watched.recorder.followers
        own.standing[follower.number] = Stall(50, 30, 1.0, NIL, 0.0, rising=False)
        own.telling.told[follower.number] = set()
        own.look, own._whose, follower.wanted = replace(WAY_DOWN, step=step), follower, True
    assert [finding.cause for finding in watched.findings] == found


def test_where_weight_decay_holds_a_gradient_in_balance_the_steps_are_not_called_too_small(tmp_path):
    torch.manual_seed(0)
    inputs, weights = torch.randn(64, 4), nn.Linear(4, 1)
    targets = inputs.sum(dim=1, keepdim=True) + 2.0
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.2, weight_decay=0.3)
    with watch(weights, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(600):
            optimizer.zero_grad()
            functional.mse_loss(weights(inputs), targets).backward()
            optimizer.step()
    assert watched.stalled
    last = watched.recorder.followers[0].samples[-1][2]
    assert last.unchanged == 1.0
    assert last.gradient_norm > 0.1
    assert list(watched.findings) == []


@pytest.mark.parametrize("zero", [False, True])
def test_first_steps_as_long_as_the_weights_have_remade_them_unless_these_were_zero(
    zero, tmp_path, monkeypatch
):
    monkeypatch.setattr(recorder, "_SHARE", 1e-9)
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    if zero:
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(8):
            optimizer.zero_grad()
            functional.mse_loss(model(inputs), inputs[:, :1]).backward()
            optimizer.step()
        watched._store.flush()
        known = watched._alarms._known(watched.recorder.followers[0], 1, 1.0)
    assert known.first_share > 0.5
    assert known.remade is not zero


@pytest.mark.parametrize("another", [False, True])
def test_of_what_has_become_another_loss_it_is_not_said_that_steps_are_undone(another, tmp_path, monkeypatch):
    found = Finding(Cause.GRADIENT_NOISE, 0.6, (), "They go to and fro.", "Lower it.")
    monkeypatch.setattr(alarms, "undone", lambda _: found)
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        go_on(model, optimizer, 200)
        watched._store.flush()
        (follower,) = watched.recorder.followers
        if another:
            watched._alarms.telling.note(follower, 200, "it rises", {"elsewhere": 100})
    assert watched.findings == (() if another else (found,))


def test_whether_anything_has_been_learnt_is_asked_of_where_the_loss_is_and_not_of_its_mean(
    tmp_path, monkeypatch
):
    levels = []
    monkeypatch.setattr(alarms, "thrown", lambda known: levels.append(known.level))
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        for step in range(1, 301):
            optimizer.zero_grad()
            height = 1e4 if 1 < step < 10 else step**-0.5  # a spike, and a fall from 1 to 0.06
            (height + model(torch.randn(16, 3)).square().mean() * 1e-6).backward()
            optimizer.step()
    assert levels
    assert max(levels) < 0.1


@pytest.mark.parametrize("mistaken", [True, False])
def test_two_optimizers_of_the_same_network_that_leave_the_other_player_out_are_told(mistaken, tmp_path):
    torch.manual_seed(0)
    maker, judge = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), nn.Linear(2, 1)
    judging = torch.optim.Adam(judge.parameters(), 1e-3)
    making = torch.optim.Adam((judge if mistaken else maker).parameters(), 1e-3)
    with watch(judge, [judging, making], out=tmp_path) as watched:
        for _ in range(150):
            made = maker(torch.randn(8, 3))
            for optimizer, seen, aim in ((judging, made.detach(), 0.0), (making, made, 1.0)):
                optimizer.zero_grad()
                (judge(seen) - aim).square().mean().backward()
                optimizer.step()
    said = [message for _, _, message in watched.messages()]
    assert any("very same parameters" in one and "`0.weight`" in one for one in said) is mistaken


def test_two_optimizers_that_take_turns_on_all_there_is_are_no_mistake(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizers = [torch.optim.Adam(model.parameters(), 1e-3), torch.optim.SGD(model.parameters(), 1e-3)]
    with watch(model, optimizers, out=tmp_path) as watched:
        for step in range(300):
            go_on(model, optimizers[step % 2], 1)
    assert not any("very same parameters" in message for _, _, message in watched.messages())
