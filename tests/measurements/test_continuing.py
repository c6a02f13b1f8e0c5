"""The run continued on a copy, beside real runs and closed forms."""

import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import Vector, batch, bowl, judge_of, noisy_bowls, symmetric, vector

from objective.fingerprint import unchanged
from unstuck import Training
from unstuck.errors import TrainingError
from unstuck.measurements.optimizer.continuing import Beyond, Pace, measure_continuations
from unstuck.measurements.records import Sample
from unstuck.objective import Objective, draw

laws = settings(deadline=None, derandomize=True, max_examples=15)
ALL = Sample(12, 4, exhaustive=True, stochastic=False, whole=True)
PART = replace(ALL, exhaustive=False, whole=False)
LEISURE = Pace(24.0, lambda: False)
HURRY = Pace(24.0, lambda: True)
CURVATURES = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)


class Sign(torch.optim.Optimizer):
    """A stranger's: steps of one length, whatever the slope, that shrink as they are counted in its state."""

    def __init__(self, params, **rate):
        super().__init__(params, rate)

    def step(self, closure):
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            length = group.get("lr", group.get("length"))
            for parameter in group["params"]:
                state = self.state[parameter]
                state["taken"] = state.get("taken", 0) + 1
                with torch.no_grad():
                    parameter.sub_(length / state["taken"] * parameter.grad.sign())


OPTIMIZERS = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.005),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.001, momentum=0.9, nesterov=True),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
    "a stranger's": lambda params: Sign(params, lr=0.01),
}


def training_of(make, data, *, steps=3, loss=bowl):
    """A run some steps after its start, so that the optimizer has a state."""
    model = Vector(vector(3, seed=5))
    training = Training(model, loss, data, make(model.parameters()))
    for _ in range(steps):
        step(training, data[0])
    return training


def step(training, content):
    """One step of the real thing; gives the loss before it and the norm of its gradient."""
    norms = []

    def closure():
        training.optimizer.zero_grad()
        loss = training.loss(training.model, content)
        loss.backward()
        norms.append(float(training.model.theta.grad.norm()))
        return loss

    with torch.no_grad():
        before = float(training.loss(training.model, content))
    training.optimizer.step(closure)
    return before, norms[0]


def continuations(training, sample=ALL, pace=LEISURE, beyond=0):
    drawn = draw(training.data, seed=0, enough=lambda *_: False).batches
    known = len(drawn) - beyond
    judge = judge_of(Objective(training, drawn[:known]), exhaustive=sample.exhaustive)
    return measure_continuations(training.optimizer, judge, sample, pace, beyond=Beyond(drawn[known:]))


def plain(rate, theta=(1.0, -2.0, 0.5)):
    """Plain descent of theta^T A theta / 2 + 1 along the axes; every batch is the same."""
    model = Vector(theta)
    data = [batch(CURVATURES.diag(), torch.zeros(3, dtype=torch.float64))] * 4
    return Training(model, bowl, data, torch.optim.SGD(model.parameters(), lr=rate))


def descended(rate, steps, theta=(1.0, -2.0, 0.5)):
    """The loss after so many steps: theta shrinks by 1 - rate * curvature a step."""
    now = torch.tensor(theta, dtype=torch.float64) * (1.0 - rate * CURVATURES) ** steps
    return 1.0 + 0.5 * float((CURVATURES * now.square()).sum())


def test_a_fall_that_no_look_gainsays_is_sure_however_it_bends():
    arm = continuations(plain(0.2)).going_on
    bends = [before - after for before, after in pairwise(arm.losses)]
    assert bends[0] > 10.0 * bends[-1] > 0.0
    assert arm.gain.stderr < 1e-12


@settings(laws, max_examples=6)
@given(st.floats(1e-4, 0.8))
def test_plain_descent_goes_as_the_closed_form_says(rate):
    found = continuations(plain(rate))
    for arm in (found.going_on, *(arm for arm in found.arms if arm.name == "rate")):
        told = [descended(rate * arm.factor, mark) for mark in arm.marks]
        assert arm.losses == pytest.approx(told, rel=1e-9)
        here, later = told[0], told[-3:]
        assert arm.gain.value == pytest.approx(here - math.fsum(later) / 3.0, rel=1e-6, abs=1e-9)


@settings(laws, max_examples=6)
@given(st.floats(0.05, 0.45))
def test_below_twice_the_inverse_of_the_steepest_curvature_going_on_gains_and_above_it_rises(share):
    # Along the steepest direction alone, where 2 / lambda is the whole truth.
    below, above = (
        continuations(plain(factor * 2.0 / 4.0, (0.0, 0.0, 1.0))) for factor in (share, 1.0 + share)
    )
    assert below.going_on.gain.value > 0.0
    assert all(after <= before for before, after in pairwise(below.going_on.losses))
    assert above.going_on.gain.value < 0.0
    assert all(after > before for before, after in pairwise(above.going_on.losses))
    assert above.rate(0.1).gain.value > 0.0
    assert above.rate(0.1).extra.value > above.rate(0.1).gain.value


