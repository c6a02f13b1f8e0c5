"""Remedies proved on real trainings: what helps is found, what does not is not claimed, and nothing is changed."""

import itertools

import pytest
import torch
from sklearn.datasets import load_wine
from torch import nn

import unstuck
from objective.fingerprint import unchanged
from unstuck import Cause, Training, supervised
from unstuck.demos import DEMOS
from unstuck.findings.progress import ABOUT_EQUAL
from unstuck.findings.proven import LEAST_GAIN
from unstuck.trials.planning import provable
from unstuck.trials.proof import Allowance, try_remedies

# Time enough, so that the number of orders does not hang on how busy the machine is.
BUDGET = 600.0


@pytest.fixture(scope="module")
def noise():
    return unstuck.diagnose(DEMOS["noise"].setup(), budget=BUDGET)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lecture", "saddle", "valley", "bounce"])
def test_the_best_remedy_of_a_demo_treats_what_is_wrong_and_is_proved_to_help(name):
    diagnosis = unstuck.diagnose(DEMOS[name].setup(), budget=BUDGET)
    best = diagnosis.remedies[0]
    assert best.helps
    assert best.low > LEAST_GAIN
    assert DEMOS[name].cause in best.treats
    assert diagnosis.cause is DEMOS[name].cause


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minimum", "degenerate", "healthy"])
def test_nothing_is_claimed_to_help_where_nothing_is_wrong(name):
    diagnosis = unstuck.diagnose(DEMOS[name].setup(), budget=BUDGET)
    assert not any(remedy.helps for remedy in diagnosis.remedies)


def test_all_continuations_begin_at_the_same_loss_and_cost_no_more_than_the_horizon(noise):
    trials = noise.verdict.trials
    curves = [*trials.going_on, *(curve for trial in trials.tried for curve in trial.curves)]
    assert len({curve.losses[0] for curve in curves if curve.spent[0] == 0.0}) == 1
    assert max(curve.spent[-1] for curve in curves) <= trials.horizon * (1.0 + 1e-9)


def test_what_is_proved_has_a_curve_for_each_order_and_an_interval_around_its_gain(noise):
    trials = noise.verdict.trials
    proved = [trial for trial in trials.tried if trial.gain is not None]
    assert 1 <= len(proved) <= 3
    for trial in proved:
        assert len(trial.curves) == trials.orders + 1 == len(trials.going_on)
        assert trial.low <= trial.gain.value <= trial.high
    for trial in trials.tried:
        assert (trial.gain is None) == bool(trial.given_up)


def test_the_gain_is_that_of_the_mean_final_losses_over_the_orders_of_the_proof(noise):
    trials = noise.verdict.trials
    for trial in (each for each in trials.tried if each.gain is not None):
        on = sum(curve.end for curve in trials.going_on[1:])
        off = sum(curve.end for curve in trial.curves[1:])
        assert trial.gain.value == pytest.approx((on - off) / on, rel=1e-6)


def test_the_first_remedy_is_the_best_or_about_as_good_and_treats_the_cause(noise):
    gains = [remedy.gain for remedy in noise.remedies if remedy.helps]
    assert gains[0] >= ABOUT_EQUAL * max(gains)
    assert Cause.GRADIENT_NOISE in noise.remedies[0].treats


def test_the_same_seed_gives_the_same_trials(noise):
    again = unstuck.diagnose(DEMOS["noise"].setup(), budget=BUDGET)
    assert [trial.curves for trial in again.verdict.trials.tried] == [
        trial.curves for trial in noise.verdict.trials.tried
    ]


def test_without_trials_there_are_none():
    diagnosis = unstuck.diagnose(DEMOS["lecture"].setup(), trials=False)
    assert diagnosis.verdict.trials is None
    assert diagnosis.remedies == ()


