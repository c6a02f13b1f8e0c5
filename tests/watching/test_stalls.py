"""A loss that has stopped improving is found, with its onset; one that improves is left alone."""

import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.watching.losses.stalls import (
    FALSE_ALARMS,
    FIRST_LOOK,
    LEAST_OF_LEVEL,
    PACE_ERRORS,
    Moving,
    Stall,
    Stalls,
)

laws = settings(deadline=None, derandomize=True, max_examples=25)


def said(losses, rates=None):
    stalls = Stalls()
    rates = [None] * len(losses) if rates is None else rates
    told = [stalls.add(loss, rate) for loss, rate in zip(map(float, losses), rates, strict=True)]
    return [one for one in told if one is not None]


def white(count, *, seed=0, noise=0.01):
    return 1.0 + noise * np.random.default_rng(seed).standard_normal(count)


def correlated(count, *, seed, noise, correlation):
    rng = np.random.default_rng(seed)
    fresh = math.sqrt(1 - correlation**2) * rng.standard_normal(count)
    fresh[0] = rng.standard_normal()
    return 1.0 + noise * np.array(list(accumulate(fresh, lambda was, new: correlation * was + new)))


def heavy(count, *, seed, noise):
    return 1.0 + noise * np.random.default_rng(seed).standard_t(3, count) / math.sqrt(3)


NOISES = {
    "white": lambda count, seed, noise: white(count, seed=seed, noise=noise),
    "correlated over 10 steps": lambda count, seed, noise: correlated(
        count, seed=seed, noise=noise, correlation=0.9
    ),
    "correlated over 100 steps": lambda count, seed, noise: correlated(
        count, seed=seed, noise=noise, correlation=0.99
    ),
    "heavy-tailed": lambda count, seed, noise: heavy(count, seed=seed, noise=noise),
}


def test_a_loss_that_creeps_on_more_slowly_than_counts_as_moving_is_not_said_to_improve_again():
    steps = np.arange(1, 6001)
    (stall,) = said(1.0 + 0.1 * np.exp(-steps / 5) - 0.0005 * np.log2(steps / 128).clip(0.0))
    assert stall.step == FIRST_LOOK


@laws
@given(st.floats(-1e9, 1e9))
def test_a_constant_loss_is_stalled_from_the_first_step_at_the_first_look(level):
    (stall,) = said([level] * 400)
    assert (stall.step, stall.since) == (FIRST_LOOK, 1)
    assert stall.level == pytest.approx(level)


@laws
@given(st.floats(0.05, 2.0), st.floats(0.1, 1e6))
def test_a_noiseless_power_law_that_gains_more_than_the_bound_is_never_stalled(exponent, scale):
    steps = np.arange(1, 1500)
    assert 1 - 2**-exponent > LEAST_OF_LEVEL
    assert not said(scale * steps**-exponent)


@laws
@given(st.integers(-60, 60), st.integers(0, 5))
def test_the_answer_does_not_change_when_the_loss_is_scaled(power, seed):
    losses = (0.5 + 2 * np.exp(-np.arange(1200) / 50)) * white(1200, seed=seed, noise=0.003)
    plain, scaled = said(losses), said(losses * 2.0**power)
    assert plain
    assert [(one.step, one.since, one.level * 2.0**power) for one in plain] == [
        (one.step, one.since, one.level) for one in scaled
    ]


@laws
@given(st.floats(1e-4, 1e4))
def test_the_answer_does_not_change_when_the_rate_is_scaled(factor):
    steps = np.arange(1200)
    rates = np.minimum(steps / 300, 1.0)
    losses = white(1200)
    assert said(losses, list(rates)) == said(losses, list(factor * rates))


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_noisy_curves_that_still_improve_give_no_more_false_alarms_than_stated(noise, share):
    runs, steps = 16, np.arange(1, 1201)
    alarms = sum(bool(said(steps**-0.06 * NOISES[noise](1200, seed, share))) for seed in range(runs))
    # The 99.9 % quantile of a binomial law of so many runs at the stated rate.
    assert alarms <= FALSE_ALARMS * runs + 3.1 * math.sqrt(FALSE_ALARMS * runs)


