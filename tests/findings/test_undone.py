"""Steps whose promise is undone are told where they keep the loss up by more than going on gains."""

from dataclasses import replace

import pytest

from unstuck.estimate import Estimate
from unstuck.findings.live.undone import taken_back, undone
from unstuck.findings.records import Cause
from unstuck.measurements.records.live import Recent


def about(value, error=0.1):
    return Estimate(value, error * abs(value), 20.0)


# Plain steps that promise 0.8 of a loss of 1 keep up a fifth of it.
UNDONE = Recent(
    since=500,
    until=1000,
    level=1.0,
    scale=1.0,
    lowest=0.1,
    signal=about(1.0),
    noise=about(30.0),
    promise=about(0.8),
    falls=Estimate(0.0, 0.01, 20.0),
    falls_lately=Estimate(0.0, 0.02, 20.0),
    momentum=0.0,
    rate=0.1,
    first_rate=0.1,
)


def test_what_steps_keep_up_is_a_quarter_of_what_they_promise_and_more_with_momentum():
    assert undone(UNDONE).evidence[0].value == pytest.approx(0.2)
    assert undone(replace(UNDONE, momentum=0.5)).evidence[0].value == pytest.approx(0.4)
    assert undone(replace(UNDONE, level=2.0)).evidence[0].value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({}, Cause.GRADIENT_NOISE),
        ({"noise": about(1.0)}, Cause.STEP_TOO_LARGE),
        ({"signal": about(-1.0)}, Cause.STEP_TOO_LARGE),
        ({"overshoot": about(0.9)}, Cause.STEP_TOO_LARGE),
        ({"promise": about(3.0)}, Cause.STEP_TOO_LARGE),
    ],
)
def test_noise_is_named_unless_steps_are_seen_to_bounce_or_keep_up_most_of_the_loss(change, cause):
    assert undone(replace(UNDONE, **change)).cause == cause


@pytest.mark.parametrize(
    "change",
    [
        {"promise": about(0.3)},  # too little to be worth a word
        {"falls_lately": Estimate(0.05, 0.01, 20.0)},  # the loss is seen to fall
        {"falls": Estimate(0.0, 0.2, 20.0)},  # it might fall by more
        {"promise": about(0.8, error=0.6)},  # nobody knows how much is kept up
        {"rate": 0.05},  # it comes down already
        {"lowest": -1.0},  # nothing is a share of it
        {"shifted": 0.5},  # something else moves the weights
        {"falls_lately": Estimate(-0.3, 0.01, 20.0)},  # it rises: that of something else, perhaps
        {"promise": None},
        {"falls": None},
    ],
)
def test_where_that_is_not_sure_or_on_its_way_nothing_is_said(change):
    assert undone(UNDONE) is not None
    assert undone(replace(UNDONE, **change)) is None


def test_a_loss_that_rises_is_told_of_where_steps_are_seen_to_throw_it_up():
    rises = replace(UNDONE, falls=Estimate(-0.3, 0.01, 20.0), falls_lately=Estimate(-0.3, 0.01, 20.0))
    assert undone(rises) is None
    assert undone(replace(rises, overshoot=about(0.9))).cause == Cause.STEP_TOO_LARGE


def test_how_steps_are_undone_is_said_only_where_it_is_sure():
    assert "most of a step is their noise" in undone(UNDONE).explanation
    assert "is not sure" in undone(replace(UNDONE, signal=about(1.0, error=20.0))).explanation
    assert "point against each other" in undone(replace(UNDONE, signal=about(-1.0))).explanation
    assert "rises along it" in undone(replace(UNDONE, overshoot=about(0.9))).explanation


def test_it_is_taken_back_where_the_rate_comes_down_or_the_loss_falls_again():
    assert not taken_back(UNDONE)
    assert not taken_back(replace(UNDONE, promise=about(0.1)))  # less sure by now
    assert taken_back(replace(UNDONE, rate=0.01))
    assert taken_back(replace(UNDONE, falls_lately=Estimate(0.3, 0.01, 20.0)))
    # By one error and more noise lets it fall in every sixth test, of which there are two at each doubling.
    assert not taken_back(replace(UNDONE, falls_lately=Estimate(0.2, 0.09, 10.0)))
    assert not taken_back(replace(UNDONE, falls=None, falls_lately=None))
