"""What a treated training is to go on with: what its state holds, what it does not, where the schedule leads."""

import copy
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau, StepLR

import unstuck
from remedies.test_treatments import network, run_of, training
from unstuck.errors import UnstuckError
from unstuck.measurements.optimizer.schedule import rate_of
from unstuck.remedies import regularising, rules
from unstuck.remedies.afterwards import left, schedule_note
from unstuck.remedies.catalogue import proposed
from unstuck.remedies.commit import commit
from unstuck.remedies.points import leave_saddle
from unstuck.remedies.run import forgetting, forgotten
from unstuck.remedies.treatment import Left, Situation, together

# What of a run no state_dict holds.
OUTSIDE = ("prepare", "regroup", "factor", "shrink", "skip", "average_from", "thawed", "dtype", "exchanged")


def scheduled(make, kind=torch.optim.SGD, rate=0.1):
    made = training(make=lambda params: kind(params, lr=rate))
    return made, make(made.optimizer)


def run_with(made, scheduler):
    object.__setattr__(made, "scheduler", scheduler)
    return run_of(made)


@pytest.fixture(scope="module")
def measured():
    made = training()
    found = unstuck.diagnose(made, trials=False, budget=2.0)
    return Situation(made, found.verdict.measured, found.findings, seed=0, horizon=10 * 32.0)


def facing(measured, made):
    """What was measured of one run says enough of another: what is proposed is not judged here."""
    return replace(measured, training=made)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_what_is_said_to_be_held_by_the_state_leaves_nothing_else_changed(kind, measured):
    made = training(make=lambda params: getattr(torch.optim, kind)(params, lr=0.01))
    met = set()
    for treatment in proposed(facing(measured, made)):
        if not treatment.in_place or treatment.name == "warm-up":  # whose rise is over when the trial is
            continue
        run, plain = run_of(made), run_of(made)
        try:
            treatment.apply(run)
        except UnstuckError:
            continue
        same = all(getattr(run, name) == getattr(plain, name) for name in OUTSIDE)
        same = (
            same
            and run.twin.clip == plain.twin.clip
            and run.twin.copies[0].dtype == plain.twin.copies[0].dtype
        )
        assert same == (treatment.left is Left.NOTHING), treatment.name
        met.add(treatment.left)
    assert {Left.NOTHING, Left.ALWAYS} <= met


def test_of_two_changes_what_is_left_of_either_is_left(measured):
    every = proposed(measured)
    refreshed, adam, shuffled = (
        next(each for each in every if each.name == name)
        for name in ("break-symmetry", "per-parameter-scale", "shuffle")
    )
    assert together(refreshed, adam).left is Left.BEFORE
    assert together(shuffled, adam).left is Left.ALWAYS
    assert "not make it twice" in left(refreshed)
    assert "lost again" in left(shuffled)