@pytest.mark.parametrize("seed", range(5))
def test_a_stall_with_a_known_onset_is_found_with_its_onset(seed):
    onset = 600
    steps = np.minimum(np.arange(1, 3001), onset)
    stall, *others = said(steps**-0.5 * white(3000, seed=seed))
    assert not others
    assert onset < stall.step < 4 * onset
    assert stall.since == pytest.approx(onset, rel=0.25)
    assert stall.level == pytest.approx(onset**-0.5, rel=0.02)
    assert stall.gain.value < stall.most < LEAST_OF_LEVEL * stall.level
    assert not stall.rising


def test_a_stall_is_told_once_and_again_after_a_sure_new_low():
    fall = np.clip((np.arange(8000) - 2000) / 500, 0.0, 1.0)
    first, moving, second = said((1.0 - 0.6 * fall) * white(8000))
    assert isinstance(first, Stall)
    assert isinstance(moving, Moving)
    assert isinstance(second, Stall)
    assert 2000 < moving.since < moving.step < 2500
    assert moving.level < first.level < 1.01
    assert second.since == pytest.approx(2500, rel=0.1)
    assert second.level == pytest.approx(0.4, rel=0.01)


@laws
@given(st.integers(0, 30))
def test_a_stall_that_lasts_is_not_said_to_move(seed):
    (only,) = said(correlated(6000, seed=seed, noise=0.005, correlation=0.5))
    assert isinstance(only, Stall)


def test_a_loss_that_rises_has_stopped_improving_since_its_lowest():
    steps = np.arange(2500)
    (stall,) = said(np.abs(steps - 1000) / 1000 + white(2500))
    assert stall.rising
    assert stall.most < 0.0
    assert stall.since == pytest.approx(1000, rel=0.05)


def led_astray(seed=0):
    """Falls from 3 to 1 in 400 steps, climbs back to 2 by step 800, and stays there."""
    course = np.interp(np.arange(4000), [0, 300, 400, 800], [3.0, 1.0, 1.0, 2.0])
    return [*(course * white(4000, seed=seed)).tolist()]


def test_where_a_loss_stood_lower_is_known_also_long_afterwards():
    stalls = Stalls()
    (stall,) = [one for loss in led_astray() if (one := stalls.add(loss)) is not None]
    assert stall.rising
    assert stall.since == pytest.approx(350, abs=60)
    step, level = stalls.stood_lower()
    assert step == pytest.approx(350, abs=60)
    assert level == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("high", "since", "known"), [(3.0, 800, True), (1.8, 800, False), (3.0, 980, False)])
def test_a_loss_that_ends_at_more_than_twice_what_it_stood_at_is_known_to(high, since, known):
    stalls = Stalls()
    for loss in (white(1000) * np.where(np.arange(1000) < since, 1.0, high)).tolist():
        stalls.add(loss)
    found = stalls.stood_half_as_high()
    assert (found is not None) is known
    if found is not None:
        assert found[0] < since
        assert found[1] == pytest.approx(1.0, abs=0.05)


def test_what_was_lower_before_the_rate_rose_is_not_where_a_loss_stood_at_this_rate():
    stalls = Stalls()
    for step, loss in enumerate((white(1000) * np.where(np.arange(1000) < 500, 1.0, 3.0)).tolist()):
        stalls.add(loss, 0.1 if step < 500 else 0.5)
    assert stalls.stood_half_as_high() is None


@pytest.mark.parametrize("fall", [0.0, 0.1])
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_how_fast_a_loss_falls_is_known_with_its_error(fall, noise):
    steps, off = np.arange(1, 4001), []
    for seed in range(12):
        stalls = Stalls()
        for loss in ((2.0 - fall * np.log2(steps)) * white(4000, seed=seed, noise=noise)).tolist():
            stalls.add(loss)
        pace = stalls.pace()
        level = 2.0 - fall * np.log2(steps[2000:]).mean()
        assert pace.level == pytest.approx(level, rel=5 * noise / math.sqrt(2000) + 0.01)
        bounds = [one.value + one.margin(PACE_ERRORS) for one in (pace.falls, pace.lately)]
        assert bounds[0] <= bounds[1]
        off.append(abs(pace.lately.value - fall / level) < pace.lately.margin(2.0) + 0.03 * fall)
    assert sum(off) >= 10


def test_of_a_loss_that_is_not_positive_no_pace_is_known():
    stalls = Stalls()
    for loss in (white(1000) - 2.0).tolist():
        stalls.add(loss)
    assert stalls.pace() is None
    assert Stalls().pace() is None


