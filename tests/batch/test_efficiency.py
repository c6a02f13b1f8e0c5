import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.courses import by_law, course, trial
from unstuck.batch.course import Arm, Course, Trial
from unstuck.batch.efficiency import (
    best_rate,
    fit,
    level_of,
    lossless,
    options,
    suspected_rate,
    updates_to,
    wrong_rate,
)
from unstuck.batch.records import LONG

SIZES = (8, 16, 32, 64, 128, 256, 512)
NEVER = 1e9

rule = settings(deadline=None, derandomize=True, max_examples=60)


@rule
@given(st.floats(30, 300), st.floats(10, 400))
def test_the_law_is_found_again_from_branches_that_follow_it(fewest, critical):
    found = fit(course(by_law(fewest, critical, SIZES, (1.0, 1.0, 1.0)), present=32), 0.1)
    assert found is not None
    assert found.fewest == pytest.approx(fewest, rel=0.05)
    assert found.critical == pytest.approx(critical, rel=0.08)
    assert found.low <= found.critical <= found.high


def test_the_interval_of_the_critical_size_covers_it_where_orders_differ():
    covered = 0
    for number in range(40):
        spread = [1.0 + 0.15 * math.sin(7.0 * number + 2.0 * order) for order in range(3)]
        found = fit(course(by_law(80.0, 60.0, SIZES, spread), present=32), 0.1)
        covered += found.low <= 60.0 <= found.high
    assert covered >= 38


def test_where_updates_fall_in_proportion_up_to_the_largest_size_the_critical_size_has_no_upper_end():
    found = fit(course(by_law(1e-3, 1e7, SIZES[2:], (0.9, 1.0, 1.1)), present=32), 0.1)
    assert found is not None
    assert math.isinf(found.high)


def test_two_sizes_bear_no_law():
    assert fit(course(by_law(50.0, 50.0, (16, 32), (1.0, 1.0, 1.0)), present=32), 0.1) is None


def test_a_size_is_judged_on_the_orders_that_did_not_choose_its_rate():
    made = course({32: [100.0, 120.0, 140.0]}, present=32)
    updates = updates_to(made.at(32), 0.1)
    assert updates is not None
    assert len(made.at(32)) == 3
    assert updates.value == pytest.approx(120.0, rel=0.05)


def test_one_order_that_does_not_get_there_counts_with_what_it_made_and_two_do_not():
    arm = Arm(32, 0)
    reaching, not_reaching = trial(arm, 1, 100.0, 0.1), trial(arm, 2, NEVER, 0.1)
    longest = not_reaching.looks[-1][0]
    updates = updates_to([reaching, reaching, not_reaching], 0.1)
    assert updates is not None
    assert updates.value == pytest.approx((100.0 + 100.0 + longest) / 3.0, rel=0.05)
    assert updates_to([reaching, not_reaching, not_reaching], 0.1) is None


def test_sizes_are_compared_by_the_target_or_else_by_what_half_of_them_have_come_to():
    made = course(by_law(100.0, 100.0, SIZES, (1.0, 1.0, 1.0)), present=32)
    level = level_of(made, None)
    reach = [size for size in SIZES if all(trial.lowest <= level for trial in made.at(size))]
    assert len(reach) == (len(SIZES) + 1) // 2
    assert level_of(made, 0.3) == 0.3
    assert level_of(made, -1.0) == level


def test_where_nothing_falls_there_is_no_level():
    flat = Course(32, (trial(Arm(32, 0), 0, NEVER, 0.999999999),), {32: 0}, 1.0)
    level = level_of(flat, None)
    assert level is None or level > 0.999


def test_a_rate_is_wrong_only_where_another_far_off_gets_there_in_half_the_updates():
    slow = {halves: 1000.0 * 2.0 ** (-0.5 * halves) for halves in range(-10, 11, 2)}
    far = course({32: [1000.0] * 3}, present=32, rates=slow)
    assert wrong_rate(far).factor == pytest.approx(32.0)
    assert best_rate(far.scanned()) == pytest.approx(32.0)
    near = course({32: [1000.0] * 3}, present=32, rates={-2: 1400.0, 0: 1000.0, 2: 800.0, 4: 900.0})
    assert not wrong_rate(near)
    hardly = course({32: [1000.0] * 3}, present=32, rates={0: 1000.0, 4: 700.0, 6: 600.0})
    assert not wrong_rate(hardly)


