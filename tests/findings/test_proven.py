"""What trials add where the measurements left the cause open."""

import math
from dataclasses import replace

import pytest
from handmade import COST, arm, continued, measurements, planted, route

from unstuck.estimate import Estimate
from unstuck.findings.followed import BY_TRIAL
from unstuck.findings.health import UNTRIED
from unstuck.findings.proven import least_gain, with_trials, worth_trying
from unstuck.findings.records import Cause, Finding, Kind
from unstuck.findings.verdict import conclude
from unstuck.measurements.records.trials import Curve, Trial, Trials
from unstuck.measurements.records.updates import Excluded, Precision, SecondMoment, Wiring

TREATS = {
    "larger-step": ("plateau", "step-too-small", "vanishing-gradient"),
    "per-parameter-scale": ("ill-conditioned", "plateau", "step-too-small"),
    "smaller-step": ("gradient-noise", "step-too-large"),
    "refresh": ("non-finite", "stale-second-moment"),
    "master-weights": ("precision-stall",),
    "unfreeze": ("frozen-parameters",),
}


def trials(**gains):
    tried = [
        Trial(
            name,
            TREATS[name],
            f"{name} it is",
            (),
            "",
            0.0,
            (Curve((0.0, 1.0), (1.0, 1.0 - gain), 1.0 - gain),),
            gain=Estimate(gain, 0.01, 5.0),
            low=gain - 0.03,
            high=gain + 0.03,
        )
        for name, gain in ((name.replace("_", "-"), gain) for name, gain in gains.items())
    ]
    return Trials(
        (), tuple(tried), (), 6, 96.0, 4, whole=True, by_validation=False, level=0.95,
        gradients=1.0, seconds=1.0, complete=True,
    )  # fmt: skip


def undecided():
    """A slope that leads far down, and nothing that was measured says why the run does not follow it."""
    thrown = continued(0.0, arm("rate", -5.0, factor=10.0))
    routes = (route("gradient", 0.3, 0.3), route("krylov", 0.3, 0.3))
    verdict = conclude(measurements(routes, None, (), continuations=thrown), COST)
    assert verdict.cause is None
    assert verdict.point.kind is Kind.NOT_CRITICAL
    return verdict


@pytest.mark.parametrize(
    ("gains", "cause"),
    [
        ({"larger_step": 0.7, "smaller_step": -0.1}, Cause.STEP_TOO_SMALL),
        ({"larger_step": 0.7, "per_parameter_scale": 0.8}, Cause.STEP_TOO_SMALL),
        ({"larger_step": 0.1, "per_parameter_scale": 0.8}, Cause.ILL_CONDITIONED),
        ({"refresh": 0.9, "larger_step": 0.4}, Cause.STALE_SECOND_MOMENT),
        ({"refresh": 0.9, "larger_step": 0.9}, None),
        ({"larger_step": 0.4}, None),
        ({"smaller_step": 0.9}, None),
    ],
    ids=str,
)
def test_a_cause_that_is_left_open_is_settled_by_what_alone_sheds_half_of_the_loss(gains, cause):
    verdict = with_trials(undecided(), trials(**gains))

    assert verdict.cause is cause
    if cause is not None:
        assert cause in verdict.remedies[0].treats
        told = verdict.findings[0].evidence[0].value
        assert told in {remedy.gain for remedy in verdict.remedies if cause in remedy.treats}


@pytest.mark.parametrize(("gain", "leaps"), [(0.9, True), (-0.1, False)])
def test_what_is_proved_beside_a_minimum_is_said_to_lead_out_of_it(gain, leaps):
    verdict = conclude(planted("minimum"), COST)
    assert verdict.cause is Cause.LOCAL_MINIMUM

    advice = with_trials(verdict, trials(larger_step=gain)).findings[0].advice

    assert ("what was proved" in advice) is leaps
    assert ("No optimizer" in advice) is not leaps


@pytest.mark.parametrize(("half", "resolved"), [(0.002, True), (0.8, False)])
def test_what_the_trials_do_not_resolve_is_not_told_to_gain_nothing(half, resolved):
    tried = trials(smaller_step=0.0)
    (trial,) = tried.tried
    notes = with_trials(undecided(), replace(tried, tried=(replace(trial, low=-half, high=half),))).notes

    assert any("worth having" in note for note in notes) is resolved
    assert any("scatter" in note for note in notes) is not resolved