def test_a_loss_that_has_only_fallen_has_not_stood_lower_before():
    stalls = Stalls()
    losses = np.interp(np.arange(4000), [0, 800], [3.0, 1.0]) * white(4000)
    assert any(stalls.add(loss) is not None for loss in losses.tolist())
    assert stalls.stood_lower() is None


def test_a_loss_that_stood_lower_once_stands_still_only_since_it_is_where_it_is():
    stalls = Stalls()
    for loss in led_astray():
        stalls.add(loss)
    stalls.forget()
    stall = stalls.conclude()
    assert stall is not None
    assert not stall.rising
    assert 500 <= stall.since <= 1200


def test_no_stall_is_told_while_the_rate_warms_up_and_one_is_after():
    rates = list(np.minimum(np.arange(3000) / 1000, 1.0))
    (stall,) = said(white(3000), rates)
    assert stall.step > 1000
    assert stall.since == 1


def test_a_jump_of_the_loss_at_a_restart_is_no_stall():
    steps = np.arange(1, 4001)
    within = steps % 1300 / 1300
    rates = 0.55 + 0.45 * np.cos(np.pi * within)
    # The rate lifts the loss with a lag, as noise does.
    losses = steps**-0.3 * (1 + rates * (1 - np.exp(-10 * within))) * white(4000)
    assert not said(losses, list(rates))


def cycling(level, period):
    steps = np.arange(1, 8001)
    phase = np.sin(2 * np.pi * steps / period)
    return level(steps) * (1 + 0.3 * phase) * white(8000), list(1 + 0.9 * phase)


@pytest.mark.parametrize("period", [10, 150, 600])
def test_cycles_of_the_rate_neither_fake_a_stall_nor_a_move(period):
    assert not said(*cycling(lambda steps: steps**-0.1, period))


def test_a_stall_is_seen_through_cycles_of_the_rate():
    (stall,) = said(*cycling(lambda steps: np.minimum(steps, 500) ** -0.5, 10))
    assert stall.since == pytest.approx(500, rel=0.5)


def test_standing_still_while_the_rate_decays_is_a_stall():
    assert said(white(2000), list(np.cos(np.arange(2000) / 2000 * np.pi / 2)))


@pytest.mark.parametrize("height", [10.0, 1e9, 1e300])
def test_a_spike_neither_hides_nor_fakes_a_stall(height):
    flat = white(2000)
    flat[350] = height
    (stall,) = said(flat)
    assert stall.step < 600
    assert stall.since < 60
    falling = np.arange(1, 2001) ** -0.2 * white(2000)
    falling[::400] = height
    assert not said(falling)


@laws
@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(2, 40))
def test_losses_that_are_not_finite_are_left_out(hole, stride):
    losses = white(1500)
    losses[::stride] = hole
    (stall,) = said(losses)
    assert stall.level == pytest.approx(1.0, rel=0.02)


@laws
@given(
    st.lists(st.floats(), min_size=1, max_size=30), st.lists(st.none() | st.floats(), min_size=1, max_size=30)
)
def test_no_loss_and_no_rate_makes_it_fail(losses, rates):
    times = 800
    assert all(math.isfinite(one.level) for one in said((losses * times)[:times], (rates * times)[:times]))


def test_of_losses_that_are_never_finite_nothing_is_said():
    assert not said([math.nan] * 2000)


def test_a_great_offset_does_not_make_a_stall_of_what_still_falls():
    steps = np.arange(1, 3001)
    assert not said(100.0 - 0.1 * np.log(steps) / np.log(3000) + 1e-3 * (white(3000) - 1))


def test_a_loss_that_crosses_zero_is_held_to_what_it_fell():
    steps = np.arange(1, 4001)
    noise = 10 * (white(4000) - 1)
    assert not said(20.0 - 3 * np.log(steps) + noise)
    level = 20.0 - 3 * math.log(800)
    (stall,) = said(20.0 - 3 * np.log(np.minimum(steps, 800)) + noise - level)
    assert stall.since == pytest.approx(800, rel=0.25)


def test_memory_does_not_grow_with_the_run():
    stalls = Stalls()
    for _ in range(20_000):
        stalls.add(1.0, 0.1)
    assert len(stalls._blocks.means) <= 384
    assert stalls.steps == 20_000
