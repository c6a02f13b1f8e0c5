"""On real trainings of digits: what is planted is found, and healthy ones are left alone."""

import math
from dataclasses import replace

import pytest
import torch
from tests.findings import handmade
from torch import nn

from unstuck import Training, supervised
from unstuck.demos.digits import digits
from unstuck.estimate import Estimate
from unstuck.findings import left_out, updates
from unstuck.findings.finite import non_finite
from unstuck.findings.left_out import frozen_parameters, rate_of_zero
from unstuck.findings.progress import undoes
from unstuck.findings.rates import raising
from unstuck.findings.records import Cause, Kind, Point
from unstuck.findings.updates import carried_away, stale_second_moment
from unstuck.findings.verdict import NAMED, conclude
from unstuck.measurements.descent import taken
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.model.wiring import measure_wiring
from unstuck.measurements.optimizer.forgetting import measure_forgetting
from unstuck.measurements.optimizer.momenta import measure_momentum
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.optimizer.updates import measure_precision, measure_second_moment
from unstuck.measurements.records import Layers
from unstuck.measurements.records.updates import Excluded, NonFinite, SecondMoment, Wiring
from unstuck.objective import Objective, draw
from unstuck.objective.decay import shrinking

LOSS = supervised(lambda outputs, labels: nn.functional.cross_entropy(outputs.float(), labels))

POINT = Point(Kind.UNDECIDED, 1.0, 0.0, None, None, None, None)

HEALTHY = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "SGD momentum": lambda ps: torch.optim.SGD(ps, lr=0.02, momentum=0.9),
    "Adam": lambda ps: torch.optim.Adam(ps, lr=1e-3),
    "AMSGrad": lambda ps: torch.optim.Adam(ps, lr=1e-3, amsgrad=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=1e-3),
    "NAdam": lambda ps: torch.optim.NAdam(ps, lr=1e-3),
    "RAdam": lambda ps: torch.optim.RAdam(ps, lr=1e-3),
    "Adamax": lambda ps: torch.optim.Adamax(ps, lr=2e-3),
    "Adagrad": lambda ps: torch.optim.Adagrad(ps, lr=0.01),
    "RMSprop": lambda ps: torch.optim.RMSprop(ps, lr=1e-3),
    "Adadelta": lambda ps: torch.optim.Adadelta(ps, lr=1.0),
    "ASGD": lambda ps: torch.optim.ASGD(ps, lr=0.1),
    "Rprop": lambda ps: torch.optim.Rprop(ps, lr=1e-3),
    "Adafactor": lambda ps: torch.optim.Adafactor(ps, lr=0.01),
}
# Adam's epsilon of 1e-8 is zero in float16, and its steps are NaN wherever a gradient is.
NARROW = [
    *((name, torch.bfloat16) for name in ("SGD", "SGD momentum", "Adam", "AdamW", "RMSprop", "Adagrad")),
    *((name, torch.float16) for name in ("SGD", "SGD momentum")),
]


class Net(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh()).to(dtype)
        self.head = nn.Linear(32, 10).to(dtype)

    def forward(self, x):
        return self.head(self.body(x.to(self.head.weight.dtype)))


def data(examples=640, size=40):
    images, labels = digits()
    return list(zip(images[:examples].split(size), labels[:examples].split(size), strict=True))


def train(training, steps, *, scale=1.0):
    for number in range(steps):
        training.optimizer.zero_grad()
        (scale * LOSS(training.model, training.data[number % 16])).backward()
        training.optimizer.step()
        if training.scheduler:
            training.scheduler.step()
    training.optimizer.zero_grad()
    return training


def made(make, dtype=torch.float32, *, freeze=False):
    model = Net(dtype)
    if freeze:
        model.body.requires_grad_(requires_grad=False)
    return Training(model, LOSS, data(), make(p for p in model.parameters() if p.requires_grad))