@pytest.mark.parametrize(("sure", "gain", "named"), [(0.7, 0.0, False), (0.7, 0.3, True), (0.99, 0.0, True)])
def test_what_is_taken_away_and_makes_no_difference_is_less_sure_and_named_only_if_it_was_beyond_doubt(
    sure, gain, named
):
    found = Finding(Cause.STALE_SECOND_MOMENT, sure, (), "", "")
    verdict = replace(undecided(), cause=found.cause, confidence=sure, findings=(found,))
    (trial,) = trials(refresh=gain).tried
    tried = replace(trials(), tried=(replace(trial, low=gain - 0.002, high=gain + 0.002),))

    judged = with_trials(verdict, tried)

    assert judged.cause is (Cause.STALE_SECOND_MOMENT if named else None)
    assert (judged.findings[0].confidence < sure) is (gain == 0.0)
    assert any("less sure" in note for note in judged.notes) is (gain == 0.0)


@pytest.mark.parametrize(("floor", "named"), [(0.0, False), (0.99, True)])
def test_what_is_worth_having_is_a_share_of_what_lies_above_a_floor(floor, named):
    """A gain of half a hundredth of a loss is none, and half of what lies a hundredth above a floor."""
    found = Finding(Cause.STALE_SECOND_MOMENT, 0.7, (), "", "")
    verdict = replace(undecided(), cause=found.cause, confidence=0.7, findings=(found,))
    measured = replace(verdict.measured, scale=1.0 - floor)
    (trial,) = trials(refresh=0.005).tried
    tried = replace(trials(), tried=(replace(trial, low=0.004, high=0.006),), least=least_gain(measured))

    judged = with_trials(replace(verdict, measured=measured), tried)

    assert (judged.cause is Cause.STALE_SECOND_MOMENT) is named
    assert bool(judged.remedies) is named


def followed(*ends, middle=None, **gains):
    """Trials that follow the run on so many orders, from a loss of 1 by way of `middle` to these ends."""
    curves = tuple(
        Curve(
            (0.0, 1.0, 2.0, 3.0, 4.0),
            (1.0, 1.0, 0.5 * (1.0 + end) if middle is None else middle, end, end),
            end,
        )
        for end in ends
    )
    return replace(trials(**gains), going_on=curves, whole=True)


def named(cause, sure=0.95):
    found = Finding(cause, sure, (), "", "")
    return replace(undecided(), cause=cause, confidence=sure, findings=(found,))


@pytest.mark.parametrize(
    ("tried", "cause"),
    [
        (followed(0.87, 0.86, 0.85, 0.87, smaller_step=0.0), Cause.HEALTHY),
        (followed(0.87, 0.86, 0.85, 0.87, smaller_step=0.5), Cause.STEP_TOO_LARGE),
        (followed(0.87, 0.86, 0.85, 0.87, middle=0.85), Cause.STEP_TOO_LARGE),
        (followed(0.6, 0.9, 1.3, 0.7), Cause.STEP_TOO_LARGE),
        (followed(0.87, 0.86), Cause.STEP_TOO_LARGE),
        (followed(0.87, 0.86, 0.85, math.inf), Cause.STEP_TOO_LARGE),
    ],
    ids=["falls", "a smaller step gains", "from a peak only", "on some orders", "too few", "thrown out"],
)
def test_a_run_that_falls_on_every_order_is_not_told_that_its_steps_lead_nowhere(tried, cause):
    (smaller,) = tried.tried or (None,)
    if smaller is not None and smaller.gain.value == 0.0:
        tried = replace(tried, tried=(replace(smaller, low=-0.02, high=0.02),))

    judged = with_trials(named(Cause.STEP_TOO_LARGE), tried)

    assert judged.cause is cause
    assert any("does not bear" in note for note in judged.notes) is (cause is Cause.HEALTHY)
    assert [finding.cause for finding in judged.findings] == [cause]


@pytest.mark.parametrize(("end", "cause"), [(0.999, None), (0.6, Cause.HEALTHY)])
def test_a_run_that_hardly_falls_where_it_is_followed_further_is_not_called_healthy(end, cause):
    judged = with_trials(named(Cause.HEALTHY), followed(end, end, end, end))

    assert judged.cause is cause


@pytest.mark.parametrize(("end", "cause"), [(0.999, Cause.HEALTHY), (1.1, None)])
def test_of_a_part_of_the_data_a_pass_is_not_known_and_healthy_stands_unless_the_loss_rises(end, cause):
    tried = replace(followed(end, end, end, end), whole=False)

    assert with_trials(named(Cause.HEALTHY), tried).cause is cause


