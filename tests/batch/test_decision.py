import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.courses import by_law, course, trial
from unstuck.batch.course import Arm, Course
from unstuck.batch.decision import decide, recommended
from unstuck.batch.records import Answer, Noise, Option, Scale
from unstuck.estimate import Estimate

SIZES = (8, 16, 32, 64, 128, 256, 512)
ONE = (0.97, 1.0, 1.03)


def noise(value, low, high):
    simple = Scale(Estimate(value, 0.1 * value) if math.isfinite(high) else None, low, high)
    nothing = Estimate(1.0, 0.1)
    return Noise(simple, None, None, (), nothing, nothing, 100, 1, whole=False, separable=True)


def seconds(fixed, each):
    return {size: fixed + each * size for size in SIZES}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.floats(20, 300), st.floats(1, 200))
def test_the_time_optimal_size_is_among_the_recommended(critical, full):
    times = seconds(1.0, 1.0 / full)
    decision = decide(course(by_law(100.0, critical, SIZES, ONE), present=32), times, None, 0.1)
    best = min(SIZES, key=lambda size: (1.0 + critical / size) * times[size])
    assert decision.answer is Answer.RECOMMENDED
    assert decision.low <= best <= decision.high


def test_a_rate_that_is_far_off_is_said_instead_of_a_size():
    slow = {halves: 1000.0 * 2.0 ** (-0.5 * halves) for halves in range(-10, 11, 2)}
    made = course(by_law(100.0, 50.0, SIZES, ONE) | {32: [1000.0] * 3}, present=32, rates=slow)
    decision = decide(made, seconds(1.0, 0.01), None, None)
    assert decision.answer is Answer.WRONG_RATE
    assert (decision.low, decision.high) == (None, None)
    assert "32 times too small" in decision.reason


def test_a_rate_that_few_updates_speak_against_is_a_reason_to_ask_for_more_time():
    trials = [trial(Arm(32, halves), 0, 50.0 * 2.0 ** (-halves), 0.1, steps=13) for halves in (0, 6)]
    decision = decide(Course(32, tuple(trials), {32: 6}, 1.0), seconds(1.0, 0.01), None, None)
    assert decision.answer is Answer.NOT_RESOLVED
    assert "may be about 8 times too small" in decision.reason
    assert "12 updates" in decision.reason
    assert "larger budget" in decision.reason


def test_where_the_loss_does_not_move_nothing_is_recommended():
    made = course({size: [1e9] * 3 for size in SIZES}, present=32)
    decision = decide(made, seconds(1.0, 0.01), None, None)
    assert decision.answer is Answer.NOT_RESOLVED
    assert "unstuck diagnose" in decision.reason


def test_without_branches_the_noise_scale_is_offered_as_a_guess_and_not_as_advice():
    decision = decide(None, seconds(1.0, 0.01), noise(64.0, 50.0, 80.0), None, "there was no time")
    assert decision.answer is Answer.NOT_RESOLVED
    assert decision.low is None
    assert "order of magnitude" in decision.reason
    unknown = decide(None, seconds(1.0, 0.01), noise(64.0, 50.0, math.inf), None, "there was no time")
    assert "not resolved" in unknown.reason


def test_a_short_comparison_comes_with_a_caution():
    times = dict.fromkeys(SIZES, 1.0)
    short = decide(course(by_law(5.0, 50.0, SIZES, ONE), present=32), times, None, 0.1)
    assert "larger budget" in short.reason
    assert decide(course(by_law(100.0, 50.0, SIZES, ONE), present=32), times, None, 0.1).reason == ""


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.0, 0.5)), min_size=1, max_size=8))
def test_the_recommended_sizes_hold_the_fastest_and_no_gap(times):
    made = [
        Option(2**power, 1.0, Estimate(value, share * value, 2.0), Estimate(value, share * value, 2.0), None)
        for power, (value, share) in enumerate(times)
    ]
    chosen = [option.size for option in recommended(made)]
    best = min(made, key=lambda option: option.seconds.value).size
    assert best in chosen
    assert chosen == [2**power for power in range(int(math.log2(chosen[0])), int(math.log2(chosen[-1])) + 1)]


def test_sizes_that_are_surely_slower_by_half_are_left_out():
    made = [
        Option(size, 1.0, Estimate(t, 0.01, 2.0), Estimate(t, 0.01, 2.0), None)
        for size, t in ((8, 2.0), (16, 1.0), (32, 1.1), (64, 1.9))
    ]
    assert [option.size for option in recommended(made)] == [16, 32]
    assert recommended([]) == []


def test_a_size_that_is_just_within_the_slack_is_left_out_one_time_in_twenty_at_most():
    drawn = np.random.default_rng(0)
    sizes, orders, missed, times = 8, 3, 0, 400
    for _ in range(times):
        truth = np.array([*[1.0] * (sizes - 1), 1.25])
        counts = truth[:, None] * drawn.lognormal(0.0, 0.1, (sizes, orders))
        means, errors = counts.mean(1), counts.std(1, ddof=1) / math.sqrt(orders)
        made = [
            Option(2**power, 1.0, None, Estimate(float(mean), float(error), 2.0), None)
            for power, (mean, error) in enumerate(zip(means, errors, strict=True))
        ]
        missed += made[-1].size not in [option.size for option in recommended(made)]
    assert missed <= 0.05 * times


def test_nothing_is_known_without_branches_and_noise():
    decision = decide(None, {}, None, None, "no update could be timed")
    assert decision.answer is Answer.NOT_RESOLVED
    assert decision.options == ()
    assert decision.rate is None