def examined(training):
    """What an examination hands to the findings of this module."""
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    objective = Objective(training, drawn.batches)
    judge = Judge(
        objective, Halves.of(len(drawn.batches), exhaustive=False), objective.values(objective.theta)
    )
    order = (judge.halves.finds * 16)[:16]
    ahead = Twin(objective, training.optimizer).walk(order)
    return handmade.measurements(
        (taken("ahead", judge, [ahead], steps=16),),
        None,
        (),
        loss=judge.loss(),
        scale=judge.loss().value,
        wiring=measure_wiring(training, judge),
        precision=measure_precision(training, judge),
        second_moment=measure_second_moment(training, judge),
    )


def causes(training):
    measured = examined(training)
    found = [finding for check in (*left_out.CHECKS, *updates.CHECKS) if (finding := check(POINT, measured))]
    for finding in found:
        assert 0.5 <= finding.confidence <= 0.99
        assert all(math.isfinite(item.value) for item in finding.evidence if item.name != "kept_length")
        assert "nan" not in finding.explanation
    return [finding.cause for finding in found]


CASES = [*((name, torch.float32) for name in HEALTHY), *NARROW]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_healthy_training_is_left_alone(name, dtype, steps):
    assert causes(train(made(HEALTHY[name], dtype), steps)) == []


@pytest.mark.parametrize("name", ["SGD momentum", "Adam"])
def test_a_head_that_learns_on_a_frozen_body_is_left_alone(name):
    assert causes(train(made(HEALTHY[name], freeze=True), 20)) == []


def test_a_warm_up_from_zero_is_left_alone_before_its_first_step():
    training = made(HEALTHY["Adam"])
    scheduler = torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: min(step / 50, 1.0))
    assert causes(Training(training.model, LOSS, training.data, training.optimizer, scheduler)) == []


def only_biases():
    training = made(lambda ps: torch.optim.SGD(ps, lr=0.1))
    training.model.requires_grad_(requires_grad=False)
    training.model.head.bias.requires_grad_(requires_grad=True)
    return train(training, 200)


def replaced():
    training = made(HEALTHY["Adam"])
    training.model.head = nn.Linear(32, 10)
    training.model.body.requires_grad_(requires_grad=False)
    return train(training, 3)


def of_another_model():
    return Training(Net(torch.float32), LOSS, data(), torch.optim.Adam(Net(torch.float32).parameters()))


def schedule_at_its_end():
    training = made(HEALTHY["SGD"])
    scheduler = torch.optim.lr_scheduler.LinearLR(training.optimizer, 1.0, 0.0, total_iters=10)
    return train(Training(training.model, LOSS, training.data, training.optimizer, scheduler), 12)


@pytest.mark.parametrize("plant", [only_biases, replaced, of_another_model])
def test_what_is_not_trained_is_named(plant):
    assert causes(plant()) == [Cause.FROZEN_PARAMETERS]


def test_steps_at_a_rate_of_0_are_too_small():
    assert causes(schedule_at_its_end()) == [Cause.STEP_TOO_SMALL]


@pytest.mark.parametrize(("dtype", "rate"), [(torch.bfloat16, 3e-4), (torch.float16, 3e-4)])
def test_steps_lost_to_rounding_are_named(dtype, rate):
    assert causes(made(lambda ps: torch.optim.SGD(ps, lr=rate), dtype)) == [Cause.PRECISION_STALL]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_that_would_lead_nowhere_even_without_rounding_are_too_small_instead(dtype):
    assert causes(made(lambda ps: torch.optim.SGD(ps, lr=1e-9), dtype)) == []


@pytest.mark.parametrize("name", ["Adagrad", "Adam", "RMSprop", "AMSGrad"])
def test_a_scale_of_gradients_long_past_is_named(name):
    training = made(HEALTHY[name])
    rate = training.optimizer.param_groups[0]["lr"]
    training.optimizer.param_groups[0]["lr"] = 1e-12
    train(training, 30, scale=1e6)
    training.optimizer.param_groups[0]["lr"] = rate
    for state in training.optimizer.state.values():
        if "exp_avg" in state:
            state["exp_avg"].zero_()
    assert causes(training) == [Cause.STALE_SECOND_MOMENT]


SURE, NOTHING = Estimate(0.5, 0.01), Estimate(0.0, 0.0)
SOME = (Excluded("frozen", ("a",), 60), Excluded("unused", ("b",), 10))
NONE_LEFT = (Excluded("unlisted", ("a",), 100),)
AT_REST = (Excluded("rate", ("a",), 100),)