def test_a_run_that_may_as_well_rise_on_other_orders_is_less_surely_healthy():
    judged = with_trials(named(Cause.HEALTHY), followed(0.9, 1.1, 0.95, 1.05))

    assert (judged.cause, judged.confidence) == (Cause.HEALTHY, UNTRIED)
    assert "does not surely fall" in judged.findings[0].explanation


@pytest.mark.parametrize(("gain", "told"), [(0.4, False), (0.7, True)])
def test_a_run_in_good_health_is_told_of_what_sheds_half_of_its_loss_and_of_nothing_less(gain, told):
    judged = with_trials(named(Cause.HEALTHY), followed(0.8, 0.81, 0.8, 0.79, larger_step=gain))

    assert judged.cause is Cause.HEALTHY
    assert judged.confidence == (UNTRIED if told else 0.95)
    assert [remedy.name for remedy in judged.remedies] == ["larger-step"] * told
    assert ("far sooner" in judged.findings[0].advice) is told
    assert any("none surely sheds half" in note for note in judged.notes) is not told


@pytest.mark.parametrize(
    ("gains", "cause"),
    [
        ({"per_parameter_scale": 0.8, "larger_step": 0.3}, Cause.ILL_CONDITIONED),
        ({"per_parameter_scale": 0.8, "larger_step": 0.7}, Cause.HEALTHY),
        ({"smaller_step": 0.8}, Cause.HEALTHY),
    ],
    ids=["scales alone", "one rate as well", "a matter of taste"],
)
def test_what_creeps_and_would_shed_half_by_scales_for_each_direction_alone_is_in_a_valley(gains, cause):
    judged = with_trials(named(Cause.HEALTHY), followed(0.97, 0.97, 0.96, 0.97, **gains))

    assert judged.cause is cause
    assert Cause.HEALTHY in {finding.cause for finding in judged.findings}
    assert judged.confidence == (BY_TRIAL if cause is Cause.ILL_CONDITIONED else UNTRIED)


@pytest.mark.parametrize(("gain", "worth"), [(0.05, True), (0.3, False)])
def test_a_run_that_creeps_in_good_health_is_held_to_it_by_trials_and_no_other(gain, worth):
    verdict = named(Cause.HEALTHY)

    assert (
        worth_trying(replace(verdict, measured=replace(verdict.measured, continuations=continued(gain))))
        is worth
    )


def open_with_sigma_off(*, ratio, stderr=0.1):
    """Nothing is named: steps with a fresh sigma were too few to be sure of what they gain."""
    verdict = undecided()
    unsure = Estimate(0.03, 0.02, 7.0)
    moment = SecondMoment(
        "Adam", Estimate(ratio, stderr, 3.0), steps=16,
        present_gain=Estimate(0.0, 1e-4, 7.0), fresh_gain=unsure, extra=unsure,
    )  # fmt: skip
    again = conclude(replace(verdict.measured, second_moment=moment), COST)
    assert again.cause is None
    return again


@pytest.mark.parametrize(
    ("ratio", "end", "gains", "cause"),
    [
        (6.0, 1.0, {"refresh": 0.3, "larger_step": 0.4}, Cause.STALE_SECOND_MOMENT),
        (-6.0, 1.0, {"refresh": 0.3}, Cause.STALE_SECOND_MOMENT),
        (1.0, 1.0, {"refresh": 0.3, "larger_step": 0.4}, None),
        (6.0, 1.0, {"refresh": 0.02, "larger_step": 0.4}, None),
        (6.0, 0.8, {"refresh": 0.3, "larger_step": 0.4}, None),
        (6.0, 1.0, {"larger_step": 0.4}, None),
    ],
    ids=["stale", "too small", "as it should be", "gains nothing", "gains no several times more", "untried"],
)
def test_a_sigma_that_is_surely_off_is_named_where_refreshing_it_surely_gains_far_more(
    ratio, end, gains, cause
):
    """Longer steps gain as much, since it is sigma that makes them short."""
    tried = replace(trials(**gains), going_on=followed(end, end).going_on)

    judged = with_trials(open_with_sigma_off(ratio=ratio), tried)

    assert judged.cause is cause
    assert (judged.findings[0].cause if judged.findings else None) is cause
    assert judged.confidence <= 0.8


def test_a_sigma_that_may_be_off_by_less_than_a_decade_is_not_named_by_trials():
    tried = replace(trials(refresh=0.3, larger_step=0.4), going_on=followed(1.0, 1.0).going_on)

    assert with_trials(open_with_sigma_off(ratio=2.5, stderr=1.0), tried).cause is None