class Scaleless(Vector):
    """Only its direction counts, as in front of batch norm."""

    def forward(self):
        return self.theta / self.theta.norm()


def test_weights_that_shrink_by_decay_alone_are_no_gain():
    model, rate, decay, data = Scaleless((3.0, 0.0, 0.0)), 0.1, 0.5, [torch.zeros(1)] * 4
    training = Training(
        model,
        lambda model, _: 2.0 - model()[0],
        data,
        torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay),
    )
    arm = continuations(training).going_on
    shrunk = [9.0 * (1.0 - rate * decay) ** (2 * mark) for mark in arm.marks]
    assert arm.losses == pytest.approx([1.0] * len(arm.marks))
    assert arm.gain.value == pytest.approx(0.0, abs=1e-9)
    assert arm.shrunk == pytest.approx(0.5 * decay * (9.0 - math.fsum(shrunk[-3:]) / 3.0))
    assert arm.descent.value == pytest.approx(arm.shrunk)


def test_beyond_a_sample_the_run_goes_on_on_batches_that_neither_find_nor_judge():
    data = noisy_bowls(8, 3)
    training = training_of(OPTIMIZERS["SGD"], data)
    found, without = (continuations(training, PART, beyond=beyond) for beyond in (4, 0))
    real = copy.deepcopy(training)
    trained = [data[0], data[2], *data[4:]]
    met = [step(real, trained[number % 6])[0] for number in range(found.going_on.steps)]
    assert found.going_on.values == pytest.approx(met, rel=1e-9)
    assert found.epochs == pytest.approx(found.going_on.steps / 6)
    assert without.going_on.steps == 8


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("sample", [ALL, PART], ids=["all the data", "a part"])
def test_every_arm_is_a_real_run_at_its_rate_on_the_same_batches_in_the_same_order(name, sample):
    data = noisy_bowls(6, 3)
    training = training_of(OPTIMIZERS[name], data)
    found = continuations(training, sample)
    finds = data if sample.whole else data[::2]
    rates = [arm for arm in found.arms if arm.name == "rate"]
    assert rates
    for arm in (found.going_on, *rates):
        real = copy.deepcopy(training)
        for group in real.optimizer.param_groups:
            group["lr"] *= arm.factor
        met = [step(real, finds[number % len(finds)]) for number in range(arm.steps)]
        assert arm.values == pytest.approx([value for value, _ in met], rel=1e-9)
        assert arm.slopes == pytest.approx([slope for _, slope in met], rel=1e-9)
    assert {arm.steps for arm in rates} == {found.going_on.steps}
    assert found.epochs == found.going_on.steps / len(finds)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_training_is_left_as_it_was(name):
    training = training_of(OPTIMIZERS[name], noisy_bowls(6, 3))
    with unchanged(training):
        continuations(training)


def test_what_a_part_finds_is_judged_on_the_rest():
    data = noisy_bowls(6, 3)
    training = training_of(OPTIMIZERS["SGD"], data)
    exchanged = [
        content if number % 2 == 0 else noisy_bowls(1, 3, seed=50)[0] for number, content in enumerate(data)
    ]
    other = replace(copy.deepcopy(training), data=exchanged)
    found, again = (continuations(each, PART).going_on for each in (training, other))
    assert found.values == pytest.approx(again.values, rel=1e-12)
    assert found.losses != again.losses


def test_a_group_without_a_learning_rate_goes_on_as_it_is_at_any_rate():
    training = training_of(lambda params: Sign(params, length=0.01), noisy_bowls(6, 3))
    found = continuations(training)
    for arm in found.arms:
        if arm.name == "rate":
            looked = dict(zip(found.going_on.marks, found.going_on.losses, strict=True))
            assert arm.losses == tuple(looked[mark] for mark in arm.marks)
            assert arm.extra.value == 0.0


def test_steps_on_the_whole_are_those_on_the_mean_of_all_batches():
    # Opposite slopes: on single batches the run goes to and fro, on their mean it is at rest.
    matrix, slope = symmetric([1.0, 2.0, 3.0]), vector(3, scale=5.0)
    data = [batch(matrix, sign * slope) for sign in (1.0, -1.0)] * 3
    model = Vector(torch.zeros(3))
    found = continuations(Training(model, bowl, data, torch.optim.SGD(model.parameters(), lr=0.5)))
    whole = found.named("whole")
    assert found.going_on.gain.value < 0.0
    assert whole.slopes == pytest.approx([0.0] * whole.steps, abs=1e-12)
    assert whole.gain.value == pytest.approx(0.0, abs=1e-12)


def raising(model, content):
    """As distributions do that check their arguments."""
    if not bool(model.theta.isfinite().all()) or float(model.theta.detach().abs().max()) > 1e6:
        msg = "expected parameters within the constraints"
        raise ValueError(msg)
    return bowl(model, content)