@pytest.mark.parametrize(("between", "factor"), [(48.0, 8.0), (60.0, 32.0)])
def test_of_rates_that_come_in_hardly_more_updates_the_lowest_is_the_one_to_take(between, factor):
    made = course({32: [1000.0] * 3}, present=32, rates={0: 1000.0, 6: between, 10: 40.0})
    assert wrong_rate(made).factor == pytest.approx(factor)


def test_a_rate_is_not_wrong_where_one_near_it_is_about_as_fast_as_the_best():
    made = course({32: [1000.0] * 3}, present=32, rates={0: 1000.0, 4: 48.0, 10: 40.0})
    assert wrong_rate(made) is None


@pytest.mark.parametrize(("steps", "believed"), [(8, False), (LONG - 1, False), (60, True)])
def test_a_few_updates_raise_a_suspicion_of_a_rate_and_no_more(steps, believed):
    arms = {halves: 1000.0 * 2.0 ** (-0.5 * halves) for halves in range(-10, 11, 2)}
    trials = [trial(Arm(32, halves), 0, count, 0.1, steps=steps) for halves, count in arms.items()]
    few = Course(32, tuple(trials), {32: 10}, 1.0)
    assert suspected_rate(few).factor == pytest.approx(32.0)
    assert (wrong_rate(few) is not None) is believed


def test_a_rate_that_throws_the_run_out_for_good_is_believed_to_at_once():
    out = Trial(Arm(32, 0), 0, ((0, 1.0), (1, 50.0), (2, math.inf)), lost=True)
    falling = [trial(Arm(32, halves), 0, 20.0, 0.1, steps=8) for halves in (-8, -6)]
    assert wrong_rate(Course(32, (out, *falling), {32: -8}, 1.0)).factor == pytest.approx(1 / 8)


def anew(updates):
    """Trials of rates from weights made anew, by the updates to a loss of 0.1."""
    return tuple(trial(Arm(32, halves), 0, count, 0.1, steps=100) for halves, count in updates.items())


@pytest.mark.parametrize(
    ("going_on", "fresh", "factor"),
    [
        # Weights made anew overtake all that goes on, with a rate far smaller than is good near the run's.
        (900.0, {0: NEVER, -2: 1000.0, -4: 300.0, -6: 90.0, -8: 300.0}, 1 / 8),
        # They do not overtake: whatever they say, the run is further.
        (60.0, {0: NEVER, -2: 1000.0, -4: 300.0, -6: 90.0, -8: 300.0}, None),
        # They overtake with the run's own rate as well: it is not the rate that has lost the run.
        (900.0, {0: 100.0, -2: 90.0, -4: 80.0, -6: 90.0, -8: 300.0}, None),
        # The best is no smaller than half: near enough.
        (900.0, {0: 300.0, -2: 90.0, -4: 300.0}, None),
    ],
)
def test_a_rate_is_too_large_where_weights_made_anew_overtake_the_run_with_a_far_smaller_one(
    going_on, fresh, factor
):
    best_of_run = course({32: [going_on] * 3}, present=32, rates={2: NEVER, -2: 1.1 * going_on})
    found = wrong_rate(replace(best_of_run, anew=anew(fresh)))
    assert (found and found.factor) == (factor and pytest.approx(factor))
    assert found is None or found.anew


def test_a_run_that_is_not_finite_is_overtaken_by_weights_made_anew():
    lost = tuple(Trial(Arm(32, halves), 0, ((0, math.inf),), lost=True) for halves in (-4, 0, 4))
    found = wrong_rate(Course(32, lost, {32: 0}, 1.0, anew({0: NEVER, -4: 500.0, -8: 90.0})))
    assert found.factor == pytest.approx(1 / 16)
    assert wrong_rate(Course(32, lost, {32: 0}, 1.0)) is None


def test_the_largest_size_that_loses_nothing_at_equal_examples_is_found():
    # The examples to the level are the same, so that the losses at equal examples are.
    flat = course({size: [320_000.0 / size] * 3 for size in (32, 64, 128)}, present=32)
    assert lossless(flat) == 128
    worse = course({32: [10_000.0] * 3, 64: [5_000.0] * 3, 128: [4_000.0] * 3}, present=32)
    assert lossless(worse) == 64


def test_an_option_says_what_a_size_comes_to():
    made = options(
        course(by_law(80.0, 60.0, SIZES, (1.0, 1.0, 1.0)), present=32), 0.1, dict.fromkeys(SIZES, 0.01), None
    )
    each = next(option for option in made if option.size == 64)
    assert each.seconds.value == pytest.approx(0.01 * each.updates.value)
    assert each.examples == pytest.approx(64 * each.updates.value)