@pytest.mark.parametrize(("length", "cause"), [(0.1, Cause.PRECISION_STALL), (0.9, None)])
def test_rounding_that_swallows_most_of_a_step_is_named_where_leaving_it_out_surely_gains_far_more(
    length, cause
):
    unsure, rounding = Estimate(0.03, 0.02, 7.0), Precision("bfloat16", 0.9, length, 1.0, 16)
    rounding = replace(rounding, rounded_gain=unsure, exact_gain=unsure, extra=unsure)
    again = conclude(replace(undecided().measured, precision=rounding), COST)
    tried = replace(trials(master_weights=0.3, larger_step=0.4), going_on=followed(1.0, 1.0).going_on)

    assert again.cause is None
    assert with_trials(again, tried).cause is cause


@pytest.mark.parametrize(
    ("named_before", "cause"),
    [(Cause.STEP_TOO_SMALL, Cause.STALE_SECOND_MOMENT), (Cause.HEALTHY, Cause.HEALTHY)],
)
def test_a_sigma_whose_cure_gains_far_more_is_behind_steps_that_are_too_small(named_before, cause):
    verdict = open_with_sigma_off(ratio=6.0)
    found = Finding(named_before, 0.99, (), "", "")
    verdict = replace(verdict, cause=found.cause, confidence=0.99, findings=(found,))
    tried = replace(trials(refresh=0.3, larger_step=0.32), going_on=followed(1.0, 1.0).going_on)

    judged = with_trials(verdict, tried)

    assert judged.cause is cause
    assert named_before in {finding.cause for finding in judged.findings}


@pytest.mark.parametrize(
    ("reason", "excluded", "gain", "cause"),
    [
        ("unlisted", 0.009, 0.6, Cause.FROZEN_PARAMETERS),
        ("frozen", 0.009, 0.6, Cause.STEP_TOO_SMALL),  # by choice
        (
            "unlisted",
            0.003,
            0.6,
            Cause.STEP_TOO_SMALL,
        ),  # one step of these gains little more than of the others
        ("unlisted", 0.009, 0.04, Cause.STEP_TOO_SMALL),
    ],
)
def test_what_the_optimizer_was_not_given_is_named_where_training_it_gains_far_more(
    reason, excluded, gain, cause
):
    missed = (Excluded(reason, ("a",), 50),)
    own, theirs = Estimate(0.002, 1e-6), Estimate(excluded, 1e-6)
    wiring = Wiring(missed, 100, theirs, own, Estimate(excluded - 0.002, 1e-6))
    creeping = continued(0.02, arm("rate", 0.5, factor=10.0))
    routes = (route("gradient", 0.3, 0.3, multiple=30.0), route("krylov", 0.3, 0.3))
    verdict = conclude(measurements(routes, None, (), continuations=creeping, wiring=wiring), COST)
    assert verdict.cause is Cause.STEP_TOO_SMALL
    one = with_trials(verdict, followed(0.95, 0.95, unfreeze=gain, larger_step=0.5))
    assert one.cause is cause


def test_of_two_that_gain_the_same_the_one_that_is_a_part_of_the_other_comes_first():
    found = trials(refresh=0.9)
    for gain, first in ((0.895, ("b",)), (0.85, ("a", "b"))):
        part = replace(found.tried[0], code=("b",), gain=Estimate(gain, 0.01, 5.0))
        whole = replace(found.tried[0], code=("a", "b"))
        one = with_trials(undecided(), replace(found, tried=(whole, part)))
        assert one.trials.tried[0].code == first


def test_a_rate_of_zero_is_no_less_sure_because_a_short_trial_at_another_gains_little():
    wiring = Wiring(
        (Excluded("rate", ("a",), 100),),
        100,
        Estimate(0.02, 0.001),
        Estimate(0.0, 0.0),
        Estimate(0.02, 0.001),
    )
    routes = (route("gradient", 0.02, 0.02), route("krylov", 0.02, 0.02))
    verdict = conclude(measurements(routes, None, (), continuations=continued(0.0), wiring=wiring), COST)
    assert verdict.cause is Cause.STEP_TOO_SMALL
    # A gain of half a hundredth, surely: none worth having.
    short = trials(larger_step=0.005)
    slight = replace(short, tried=(replace(short.tried[0], low=0.004, high=0.006),))
    assert with_trials(verdict, slight).confidence == verdict.confidence