def stuck(loss=None, data=None):
    """Steps that are much too small, so that a larger one helps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(1))
    y = x[:, :1] * x[:, 1:2]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    batches = list(zip(x.split(24), y.split(24), strict=True))
    return Training(model, loss or supervised(nn.functional.mse_loss), data or batches, optimizer)


@pytest.fixture(scope="module")
def creeping():
    training = stuck()
    with unchanged(training):
        return unstuck.diagnose(training, budget=60.0)


def test_the_training_is_bit_identical_after_trials(creeping):
    assert creeping.verdict.trials is not None


class Failing:
    """A loss that raises from its n-th call of the trials on, or once."""

    def __init__(self, error, moment, *, once):
        self.calls = None
        self.error, self.moment, self.once = error, moment, once

    def told(self, stage, share):
        if stage == "going on, for comparison":
            self.calls = itertools.count(1)

    def __call__(self, model, batch):
        number = next(self.calls) if self.calls else 0
        if number == self.moment or (number > self.moment and not self.once):
            raise self.error
        return nn.functional.mse_loss(model(batch[0]), batch[1])


@pytest.mark.parametrize("moment", [10, 400])
def test_a_trial_that_raises_or_is_interrupted_changes_nothing_and_the_diagnosis_stands(moment):
    loss = Failing(ValueError("out of luck"), moment, once=False)
    broken = stuck(loss)
    with unchanged(broken):
        diagnosis = unstuck.diagnose(broken, budget=60.0, progress=loss.told)
    assert loss.calls is not None
    assert diagnosis.cause is not None
    loss = Failing(KeyboardInterrupt(), moment, once=True)
    interrupted = stuck(loss)
    with unchanged(interrupted):
        assert unstuck.diagnose(interrupted, budget=60.0, progress=loss.told).interrupted


def test_a_run_that_is_lost_to_a_missing_value_is_begun_anew_without_it():
    training = stuck()
    training.data[1][0][3, 2] = float("nan")
    for batch in training.data:
        training.optimizer.zero_grad()
        training.loss(training.model, batch).backward()
        training.optimizer.step()
    with unchanged(training):
        diagnosis = unstuck.diagnose(training, budget=30.0)
    assert diagnosis.cause is Cause.NON_FINITE
    assert [remedy.name for remedy in diagnosis.remedies if remedy.helps] == ["skip"]
    assert "begun anew" in diagnosis.remedies[0].change
    assert "build_model()" in diagnosis.remedies[0].code[0]


def test_a_remedy_that_is_thrown_out_is_no_error_and_is_never_proved(creeping):
    thrown = [
        trial
        for trial in creeping.verdict.trials.tried
        if any(curve.end == float("inf") for curve in trial.curves)
    ]
    assert thrown
    assert all(trial.low is None or not trial.low > 0.0 for trial in thrown)


def rounded():
    """Weights in bfloat16, whose steps have become smaller than their rounding."""
    inputs, labels = (torch.tensor(each) for each in load_wine(return_X_y=True))
    inputs = ((inputs - inputs.mean(0)) / inputs.std(0)).bfloat16()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 24), nn.Tanh(), nn.Linear(24, 3)).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-3)
    data = [(inputs[rows], labels[rows]) for rows in torch.randperm(178).split(32)]
    training = Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer)
    for batch in 200 * data:
        optimizer.zero_grad()
        training.loss(model, batch).backward()
        optimizer.step()
    return training


@pytest.mark.slow
def test_what_treats_the_cause_is_tried_with_the_step_it_then_wants():
    """Rounded steps that are longer survive, but wide weights with longer steps get further still."""
    diagnosis = unstuck.diagnose(rounded(), budget=BUDGET)
    assert diagnosis.cause is Cause.PRECISION_STALL
    best = diagnosis.remedies[0]
    assert best.name == "master-weights"
    assert ", and " in best.change  # other steps, too
    assert best.low > 0.0


def test_where_all_is_slower_than_planned_one_remedy_is_proved_rather_than_none(noise, monkeypatch):
    training, verdict = DEMOS["noise"].setup(), noise.verdict
    left = {"seconds": 1.0}

    def told(stage, _share):
        # The screening eats up what was left, as on a machine that others begin to use.
        left["seconds"] = 1e-6 if stage.startswith("trying") else 1e6

    monkeypatch.setattr("unstuck.trials.proof.plan", lambda *_: (12.0, 6, 6))
    trials = try_remedies(training, verdict, Allowance(lambda: left["seconds"], 1e9, 0), told)
    (proved,) = (trial for trial in trials.tried if trial.gain is not None)
    assert verdict.cause in proved.causes
    assert trials.orders == 6
    assert [trial.given_up for trial in trials.tried].count("there was no time for the proof") == 2


@pytest.mark.parametrize(("left", "most"), [(1e9, 3), (12.0, 3), (9.5, 2), (6.5, 1), (1.0, 1), (-5.0, 1)])
def test_each_remedy_is_proved_beside_going_on_over_three_orders_at_least(left, most):
    assert provable(left, 1.0) == most
