"""From pairs of final losses to a gain with its interval: laws, and how often it claims what is not there."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.trials.statistics import LEVEL, gain, interval

losses = st.floats(0.1, 10.0)


def rows(values):
    """One held batch an order."""
    return [[value] for value in values]


@given(st.lists(losses, min_size=4, max_size=8))
def test_a_remedy_that_changes_nothing_gains_nothing(ends):
    found = gain(rows(ends), rows(ends), [1.0], whole=True)
    assert found.value == 0.0
    assert interval(found, 3) == (0.0, 0.0)


@given(st.lists(st.tuples(losses, losses), min_size=4, max_size=8), st.floats(1e-3, 1e3))
def test_the_unit_of_the_loss_does_not_matter(pairs, unit):
    on, off = zip(*pairs, strict=True)
    plain = gain(rows(on), rows(off), [1.0], whole=True)
    scaled = gain(rows(unit * x for x in on), rows(unit * x for x in off), [1.0], whole=True)
    assert scaled.value == pytest.approx(plain.value, rel=1e-9, abs=1e-12)
    assert scaled.stderr == pytest.approx(plain.stderr, rel=1e-6, abs=1e-12)


@given(st.lists(st.tuples(losses, losses), min_size=4, max_size=8), st.integers(1, 5))
def test_more_comparisons_make_an_interval_wider(pairs, comparisons):
    on, off = zip(*pairs, strict=True)
    found = gain(rows(on), rows(off), [1.0], whole=True)
    low, high = interval(found, comparisons)
    lower, higher = interval(found, comparisons + 1)
    assert lower <= low <= found.value <= high <= higher


def test_half_the_loss_is_a_gain_of_a_half():
    found = gain(rows([2.0, 2.0, 2.0, 2.0]), rows([1.0, 1.0, 1.0, 1.0]), [1.0], whole=True)
    assert found.value == 0.5
    assert interval(found, 3) == (0.5, 0.5)


def test_held_batches_that_are_a_sample_widen_the_interval():
    on, off = [[1.0, 3.0]] * 5, [[0.9, 1.0]] * 5
    sampled = gain(on, off, [1.0, 1.0], whole=False)
    assert gain(on, off, [1.0, 1.0], whole=True).stderr == pytest.approx(0.0, abs=1e-12)
    assert sampled.stderr > 0.1


def test_a_run_that_ends_anywhere_does_not_hide_a_remedy_that_ends_far_below_it_each_time():
    found = gain(
        rows([0.5, 3.1, 0.6, 0.5, 1.2, 0.7]), rows([0.32, 0.36, 0.31, 0.33, 0.35, 0.32]), [1.0], whole=True
    )
    assert interval(found, 3)[0] > 0.0


def test_intervals_of_a_ratio_of_scattered_ends_hold_what_is_true_as_often_as_stated():
    """Ends of going on scattered by a factor of two, remedies that truly end at six tenths of it."""
    drawn, misses, repetitions = np.random.default_rng(1), 0, 2_000
    for _ in range(repetitions):
        on = np.exp(0.5 * drawn.standard_normal(6))
        off = 0.6 * np.exp(0.5 * drawn.standard_normal(6))
        low, high = interval(gain(rows(on), rows(off), [1.0], whole=True), 1)
        misses += not low <= 0.4 <= high
    assert misses / repetitions < 1.5 * (1.0 - LEVEL)


def test_what_is_thrown_out_gains_minus_infinity_and_is_never_sure_to_help():
    found = gain(rows([1.0] * 4), rows([0.5, 0.5, math.inf, 0.5]), [1.0], whole=True)
    assert found.value == -math.inf
    assert not interval(found, 1)[0] > 0.0


def test_what_rescues_a_run_that_is_thrown_out_gains_all_of_it():
    found = gain(rows([math.inf] * 4), rows([0.5] * 4), [1.0], whole=True)
    assert (found.value, *interval(found, 2)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("orders", [4, 6])
def test_remedies_that_do_nothing_are_claimed_to_help_no_more_often_than_stated(orders):
    """Both ends: of one-sided claims half as many as the joint level leaves are expected."""
    drawn, claims, repetitions, remedies = np.random.default_rng(0), 0, 2_000, 3
    for _ in range(repetitions):
        on = 1.0 + 0.1 * drawn.standard_normal(orders)
        shown = [
            interval(
                gain(rows(on), rows(1.0 + 0.1 * drawn.standard_normal(orders)), [1.0], whole=True), remedies
            )
            for _ in range(remedies)
        ]
        claims += any(low > 0.0 for low, _ in shown)
    expected = 0.5 * (1.0 - LEVEL)
    assert claims / repetitions < expected + 3.0 * math.sqrt(expected / repetitions)