@pytest.mark.parametrize("loss", [bowl, raising])
def test_a_run_that_is_thrown_out_gains_minus_infinity_and_a_lower_rate_still_has_its_numbers(loss):
    data = [batch(CURVATURES.diag(), torch.zeros(3, dtype=torch.float64))] * 8
    training = training_of(lambda params: torch.optim.SGD(params, lr=1e200), data, steps=0, loss=loss)
    with unchanged(training):
        found = continuations(training)
    assert found.going_on.gain.value == -math.inf
    assert not found.going_on.trend.surely_above(0.0)
    assert found.rate(0.1).gain.value == -math.inf
    # Nothing that is tried rises above it.
    assert not any(arm.extra.surely_above(0.0) for arm in found.arms)


@pytest.mark.parametrize("moment", [30, 33, 40])
def test_a_loss_that_begins_to_fail_is_not_taken_for_a_run_that_is_thrown_out(moment):
    calls = iter(range(10_000))

    def broken(model, content):
        if next(calls) >= moment:
            msg = "out of luck"
            raise ValueError(msg)
        return bowl(model, content)

    data = [batch(CURVATURES.diag(), torch.zeros(3, dtype=torch.float64))] * 8
    with pytest.raises(TrainingError, match="out of luck"):
        continuations(training_of(OPTIMIZERS["SGD"], data, loss=broken))


@pytest.mark.parametrize("loss", [bowl, raising])
def test_a_rate_that_throws_the_run_out_does_not_hide_what_going_on_gains(loss):
    data = [batch(CURVATURES.diag(), torch.zeros(3, dtype=torch.float64))] * 8
    training = training_of(lambda params: torch.optim.SGD(params, lr=1e-4), data, steps=0, loss=loss)
    training.optimizer.param_groups[0]["lr"] = 0.05
    found = continuations(training)
    assert found.going_on.gain.value > 0.0


def test_what_a_random_loss_draws_is_not_learnt_by_heart():
    def anywhere(model, batch):
        return 0.5 * (model.theta - torch.randn(batch[0].shape[1:], dtype=torch.float64)).square().mean()

    model = Vector(torch.zeros(200))
    data = [(torch.zeros(4, 200),)] * 4
    training = Training(model, anywhere, data, torch.optim.SGD(model.parameters(), lr=20.0))
    found = continuations(training, replace(ALL, exhaustive=False, stochastic=True))
    # By heart it would be a quarter of the loss; at zero nothing can be gained for good.
    assert all(arm.gain.value < 0.0 for arm in found.arms)


def test_without_time_only_going_on_is_looked_at():
    found = continuations(training_of(OPTIMIZERS["SGD"], noisy_bowls(6, 3)), pace=HURRY)
    assert [arm.name for arm in found.arms] == ["going on"]


def test_at_a_rate_of_nothing_rates_come_up_to_that_of_the_best_step():
    found = continuations(plain(1e-30), pace=replace(LEISURE, furthest=0.25e30))
    assert found.rate(1e29).gain.value > 0.5 * found.going_on.losses[0]
    assert len(found.arms) < 12


def test_a_run_that_gains_a_quarter_of_its_loss_is_not_asked_what_it_would_gain_at_other_rates():
    model = Vector([30.0, 30.0, 30.0])
    data = [batch(CURVATURES.diag(), torch.zeros(3, dtype=torch.float64))] * 4
    found = continuations(Training(model, bowl, data, torch.optim.SGD(model.parameters(), lr=0.2)))
    assert found.going_on.gain.value > 0.25 * found.going_on.losses[0]
    assert len(found.arms) == 1


def test_where_going_on_explains_enough_no_other_steps_are_taken():
    training = training_of(OPTIMIZERS["SGD"], noisy_bowls(6, 3))
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    asked = []

    def explained(found):
        asked.append([arm.name for arm in found.arms])
        return True

    found = measure_continuations(training.optimizer, judge_of(objective), ALL, LEISURE, explained)
    assert asked == [["going on"]]
    assert found.arms == continuations(training).arms[:1]


def by_heart(model, content):
    """Each batch has a number of its own, which nothing but a step on that batch moves."""
    return 1.0 + (model.theta[content[0]] - 1.0).square().mean()


@pytest.mark.parametrize(
    ("count", "steps"), [(math.inf, (0, 0, 0)), (1e6, (0, 0, 0)), (16.0, (1, 1, 0)), (8.0, (2, 1, 1))]
)
def test_what_judges_is_trained_on_as_often_as_the_run_comes_to_it(count, steps):
    model = Vector(torch.zeros(8, dtype=torch.float64))
    data = [(torch.tensor([number]),) for number in range(8)]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.25
    )  # each step leaves a quarter of what lies above 1
    drawn = draw(data, seed=0, enough=lambda *_: False).batches
    judge = judge_of(Objective(Training(model, by_heart, data, optimizer), drawn[:6]), exhaustive=False)
    found = measure_continuations(optimizer, judge, PART, LEISURE, beyond=Beyond(drawn[6:], count)).going_on
    assert found.steps == 10
    assert found.losses[-1] == pytest.approx(1.0 + sum(0.25**taken for taken in steps) / 3.0)