@pytest.mark.parametrize(
    ("wiring", "named"),
    [
        (Wiring(SOME, 100, SURE, NOTHING, SURE), True),
        (Wiring(SOME, 100, SURE, Estimate(0.3, 0.01), Estimate(0.2, 0.01)), False),
        (Wiring(SOME, 100, Estimate(0.5, 0.3), NOTHING, Estimate(0.5, 0.3)), False),
        (Wiring(SOME[1:], 100, SURE, NOTHING, SURE), False),
        (Wiring(SOME, 100), False),
        (Wiring(NONE_LEFT, 100, Estimate(0.5, math.inf), NOTHING, Estimate(0.5, math.inf)), True),
        (Wiring(NONE_LEFT, 100, Estimate(0.005, 0.0), NOTHING, Estimate(0.005, 0.0)), True),
        (Wiring(NONE_LEFT, 100, NOTHING, NOTHING, NOTHING), False),
        (Wiring(NONE_LEFT, 100, SURE, NOTHING, SURE, scheduled=True, begun=False), False),
    ],
)
def test_leaving_out_is_a_choice_until_it_surely_costs_much_more_than_what_is_trained_gains(wiring, named):
    finding = frozen_parameters(POINT, handmade.measurements((), None, (), wiring=wiring))
    assert (finding is not None) == named
    if finding:
        assert "`b`" not in finding.explanation
        assert f"{100 * wiring.share:.3g} %" in finding.explanation


@pytest.mark.parametrize("gain", [SURE, Estimate(0.005, 0.0), NOTHING, Estimate(-0.1, 0.2), None])
def test_a_rate_of_0_is_why_a_run_stands_still_and_the_surer_where_there_is_something_to_gain(gain):
    wiring = Wiring(AT_REST, 100, gain, None if gain is None else NOTHING, gain, scheduled=True)
    verdict = conclude(handmade.measurements((), None, (), wiring=wiring), handmade.COST)
    assert verdict.cause is Cause.STEP_TOO_SMALL
    assert "learning rate is 0" in verdict.findings[0].explanation
    assert "schedule" in verdict.findings[0].advice
    assert (verdict.confidence > 0.9) == (gain is not None and gain.value > 0.0)
    early = handmade.measurements((), None, (), wiring=replace(wiring, begun=False))
    assert rate_of_zero(POINT, early) is None


@pytest.mark.parametrize(
    ("going_on", "excluded", "trained", "noted"),
    [
        (0.6, SURE, NOTHING, True),
        (0.6, SURE, Estimate(0.3, 0.01), False),
        (0.6, Estimate(0.005, 0.0), NOTHING, False),
        (0.0, SURE, NOTHING, False),
    ],
    ids=["gets on", "gains about as much", "gains nothing", "is a cause"],
)
def test_what_is_left_out_of_a_run_that_gets_on_and_would_gain_much_more_is_a_note(
    going_on, excluded, trained, noted
):
    wiring = Wiring(SOME, 100, excluded, trained, Estimate(excluded.value - trained.value, 0.01))
    measured = handmade.measurements((), None, (), wiring=wiring, continuations=handmade.continued(going_on))
    verdict = conclude(measured, handmade.COST)
    assert (verdict.cause is Cause.FROZEN_PARAMETERS) is (going_on == 0.0)
    assert any("If nobody meant to leave them out" in note for note in verdict.notes) is noted


@pytest.mark.parametrize(
    ("reason", "norm", "named"),
    [("frozen", 0.0, False), ("frozen", 1e-9, True), ("unlisted", 0.0, True)],
)
def test_what_is_frozen_on_purpose_is_not_named_before_curvature_where_the_rest_has_no_gradient(
    reason, norm, named
):
    wiring = Wiring((Excluded(reason, ("a",), 60),), 100, SURE, NOTHING, SURE)
    measured = handmade.measurements((), None, (), wiring=wiring)
    measured = replace(measured, gradient=replace(measured.gradient, norm=norm))
    finding = frozen_parameters(POINT, measured)
    assert finding is not None
    assert (finding.confidence >= NAMED) is named


