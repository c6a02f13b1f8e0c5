"""The run's own schedule is gone on with on copies, as the run would go on with it."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from quadratics import judge_of
from torch import nn
from torch.optim import lr_scheduler

from unstuck.measurements.optimizer.continuing import Pace, measure_continuations
from unstuck.measurements.optimizer.schedule import Schedule
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.records import Sample
from unstuck.objective import Objective, draw
from unstuck.training import Training, supervised

ALL = Sample(examples=32, batches=4, exhaustive=True, stochastic=False, whole=True)
LEISURE = Pace(24.0, lambda: False)

SCHEDULES = {
    "warm-up": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50)),
    "exponential": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40),
    "in turn": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.01, 1.0, 6), lr_scheduler.CosineAnnealingLR(optimizer, 30)],
        [6],
    ),
}


def scheduled(schedule, make=lambda parameters: torch.optim.Adam(parameters, lr=1e-3)):
    """A small regression that has made four steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    inputs = torch.randn(32, 5, dtype=torch.float64)
    data = list(zip(inputs.split(8), inputs.sin().sum(1, keepdim=True).split(8), strict=True))
    optimizer = make(model.parameters())
    made = Training(model, supervised(nn.functional.mse_loss), data, optimizer, schedule(optimizer))
    gone_on(made, 4, 1.0)
    return made


def gone_on(made, steps, factor, *, least=0.0):
    """The plain loop, with the scheduler's rates times a factor; gives the losses on all the data on the way."""
    losses = []
    for number in range(steps):
        batch = made.data[number % len(made.data)]
        made.optimizer.zero_grad()
        made.loss(made.model, batch).backward()
        rates = [group["lr"] for group in made.optimizer.param_groups]
        for group in made.optimizer.param_groups:
            group["lr"] = factor * max(group["lr"], least)
        made.optimizer.step()
        for group, rate in zip(made.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        if number < 36 or not isinstance(made.scheduler, lr_scheduler.OneCycleLR):  # which has an end
            made.scheduler.step()
        with torch.no_grad():
            losses.append(float(sum(made.loss(made.model, each) for each in made.data)) / len(made.data))
    return losses


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_going_on_makes_the_steps_that_the_schedule_leads_to_and_none_that_are_shorter(schedule):
    made = scheduled(SCHEDULES[schedule])
    drawn = draw(made.data, seed=0, enough=lambda *_: False).batches
    rate = made.optimizer.param_groups[0]["lr"]
    found = measure_continuations(
        made.optimizer, judge_of(Objective(made, drawn), exhaustive=True), ALL, LEISURE
    )
    for arm in (found.going_on, *(arm for arm in found.arms if arm.name == "rate")):
        other = copy.deepcopy(made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the copied scheduler does not know of the steps made
            losses = gone_on(other, arm.steps, arm.factor, least=rate)
        assert arm.losses[1:] == pytest.approx([losses[mark - 1] for mark in arm.marks[1:]], rel=1e-9)
    assert (found.going_on.led > 1.0) is (schedule != "exponential")


def test_what_counts_no_updates_keeps_its_rate_but_under_schedules_that_are_made_for_each_update():
    def momentum(parameters):
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)

    for name, every in (("warm-up", None), ("one cycle", 1)):
        made = scheduled(SCHEDULES[name], momentum)
        assert Schedule(made, Twin(objective_of(made), made.optimizer)).every == every


@pytest.mark.parametrize("every", [1, 4])
def test_how_often_the_scheduler_steps_may_be_said(every):
    made = replace(
        scheduled(SCHEDULES["warm-up"], lambda parameters: torch.optim.SGD(parameters, lr=1e-3)),
        schedule_every=every,
    )
    twin = Twin(objective_of(made), made.optimizer)
    schedule = Schedule(made, twin)
    for _ in range(8):
        schedule.step()
    assert twin.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * (5 + 8 // every) / 50)


def test_past_its_end_a_schedule_leaves_the_rates_as_they_are():
    made = scheduled(SCHEDULES["one cycle"])
    twin = Twin(objective_of(made), made.optimizer)
    schedule = Schedule(made, twin)
    for _ in range(36):
        schedule.step()
    last = twin.optimizer.param_groups[0]["lr"]
    for _ in range(10):
        schedule.step()
    assert twin.optimizer.param_groups[0]["lr"] == last
    assert made.scheduler.last_epoch == 4


@pytest.mark.parametrize("schedule", ["one cycle", "to and fro"])
def test_a_rate_that_is_changed_stays_so_under_schedules_that_have_a_highest_one(schedule):
    schedules = SCHEDULES | {"to and fro": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 1e-3, 1e-1, 10)}

    def momentum(parameters):
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)

    made = scheduled(schedules[schedule], momentum)
    twins = [Twin(objective_of(made), made.optimizer) for _ in range(2)]
    plain, changed = (Schedule(made, twin) for twin in twins)
    changed.change_rate(lambda rate: 0.1 * rate)
    for _ in range(30):
        plain.step()
        changed.step()
        rates = [twin.optimizer.param_groups[0]["lr"] for twin in twins]
        assert rates[1] == pytest.approx(0.1 * rates[0])


def objective_of(made):
    return Objective(made, draw(made.data, seed=0, enough=lambda *_: False).batches)