KINDS = {
    "SGD": partial(torch.optim.SGD, lr=0.02, momentum=0.9),
    "Adam": partial(torch.optim.Adam, lr=0.02),
    "AdamW": torch.optim.AdamW,
    "Adagrad": partial(torch.optim.Adagrad, lr=0.02, initial_accumulator_value=0.1),
    "RMSprop": torch.optim.RMSprop,
    "NAdam": torch.optim.NAdam,
    "Rprop": torch.optim.Rprop,
    "Adadelta": torch.optim.Adadelta,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_that_let_an_optimizer_begin_anew_do_what_was_tried(kind):
    """With the rate of each group as it is by now, not the one that it was made with."""
    model = network()

    def step(optimizer):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    optimizer = KINDS[kind]([{"params": [p]} for p in model.parameters()])
    for _ in range(3):
        step(optimizer)
    optimizer.param_groups[1]["lr"] = 0.5
    before = copy.deepcopy(model.state_dict())
    step(forgotten(optimizer))
    expected = copy.deepcopy(model.state_dict())
    model.load_state_dict(before)
    exec("\n".join(forgetting(optimizer)), {"optimizer": optimizer})  # noqa: S102 - the lines are what is tested
    step(optimizer)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_a_decay_that_the_optimizer_can_make_itself_is_in_its_groups_and_in_what_is_saved(measured):
    made = training(make=lambda params: torch.optim.AdamW(params, lr=0.01))
    treatment = regularising.weight_decay(facing(measured, made))[0]
    run = run_of(made)
    treatment.apply(run)
    shrinks = float(re.search(r"by ([\d.]+) %", treatment.change)[1]) / 100
    committed = commit(made, run, run.theta(), None)
    assert committed.param_groups[0]["weight_decay"] == pytest.approx(0.01 + shrinks / 0.01, rel=0.05)
    fresh = training(make=lambda params: torch.optim.AdamW(params, lr=0.01)).optimizer
    exec("\n".join(treatment.code), {"optimizer": fresh})  # noqa: S102 - the lines are what is tested
    assert fresh.param_groups[0]["weight_decay"] == pytest.approx(0.01 + shrinks / 0.01, rel=0.05)


def test_a_decay_beside_another_optimizer_is_told_as_it_was_tried(measured):
    made = training()
    treatment = regularising.weight_decay(facing(measured, made))[0]
    run = run_of(made)
    treatment.apply(run)
    assert treatment.left is Left.ALWAYS
    weights = copy.deepcopy(made.model.state_dict())
    exec("\n".join(treatment.code), {"torch": torch, "model": made.model})  # noqa: S102 - the lines are what is tested
    assert float(made.model[0].weight.detach()[0, 0]) == pytest.approx(
        float(weights["0.weight"][0, 0]) * run.shrink, rel=1e-4
    )


def test_an_optimizer_that_was_replaced_by_one_of_its_kind_is_replaced_whatever_groups_it_has(measured):
    made = training(
        make=lambda ps: torch.optim.AdamW([{"params": [p], "lr": 0.1 / n} for n, p in enumerate(ps, 1)])
    )
    adam = leave_saddle(facing(measured, made))[1]
    run = run_of(made)
    run.optimizer = rules.fresh_adam(run.optimizer, 1e-3)
    assert adam.left is Left.BEFORE
    before = copy.deepcopy(made.optimizer.param_groups)
    optimizer = commit(made, run, run.theta(), None)
    assert optimizer is not made.optimizer
    assert rate_of(optimizer) == 1e-3
    assert [group["lr"] for group in made.optimizer.param_groups] == [group["lr"] for group in before]


class TestSchedule:
    def test_one_that_goes_on_within_what_was_tried_has_nothing_to_say(self):
        made, scheduler = scheduled(lambda optimizer: LambdaLR(optimizer, lambda _: 1.0))
        run = run_with(made, scheduler)
        assert schedule_note(scheduler, run, (0.1, 0.1)) is None
        assert schedule_note(None, run, (0.1, 0.1)) is None

    def test_a_warm_up_leads_a_rate_that_was_multiplied_far_beyond_it(self):
        made, scheduler = scheduled(
            lambda optimizer: LambdaLR(optimizer, lambda t: (t + 1) / 10_000), rate=0.1
        )
        run = run_with(made, scheduler)
        run.scale_rate(1_000.0)
        told = schedule_note(scheduler, run, (0.01, 0.01))
        assert (
            told == "LambdaLR goes on: rate 0.03 after 2 of its steps, 10 after 1,000; what was tried is 0.01"
        )

    def test_a_decay_takes_it_back(self):
        made, scheduler = scheduled(lambda optimizer: StepLR(optimizer, 1, 0.1), rate=5.0)
        told = schedule_note(scheduler, run_with(made, scheduler), (5.0, 5.0))
        assert told is not None
        assert told.startswith("StepLR goes on: rate 0.5 after 1 of its steps")

    def test_the_users_own_schedule_stays_where_it_is(self):
        made, scheduler = scheduled(lambda optimizer: CosineAnnealingLR(optimizer, 7))
        before = copy.deepcopy(scheduler.state_dict())
        run = run_with(made, scheduler)
        commit(made, run, run.theta(), None)
        assert schedule_note(scheduler, run, (0.1, 0.1))
        assert scheduler.state_dict() == before
        assert made.optimizer.param_groups[0]["lr"] == 0.1

    def test_one_that_waits_for_the_loss_and_one_whose_optimizer_is_gone_are_told(self):
        made, scheduler = scheduled(ReduceLROnPlateau)
        run = run_with(made, scheduler)
        assert "lowers the rate again" in schedule_note(scheduler, run, (0.1, 0.1))
        run.optimizer = rules.fresh_adam(run.optimizer, 1e-3)
        assert "ends with it" in schedule_note(scheduler, run, (1e-3, 1e-3))