def test_progress_absolves_whatever_is_left_out_or_stale():
    stale = SecondMoment("Adagrad", Estimate(5.0, 0.1), "", 16, Estimate(0.001, 1e-6), SURE, SURE)
    wiring = Wiring(SOME, 100, SURE, NOTHING, SURE)
    for going_on, silent in ((handmade.continued(0.6), True), (handmade.continued(0.0), False)):
        measured = handmade.measurements(
            (), None, (), wiring=wiring, second_moment=stale, continuations=going_on
        )
        assert (frozen_parameters(POINT, measured) is None) == silent
        assert (stale_second_moment(POINT, measured) is None) == silent


@pytest.mark.parametrize(
    ("ratio", "loss", "named"), [(5.0, 2.2, True), (4.0, 2.2, False), (5.0, 0.5, False), (5.0, None, False)]
)
def test_a_run_that_falls_is_stale_where_sigma_remembers_what_was_not_its_own_way_down(ratio, loss, named):
    moment = SecondMoment("Adagrad", Estimate(ratio, 0.1), "", 16, Estimate(0.1, 1e-6), SURE, SURE)
    layers = None if loss is None else Layers(768, (), (), (), loss, blind=2.3)
    measured = handmade.measurements(
        (), None, (), second_moment=moment, continuations=handmade.continued(0.2), layers=layers
    )
    assert (stale_second_moment(POINT, measured) is not None) == named


@pytest.mark.parametrize(("share", "told"), [(0.9, True), (0.1, False)])
def test_what_steps_are_divided_by_without_any_gradient_is_to_be_lowered_first(share, told):
    moment = SecondMoment("Adagrad", Estimate(5.0, 0.1), "", 16, Estimate(0.001, 1e-6), SURE, SURE)
    moment = replace(moment, added="initial_accumulator_value", added_share=share)
    going_on = handmade.continued(0.001, handmade.arm("rate", 0.5, factor=1000.0))
    measured = handmade.measurements((), None, (), second_moment=moment, continuations=going_on)
    stale = stale_second_moment(POINT, measured)
    for advice in (stale.advice, raising(going_on.arms[1], measured)):
        assert advice.startswith("Lower `initial_accumulator_value`: it makes up 90 %") is told


def test_a_run_that_creeps_is_stale_where_a_fresh_scale_gains_a_decade_more():
    moment = SecondMoment("Adagrad", Estimate(5.0, 0.1), "", 16, Estimate(0.01, 1e-6), SURE, SURE)
    for gain, present, named in ((0.05, 0.01, True), (0.2, 0.01, False), (0.05, 0.09, False)):
        measured = handmade.measurements(
            (),
            None,
            (),
            second_moment=replace(moment, present_gain=Estimate(present, 1e-6)),
            continuations=handmade.continued(gain),
        )
        assert (stale_second_moment(POINT, measured) is not None) == named


def test_parameters_that_the_optimizer_misses_need_not_outdo_a_run_that_creeps():
    missed = Wiring(
        (Excluded("unlisted", ("a",), 50),), 100, Estimate(0.03, 1e-6), Estimate(0.03, 1e-6), NOTHING
    )
    frozen = replace(missed, excluded=(Excluded("frozen", ("a",), 50),))
    for wiring, gain, named in ((missed, 0.05, True), (missed, 0.2, False), (frozen, 0.05, False)):
        measured = handmade.measurements((), None, (), wiring=wiring, continuations=handmade.continued(gain))
        assert (frozen_parameters(POINT, measured) is not None) == named


@pytest.mark.parametrize(("trained", "named"), [(0.6, False), (0.4, True)])
def test_what_the_optimizer_misses_must_outdo_the_best_step_of_the_rest_where_the_run_falls(trained, named):
    missed = (Excluded("unlisted", ("a",), 50),)
    wiring = Wiring(missed, 100, Estimate(0.5, 1e-6), Estimate(trained, 1e-6), Estimate(0.1, 1e-6))
    measured = handmade.measurements((), None, (), wiring=wiring, continuations=handmade.continued(0.3))
    assert (frozen_parameters(POINT, measured) is not None) == named


