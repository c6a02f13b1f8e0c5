"""What a live run shows names a cause only beyond doubt, each by its own signs."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.estimate import Estimate
from unstuck.findings.live.creeping import creeping, hardly_moved
from unstuck.findings.live.glance import quadratic_gain
from unstuck.findings.live.logged import UNSEEN
from unstuck.findings.live.steps import least_noise
from unstuck.findings.live.verdict import conclude_last, conclude_live, conclude_logged, no_way_down
from unstuck.findings.records import Cause
from unstuck.measurements.records.live import Along, Look, Recent
from unstuck.watching.remarks import unsure

laws = settings(deadline=None, derandomize=True)

SURE = Estimate(0.0, 1e-6, 10.0)


def sure(value):
    return Estimate(value, 1e-4 * abs(value) + 1e-12, 10.0)


FLAT = Along(sure(0.0), sure(1.0))
RECENT = Recent(since=100, until=900, level=2.0, scale=2.0, began=2.3, samples=20)
LOOK = Look(
    step=900,
    loss=2.0,
    gradient_norm=1e-4,
    lambda_min=sure(0.1),
    lambda_max=sure(5.0),
    top_share=0.5,
    size=1000,
    update=Along(sure(-1e-6), sure(1e-6)),
    descent=1e-6,
    krylov=FLAT,
    lowest=None,
    step_length=0.01,
    weight_norm=10.0,
    asymmetry=0.0,
    judges=11,
    gradients=60.0,
    seconds=0.1,
)

BEARING = replace(LOOK, lambda_max=sure(1e-4))  # of what is steepest, a rate a hundred times as high


def causes(recent=RECENT, look=LOOK):
    return [finding.cause for finding in conclude_live(recent, look)]


def test_where_nothing_is_wrong_nothing_is_said_but_that_no_way_down_was_seen():
    assert causes() == []
    assert no_way_down(RECENT, LOOK)
    assert not no_way_down(RECENT, None)


def test_negative_curvature_on_other_batches_with_nothing_else_to_gain_is_a_saddle_point():
    look = replace(LOOK, lambda_min=sure(-1.0), lowest=Along(sure(0.0), sure(-0.5)))
    assert causes(look=look) == [Cause.SADDLE_POINT]


def test_while_the_curvature_may_be_noise_it_is_not_called_a_saddle_nor_noise():
    look = replace(LOOK, lowest=Along(sure(0.0), Estimate(-0.5, 0.2, 3.0)))
    noisy = replace(RECENT, signal=sure(0.01), noise=sure(1.0))
    assert causes(noisy, look) == []


def test_where_the_gradient_still_gains_it_is_no_saddle():
    look = replace(LOOK, lowest=Along(sure(0.0), sure(-0.5)), krylov=Along(sure(-0.5), sure(0.5)))
    assert Cause.SADDLE_POINT not in causes(look=look)


def test_a_step_that_ends_as_steeply_uphill_as_it_began_downhill_is_too_large():
    bouncing = replace(RECENT, overshoot=sure(1.0), descent=0.1)
    assert causes(bouncing) == [Cause.STEP_TOO_LARGE]
    assert causes(replace(bouncing, overshoot=sure(0.2))) == []
    assert causes(replace(bouncing, descent=0.01)) == []  # at the bottom the loss would be 0.1 % lower


def test_where_the_loss_hardly_bends_along_a_step_it_does_not_bounce():
    look = replace(LOOK, descent=1e-3)
    assert causes(replace(RECENT, overshoot=sure(1.0), descent=0.1), look) == []


def test_a_loss_far_above_where_it_began_was_thrown_there():
    assert causes(replace(RECENT, overshoot=sure(0.1), level=50.0)) == [Cause.STEP_TOO_LARGE]
    assert causes(replace(RECENT, overshoot=sure(-0.5), level=50.0)) == []


def test_noise_is_named_when_a_step_loses_on_other_batches_what_it_gains_on_its_own():
    noisy = replace(RECENT, signal=sure(0.1), noise=sure(1.0))
    look = replace(LOOK, update=Along(sure(1e-5), sure(1e-4)), descent=0.2)
    assert causes(noisy, look) == [Cause.GRADIENT_NOISE]
    assert causes(noisy, replace(look, update=Along(sure(-1e-2), sure(1e-3)))) != [Cause.GRADIENT_NOISE]


def test_a_signal_that_may_be_nothing_gives_a_noise_scale_without_bound_or_with_a_low_one():
    assert least_noise(replace(RECENT, signal=sure(-0.1), noise=sure(1.0))) >= 1e4
    wide = Estimate(0.1, 0.2, 10.0)
    assert least_noise(replace(RECENT, signal=wide, noise=sure(1.0))) < 3.0
    assert least_noise(RECENT) is None


def test_a_step_that_could_be_many_times_longer_is_too_small():
    look = replace(BEARING, update=Along(sure(-1e-3), sure(1e-6)), krylov=Along(sure(-1.0), sure(1.0)))
    assert causes(look=look) == [Cause.STEP_TOO_SMALL]


def test_a_step_along_which_the_loss_does_not_curve_is_too_small_where_there_is_something_to_gain():
    look = replace(BEARING, update=Along(sure(-1e-7), sure(-1e-14)), krylov=Along(sure(-1.0), sure(1.0)))
    assert causes(look=look) == [Cause.STEP_TOO_SMALL]
    assert Cause.STEP_TOO_SMALL not in causes(look=replace(look, krylov=FLAT))


CREEPING = replace(RECENT, since=1, overshoot=Estimate(-0.8, 0.1, 8.0), step_share=1e-8, descent=1e-7)


def test_a_run_whose_steps_lead_down_but_have_never_led_anywhere_has_too_small_ones():
    assert causes(CREEPING, None) == [Cause.STEP_TOO_SMALL]
    assert [finding.cause for finding in conclude_logged(CREEPING)] == [Cause.STEP_TOO_SMALL]


@pytest.mark.parametrize(
    "change",
    [
        {"since": 100},  # it has come down first: longer steps might bounce
        {"overshoot": Estimate(-0.1, 0.1, 8.0)},  # no batch but its own bears a step out
        {"overshoot": None},
        {"step_share": 1e-3},  # the weights have gone far enough
        {"descent": 1e-3},  # the steps promised much, and did not keep it
        {"descent": 1e-11},  # nothing to gain as far as the weights reach: flat
    ],
)
def test_without_one_of_its_signs_creeping_is_not_claimed(change):
    assert causes(replace(CREEPING, **change), None) == []


def test_a_run_that_has_hardly_moved_is_not_held_by_the_saddle_point_it_began_beside():
    # The best step is ten thousand times as long, and gains half a percent: after that the loss curves down.
    near = replace(BEARING, update=Along(sure(-1e-6), sure(1e-10)), lowest=Along(sure(-1e-3), sure(-0.5)))
    assert causes(CREEPING, near) == [Cause.STEP_TOO_SMALL, Cause.SADDLE_POINT]
    assert causes(replace(CREEPING, since=100), near) == [Cause.SADDLE_POINT]  # it has come there
    assert causes(CREEPING, replace(near, lowest=None)) == []  # there is nothing to be led away to


def test_steps_that_change_nothing_are_too_small_unless_there_is_nothing_to_gain_or_few_digits():
    still = replace(RECENT, unchanged=0.9, reach=1.0, step_share=1e-9)
    assert causes(still, None) == [Cause.STEP_TOO_SMALL]
    assert causes(replace(still, reach=1e-3), None) == []
    assert causes(replace(still, piled=True), None) == []  # a sum of gradients is not that of the loss
    assert (
        causes(replace(still, step_share=1e-3), None) == []
    )  # the others move: most have no gradient to speak of
    assert causes(replace(still, narrow=True), None) == [Cause.PRECISION_STALL]


def test_steps_of_nothing_are_too_small_whatever_a_look_along_them_says_where_there_is_much_to_gain():
    still = replace(RECENT, unchanged=1.0, reach=1.0, step_share=0.0, rate=0.0, first_rate=0.1)
    nowhere = replace(LOOK, step_length=0.0, update=Along(sure(0.0), sure(0.0)))
    (found,) = conclude_live(still, replace(nowhere, krylov=Along(sure(-1.0), sure(1.0))))
    assert found.cause == Cause.STEP_TOO_SMALL
    assert "has come down to nothing, from 0.1" in found.explanation
    assert (
        conclude_live(still, nowhere) == ()
    )  # noise alone: a step that is corrected for curvature gains nothing


@pytest.mark.parametrize(("level", "told"), [(2.0, []), (2.2, [Cause.STEP_TOO_SMALL])])
def test_steps_of_nothing_are_too_small_where_nothing_is_to_gain_but_nothing_has_been_learnt(level, told):
    still = replace(RECENT, level=level, unchanged=1.0, reach=1.0, step_share=0.0, rate=0.0, first_rate=0.1)
    nowhere = replace(LOOK, step_length=0.0, update=Along(sure(0.0), sure(0.0)))
    found = conclude_live(still, nowhere)
    assert [one.cause for one in found] == told
    assert all(one.confidence <= UNSEEN for one in found)


def test_a_gradient_that_is_clipped_far_below_that_of_the_loss_is_said():
    look = replace(
        LOOK, gradient_norm=1.0, update=Along(sure(-1e-3), sure(1e-6)), krylov=Along(sure(-1.0), sure(1.0))
    )
    (found,) = conclude_live(replace(RECENT, gradient_norm=1e-5), look)
    assert "as clipping makes it" in found.explanation
    (found,) = conclude_live(replace(RECENT, gradient_norm=0.5), look)
    assert "clipping" not in found.explanation


ADRIFT = replace(CREEPING, overshoot=None, signal=Estimate(0.1, 0.01, 20.0), gradient_norm=0.4, reach=4.0)


def test_steps_that_rounding_turns_aside_have_led_nowhere_either_where_batches_agree_on_a_gradient():
    assert causes(ADRIFT, None) == [Cause.STEP_TOO_SMALL]
    for change in (
        {"narrow": True, "unchanged": 0.9},
        {"signal": Estimate(0.1, 0.1, 20.0)},  # perhaps noise alone
        {"step_share": 1e-3},
        {"since": 100},
        {"reach": 4e-3},  # nothing to gain as far as the weights reach
    ):
        found = causes(replace(ADRIFT, **change), None)
        assert found == ([Cause.PRECISION_STALL] if "narrow" in change else [])


def test_several_layers_of_zeros_without_a_gradient_are_a_saddle_point_and_one_is_not():
    assert causes(replace(RECENT, zeros=("0", "2")), None) == [Cause.SADDLE_POINT]
    assert causes(replace(RECENT, zeros=("0",)), None) == []


def test_sigma_is_not_called_stale_where_the_gradient_is_gone_with_dead_units():
    stale = replace(RECENT, sigma_ratio=1e5, lately=sure(-0.9))
    assert causes(stale, None) == [Cause.STALE_SECOND_MOMENT]
    assert causes(replace(stale, silent=("0",)), None) == [Cause.DEAD_UNITS]


def test_sigma_is_not_called_stale_where_the_gradient_is_gone_since_there_is_nothing_left_to_gain():
    stale = replace(RECENT, sigma_ratio=1e5, reach=1.0)
    look = replace(LOOK, update=Along(sure(-1e-3), sure(1e-6)), krylov=Along(sure(-0.5), sure(0.5)))
    assert Cause.STALE_SECOND_MOMENT in causes(stale, look)
    long = replace(look, update=Along(sure(-1e-3), sure(1e-3)))  # another scale would make them too long
    assert Cause.STALE_SECOND_MOMENT not in causes(stale, long)
    assert causes(stale, LOOK) == []
    assert causes(replace(stale, reach=1e-4, lately=sure(-0.9)), None) == []
    assert causes(replace(stale, ahead=1e-3, lately=sure(-0.9)), None) == []
    assert causes(replace(stale, ahead=1.0, lately=sure(-0.9)), None) == [Cause.STALE_SECOND_MOMENT]
    for unknown in (
        None,
        sure(0.1),
        Estimate(-0.9, 0.6, 4.0),
    ):  # without a look, where steps may lead nowhere
        assert causes(replace(stale, lately=unknown), None) == []
    assert causes(replace(stale, lately=sure(-0.9)), None) == [Cause.STALE_SECOND_MOMENT]


def test_sigma_is_stale_where_all_steps_together_could_not_move_along_a_gradient_that_batches_agree_on():
    agreed = replace(
        RECENT,
        sigma_ratio=1e5,
        reach=1.0,
        step_share=1e-7,
        signal=Estimate(0.3, 0.03, 7.0),
        gradient_norm=0.5,
    )
    assert causes(agreed, None) == [Cause.STALE_SECOND_MOMENT]
    for other in (
        {"signal": Estimate(0.3, 0.2, 7.0)},  # it may be noise
        {"step_share": 1e-3},  # eight hundred of them are a way
        {"step_share": None},
        {"reach": 0.01},
        {"sigma_ratio": 5.0},
    ):
        assert causes(replace(agreed, **other), None) == []


def test_noise_is_no_cause_where_it_does_no_harm():
    noisy = replace(RECENT, signal=sure(1e-6), noise=sure(1.0), descent=0.5)
    look = replace(LOOK, update=Along(sure(0.0), sure(1e-3)))
    assert causes(noisy, look) == [Cause.GRADIENT_NOISE]
    assert causes(noisy, replace(look, update=Along(sure(0.0), sure(1e-6)))) == []
    assert (
        causes(replace(noisy, descent=0.05), look) == []
    )  # at its floor, noise would keep the loss up by 0.6 %
    assert causes(replace(noisy, descent=0.05), replace(look, momentum=0.9)) == [Cause.GRADIENT_NOISE]


def test_what_had_a_gradient_at_first_has_lost_it_by_the_steps():
    first = (("0", 0.1), ("2", 0.2))
    (dead,) = conclude_logged(replace(RECENT, silent=("0",), first_depths=first))
    assert dead.cause == Cause.DEAD_UNITS
    assert "The steps have brought them there" in dead.explanation
    assert dead.advice.startswith("Begin anew with a lower learning rate")
    (never,) = conclude_logged(replace(RECENT, silent=("0",), first_depths=(("0", 0.0), ("2", 0.2))))
    assert "brought" not in never.explanation
    flat = replace(RECENT, gradient_norm=0.0)
    (always,) = conclude_logged(flat)
    (since,) = conclude_logged(replace(flat, first_depths=first))
    assert always.cause == since.cause == Cause.PLATEAU
    assert since.confidence == UNSEEN < always.confidence
    # What has brought it there comes before it.
    thrown = replace(flat, first_depths=first, descent=20.0, lowest=0.1)
    assert [found.cause for found in conclude_logged(thrown)] == [Cause.STEP_TOO_LARGE, Cause.PLATEAU]
    assert causes(thrown, None) == [Cause.STEP_TOO_LARGE, Cause.PLATEAU]


def test_what_sits_where_it_has_no_slope_is_saturated_unless_there_is_another_way_past_it():
    look = replace(LOOK, flat=(("0", 0.97), ("2", 0.3)))
    (found,) = conclude_live(RECENT, look)
    assert found.cause == Cause.SATURATED_UNITS
    assert "`0`" in found.explanation
    assert "`2`" not in found.explanation
    assert causes(look=replace(LOOK, flat=(("0", 0.5),))) == []
    assert "Scale the inputs" in found.advice
    bypassed = replace(RECENT, depths=(("in", 1.0), ("0", 0.01), ("2", 0.1)))
    assert causes(bypassed, look) == []


def test_layers_that_get_no_gradient_through_saturated_units_are_not_dead():
    silent = replace(RECENT, silent=("0", "2", "4"))
    assert causes(silent) == [Cause.DEAD_UNITS]
    assert causes(silent, replace(LOOK, flat=(("4", 1.0),))) == [Cause.SATURATED_UNITS]
    both = causes(silent, replace(LOOK, flat=(("0", 1.0),)))  # nothing saturated lies behind the others
    assert both == [Cause.DEAD_UNITS, Cause.SATURATED_UNITS]
    assert causes(silent, replace(LOOK, flat=(("4", 0.5),))) == [Cause.DEAD_UNITS]


def test_units_that_the_steps_have_saturated_are_put_down_to_them():
    look = replace(LOOK, flat=(("0", 0.97),))
    then, now = (("0", 0.5), ("2", 1.0)), (("0", 0.001), ("2", 1.0))
    driven = replace(RECENT, first_depths=then, depths=now, driven=("0",))
    (found,) = conclude_live(driven, look)
    assert found.confidence == UNSEEN
    assert "lower learning rate" in found.advice
    for other in (
        {"driven": ()},  # by their inputs
        {"driven": ("2",)},
        {"first_depths": now},  # flat from the start
    ):
        (found,) = conclude_live(replace(driven, **other), look)
        assert "lower learning rate" not in found.advice
    at_once = replace(driven, first_depths=now, first_share=0.5)
    (found,) = conclude_live(at_once, look)
    assert "lower learning rate" in found.advice


def test_what_saturated_units_make_flat_is_no_plateau_besides():
    flat = replace(LOOK, gradient_norm=1e-9, lambda_max=sure(1e-9), lambda_min=sure(-1e-10))
    assert causes(look=flat) == [Cause.PLATEAU]
    assert causes(look=replace(flat, flat_outputs=(("2", 0.99),))) == [Cause.SATURATED_UNITS]


def test_a_loss_that_rose_until_it_was_no_number_was_driven_there_by_its_steps():
    broken = replace(RECENT, not_finite=16, broken="loss", began=1.1)
    (found,) = conclude_live(replace(broken, level=1e30), None)
    assert "risen to 1e+30, from 1.1" in found.explanation
    assert "lower the learning rate" in found.advice
    (found,) = conclude_live(replace(broken, level=0.5), None)
    assert "risen" not in found.explanation


def test_steps_that_cannot_have_done_anything_are_said_though_nothing_shows_what_longer_ones_would_do():
    still = replace(RECENT, since=1, until=2000, step_share=1e-7, descent=1e-9)
    assert creeping(still, None) is None
    assert "no more than 0.02 % of their length" in hardly_moved(still)
    for other in ({"descent": 1e-3}, {"step_share": 1e-3}, {"clipped": True}, {"since": 100}):
        assert hardly_moved(replace(still, **other)) == ""


def test_a_look_along_the_steps_overrules_the_record_on_creeping():
    assert causes(CREEPING, replace(LOOK, update=Along(sure(0.0), sure(1.0)))) == []
    open_ = Along(Estimate(-1e-8, 1e-8, 3.0), sure(1e-15))
    assert causes(CREEPING, replace(LOOK, update=open_)) == [Cause.STEP_TOO_SMALL]


def test_what_a_look_could_gainsay_is_not_said_before_it():
    bouncing = replace(RECENT, overshoot=sure(1.5), descent=0.1)
    assert causes(bouncing, None) == [Cause.STEP_TOO_LARGE]
    assert conclude_logged(bouncing) == ()


def test_a_great_gain_by_curvature_alone_is_ill_conditioning():
    look = replace(LOOK, update=Along(sure(-1e-3), sure(1e-3)), krylov=Along(sure(-1.0), sure(1.0)))
    assert causes(look=look) == [Cause.ILL_CONDITIONED]
    assert causes(replace(RECENT, lowest=0.1), look) == [Cause.ILL_CONDITIONED]
    # Of 0.4 it cannot fall by 0.5, unless it may be negative.
    assert causes(replace(RECENT, lowest=0.1, level=0.4), look) == []
    assert causes(replace(RECENT, lowest=-0.1, level=0.4), look) == [Cause.ILL_CONDITIONED]
    assert Cause.ILL_CONDITIONED not in causes(look=replace(look, step_length=0.0))
    rounded = replace(RECENT, narrow=True, unchanged=0.9)
    assert causes(rounded, look) == [Cause.PRECISION_STALL]


@pytest.mark.parametrize(
    ("recent", "cause"),
    [
        (replace(RECENT, not_finite=7, broken="loss"), Cause.NON_FINITE),
        (replace(RECENT, unchanged=0.9, narrow=True), Cause.PRECISION_STALL),
        (replace(RECENT, sigma_ratio=50.0, lately=sure(-0.9)), Cause.STALE_SECOND_MOMENT),
        (replace(RECENT, silent=("0",)), Cause.DEAD_UNITS),
        (replace(RECENT, unlisted=("body.weight",), left_out=0.9), Cause.FROZEN_PARAMETERS),
        (replace(RECENT, unreached=("body.weight",), left_out=0.9), Cause.FROZEN_PARAMETERS),
        (
            replace(RECENT, depths=tuple((f"layer{place}", 10.0 ** (place - 8)) for place in range(8))),
            Cause.VANISHING_GRADIENT,
        ),
    ],
)
def test_the_record_alone_names(recent, cause):
    assert causes(recent, None) == [cause]


def test_single_precision_is_no_precision_stall():
    assert causes(replace(RECENT, unchanged=0.9, narrow=False), None) == []


def test_one_layer_that_gets_little_is_no_vanishing_gradient():
    depths = (("query", 1e-6), ("key", 1.0), ("value", 1.0), ("out", 1.0), ("head", 1.0))
    assert causes(replace(RECENT, depths=depths), None) == []


def test_flat_as_far_as_the_weights_reach_is_a_plateau():
    look = replace(LOOK, gradient_norm=1e-7, lambda_max=sure(1e-7), lambda_min=sure(0.0), krylov=FLAT)
    assert causes(look=look) == [Cause.PLATEAU]
    elsewhere = replace(RECENT, unreached=("0.weight",), left_out=1.0)
    assert causes(elsewhere, look) == [Cause.FROZEN_PARAMETERS]  # it is flat in what it does not depend on


numbers = st.floats(-1e3, 1e3)
estimates = st.builds(Estimate, numbers, st.floats(0.0, 1e3), st.floats(1.0, 50.0))
alongs = st.one_of(st.none(), st.builds(Along, estimates, estimates))


recents = st.builds(
    replace,
    st.just(RECENT),
    level=st.floats(1e-6, 1e3),
    signal=estimates,
    noise=estimates,
    overshoot=estimates,
)
looks = st.builds(
    replace, st.just(LOOK), update=alongs, krylov=alongs, lowest=alongs, weight_norm=st.floats(0.0, 1e3)
)


@laws
@given(recents, looks)
def test_whatever_was_measured_each_finding_has_a_confidence_and_finite_evidence(recent, look):
    for finding in conclude_live(recent, look):
        assert 0.0 < finding.confidence <= 0.99
        assert all(not math.isnan(evidence.value) for evidence in finding.evidence)


@laws
@given(st.floats(0.0, 1e3), st.floats(0.0, 1e3))
def test_curvature_that_is_not_negative_is_never_called_a_saddle(curvature, stderr):
    look = replace(LOOK, lowest=Along(sure(0.0), Estimate(curvature, stderr, 10.0)))
    assert Cause.SADDLE_POINT not in causes(look=look)


def test_a_gradient_that_fades_through_time_is_named_where_little_has_been_learnt():
    faded = replace(LOOK, unrolled=(("rnn", 60, (1e-8, 1e-6, 1e-3, 1.0)),))
    assert causes(look=faded) == [Cause.VANISHING_GRADIENT]
    assert causes(replace(RECENT, began=10.0), faded) == []  # it may have learnt all that there is
    for sizes in ((0.1, 0.2, 0.5, 1.0), (0.0, 0.0, 0.0, 1.0), (1e-8, 1.0, 1.0, 1.0)):
        assert causes(look=replace(LOOK, unrolled=(("rnn", 60, sizes),))) == []


def test_where_layers_are_zero_or_behind_steps_no_look_calls_the_loss_flat():
    flat = replace(LOOK, gradient_norm=0.0, lambda_min=sure(0.0), lambda_max=sure(1e-6), weight_norm=0.0)
    assert causes(look=flat) == [Cause.PLATEAU]
    assert causes(replace(RECENT, zeros=("users", "items")), flat) == [Cause.SADDLE_POINT]
    behind = replace(RECENT, stepped=("0.weight",), ends=("sign",), left_out=1.0)
    assert causes(behind, flat) == [Cause.FROZEN_PARAMETERS]


def test_where_gradients_pile_up_the_steps_do_not_say_how_the_loss_bends():
    look = replace(LOOK, update=Along(sure(0.0), sure(1.0)), krylov=Along(sure(-0.5), sure(0.5)))
    assert Cause.ILL_CONDITIONED in causes(look=look)
    assert Cause.ILL_CONDITIONED not in causes(replace(RECENT, piled=True), look)
    said = unsure(replace(RECENT, piled=True), look, waiting=False, shrunk=1.0, before=None)
    assert "optimizer.zero_grad()" in said


def test_a_step_that_promises_many_times_what_there_is_to_lose_is_too_large():
    far = replace(RECENT, descent=20.0, lowest=0.1)
    (found,) = conclude_logged(far)
    assert found.cause == Cause.STEP_TOO_LARGE
    assert conclude_logged(replace(far, descent=2.0)) == ()
    assert conclude_logged(replace(far, lowest=-0.1)) == ()  # there is more to lose than the loss
    noisy = replace(far, signal=sure(1e-6), noise=sure(1.0))
    assert causes(noisy, replace(LOOK, update=Along(sure(0.0), sure(1e-3)))) == [Cause.STEP_TOO_LARGE]


def test_nothing_learnt_since_steps_that_left_nothing_of_the_weights_is_put_down_to_them_at_last():
    hot = replace(RECENT, level=2.28, first_share=0.2)
    (found,) = conclude_last(hot, None)
    assert found.cause == Cause.STEP_TOO_LARGE
    for other in (
        {"first_share": 0.01},
        {"first_share": 1.0},  # from weights of zero
        {"level": 1.8},
        {"overshoot": sure(-0.9)},
    ):
        assert conclude_last(replace(hot, **other), None) == ()
    assert conclude_last(hot, LOOK) == ()  # a look sees no way down
    # Not from weights of zero, as is known of steps that changed every layer so much.
    (found,) = conclude_last(replace(hot, first_share=1.0, remade=True), None)
    assert found.cause == Cause.STEP_TOO_LARGE


def test_so_it_is_where_steps_have_made_the_weights_many_times_as_long_as_they_were():
    far = replace(RECENT, level=2.28, first_share=0.05, grown=85.0)
    (found,) = conclude_last(far, None)
    assert found.cause == Cause.STEP_TOO_LARGE
    assert "85 times as long" in found.explanation
    for other in (
        {"grown": 3.0},
        {"first_share": 1.0},  # from weights of zero
        {"level": 1.8},
        {"overshoot": sure(-0.9)},
    ):
        assert conclude_last(replace(far, **other), None) == ()


def test_what_the_best_step_gains_is_as_sure_as_that_step_and_not_as_a_longer_one():
    gain = quadratic_gain(Estimate(-1.0, 0.1, 10.0), Estimate(10.0, 0.0, 10.0))
    assert gain.value == pytest.approx(0.05)
    assert gain.stderr == pytest.approx(0.01, rel=0.1)  # of the tenth of the way that is best
    nothing = quadratic_gain(Estimate(0.05, 0.1, 10.0), Estimate(10.0, 0.0, 10.0))
    assert (nothing.value, nothing.stderr) == (0.0, pytest.approx(0.05**2 / 20.0))
    assert quadratic_gain(Estimate(-1.0, math.inf, 1.0), Estimate(10.0, math.inf, 1.0)).stderr == math.inf


def test_a_rate_that_has_always_been_zero_is_said():
    still = replace(RECENT, unchanged=1.0, reach=1.0, step_share=0.0, rate=0.0, first_rate=0.0)
    (found,) = conclude_logged(still)
    assert "has been 0 at every step" in found.explanation


def test_gradients_that_are_all_clipped_to_next_to_nothing_are_said():
    cut = replace(CREEPING, descent=1e-14, gradient_norm=1.5e-5)
    assert conclude_logged(cut) == ()
    (found,) = conclude_logged(replace(cut, clipped=True))
    assert found.cause == Cause.STEP_TOO_SMALL
    assert "unscale_" in found.advice
    assert conclude_logged(replace(cut, clipped=True, step_share=1e-3)) == ()
    # Nor does it say, of a loss that is not known to stand still, that steps cannot have moved it.
    assert creeping(replace(CREEPING, clipped=True), None) is None


def test_gradients_that_are_exactly_zero_are_a_plateau_unless_it_is_known_why():
    flat = replace(RECENT, gradient_norm=0.0, level=0.0, scale=1e-300)
    (found,) = conclude_logged(flat)
    assert found.cause == Cause.PLATEAU
    assert causes(flat, LOOK) == [Cause.PLATEAU]
    for why in ({"erased": True}, {"stepped": ("0.weight",), "ends": ("round",), "left_out": 1.0}):
        assert [one.cause for one in conclude_logged(replace(flat, **why))] == [Cause.FROZEN_PARAMETERS]
    assert [one.cause for one in conclude_logged(replace(flat, zeros=("0", "1")))] == [Cause.SADDLE_POINT]


def test_a_rate_that_the_steepest_direction_bears_no_more_of_is_not_too_small():
    along = replace(
        LOOK, gradient_norm=1.0, step_length=0.1, descent=0.1, update=Along(sure(-0.1), sure(1e-5))
    )
    assert causes(look=replace(along, lambda_max=sure(0.1))) == [Cause.STEP_TOO_SMALL]
    assert causes(look=replace(along, lambda_max=sure(19.0))) == [Cause.ILL_CONDITIONED]
    (found,) = conclude_live(RECENT, replace(along, lambda_max=sure(19.0)))
    assert {one.name: one.value for one in found.evidence}["sharpness_over_limit"] == pytest.approx(0.95)
    scaled = replace(along, lambda_max=sure(19.0), descent=0.01)  # by another scale for each direction
    assert causes(look=scaled) == [Cause.STEP_TOO_SMALL]
    heavy = replace(
        along, lambda_max=sure(19.0), momentum=0.9
    )  # a tenth of the rate, and it bears nearly twice
    assert causes(look=heavy) == [Cause.STEP_TOO_SMALL]


def test_a_gradient_that_did_not_vanish_at_first_is_put_down_to_the_steps():
    faded = tuple((f"layer{place}", 10.0 ** (place - 8)) for place in range(8))
    (found,) = conclude_logged(replace(RECENT, depths=faded, first_depths=faded))
    assert "He initialisation" in found.advice
    even = tuple((name, 1.0) for name, _ in faded)
    (found,) = conclude_logged(replace(RECENT, depths=faded, first_depths=even))
    assert (found.cause, found.confidence) == (Cause.VANISHING_GRADIENT, 0.6)
    assert "lower learning rate" in found.advice


def test_outputs_that_sit_where_they_have_no_slope_are_saturated_unless_they_have_learnt():
    look = replace(LOOK, flat_outputs=(("2", 0.99),))
    (found,) = conclude_live(RECENT, look)
    assert found.cause == Cause.SATURATED_UNITS
    assert "logits" in found.advice
    assert causes(replace(RECENT, began=20.0), look) == []
    assert causes(look=replace(LOOK, flat_outputs=(("2", 0.5),))) == []


def test_outputs_that_a_loss_wants_beyond_their_bounds_are_flat_by_that_alone():
    beyond = replace(
        LOOK, flat_outputs=(("2", 1.0),), beyond="The outputs lie below 1, but their targets at 255"
    )
    assert causes(look=beyond) == [Cause.MISMATCHED_LOSS]
    twice = replace(RECENT, twice="The loss takes a sigmoid, and is given one")
    assert causes(twice, replace(beyond, beyond="")) == [Cause.MISMATCHED_LOSS]


def test_where_gradients_pile_up_no_look_is_waited_for():
    assert "zero_grad" in unsure(replace(RECENT, piled=True), None, waiting=True, shrunk=1.0, before=None)
    assert "share" in unsure(RECENT, None, waiting=True, shrunk=1.0, before=None)


def test_a_softmax_over_one_class_explains_that_there_is_no_gradient():
    nothing = replace(RECENT, gradient_norm=0.0)
    assert causes(nothing, None) == [Cause.PLATEAU]
    assert causes(replace(nothing, alone="A softmax over a single class is 1"), None) == [
        Cause.MISMATCHED_LOSS
    ]