@pytest.mark.parametrize(("gain", "named"), [(0.6, False), (0.2, True)])
def test_what_is_frozen_on_purpose_is_not_missed_where_the_rest_gains_as_much_at_another_rate(gain, named):
    going_on = handmade.continued(0.05, handmade.arm("rate", gain, factor=10.0))
    wiring = Wiring((Excluded("frozen", ("a",), 60),), 100, SURE, Estimate(0.1, 0.01), SURE)
    measured = handmade.measurements((), None, (), wiring=wiring, continuations=going_on)
    assert (frozen_parameters(POINT, measured) is not None) == named


@pytest.mark.parametrize("ratio", [Estimate(1.0, 0.0), Estimate(-1.0, 0.0), None])
def test_a_scale_within_a_decade_is_not_stale(ratio):
    moment = SecondMoment("Adam", ratio, "", 16, NOTHING, SURE, SURE)
    assert stale_second_moment(POINT, handmade.measurements((), None, (), second_moment=moment)) is None


@pytest.mark.parametrize("place", ["parameter", "buffer", "state", "data", "forward", "loss", "gradient"])
@pytest.mark.parametrize("overflow", [False, True])
def test_nan_is_named_wherever_it_appears(place, overflow):
    finding = non_finite(NonFinite(place, "the place", "NaN", 3, "log", "float16", overflow, "a module"))
    assert finding.cause is Cause.NON_FINITE
    assert "None" not in finding.explanation
    assert ("the place" in finding.explanation) or place == "loss"
    assert ("float16 has overflowed" in finding.explanation) == overflow


def heavy(scale):
    """Least squares some steps on, of a momentum that remembers gradients so many times as large."""
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    data = [(x[:32], x[:32].sum(1, keepdim=True)), (x[32:], x[32:].sum(1, keepdim=True))]
    model, loss = nn.Linear(6, 1), supervised(nn.MSELoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for batch in data * 3:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    for state in optimizer.state.values():
        state["momentum_buffer"] *= scale
    training = Training(model, loss, data, optimizer)
    objective = Objective(training, draw(data, seed=0, enough=lambda *_: False).batches)
    judge = Judge(objective, Halves.of(2, exhaustive=True), objective.values(objective.theta))
    return measure_momentum(training, judge)


@pytest.mark.parametrize(("scale", "found"), [(1.0, False), (100.0, True)])
def test_a_momentum_of_gradients_long_past_is_named(scale, found):
    measured = replace(handmade.planted("not critical"), momentum=heavy(scale), scale=1.0)
    finding = carried_away(Point(Kind.NOT_CRITICAL, 1.0, 1.0, None, None, None, None), measured)
    assert (finding is not None) is found
    assert finding is None or finding.cause is Cause.STEP_TOO_LARGE


@pytest.mark.parametrize(("decay", "named"), [(10.0, True), (0.1, None)])
def test_a_run_is_not_healthy_whose_decay_undoes_what_its_steps_learn(decay, named):
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    data = [(x[:32], x[:32].sum(1, keepdim=True)), (x[32:], x[32:].sum(1, keepdim=True))]
    model, loss = nn.Linear(6, 1), supervised(nn.MSELoss())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    for batch in data * 200:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    objective = Objective(
        Training(model, loss, data, optimizer), draw(data, seed=0, enough=lambda *_: False).batches
    )
    judge = Judge(objective, Halves.of(2, exhaustive=True), objective.values(objective.theta))
    forgetting = measure_forgetting(objective.replay.training, judge)
    measured = handmade.measurements(
        (), None, (), forgetting=forgetting, continuations=handmade.continued(0.05), scale=1.0
    )
    assert (undoes(measured) or None) is named


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_decay_takes_the_share_of_the_weights_that_it_says(momentum):
    weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.01, momentum=momentum, weight_decay=0.1)
    lengths = []
    for _ in range(300):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        lengths.append(float(weight.detach().norm()))
    assert 1.0 - lengths[-1] / lengths[-2] == pytest.approx(shrinking(optimizer), rel=0.15)
