import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unstuck.estimate import Estimate, weighted_mean

laws = settings(deadline=None, derandomize=True)
finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e3)


@laws
@given(finite, positive, st.floats(0.1, 5))
def test_without_degrees_the_margin_is_that_many_standard_errors(value, stderr, sigmas):
    assert Estimate(value, stderr).margin(sigmas) == pytest.approx(sigmas * stderr)


@laws
@given(positive, st.integers(1, 200).map(float), st.floats(0.5, 4))
def test_with_degrees_the_interval_covers_under_students_law_what_the_normal_law_promised(
    stderr, degrees, sigmas
):
    margin = Estimate(0.0, stderr, degrees).margin(sigmas) / stderr
    assert stats.t.cdf(margin, degrees) == pytest.approx(stats.norm.cdf(sigmas), abs=1e-9)


@laws
@given(positive, st.integers(1, 100).map(float))
def test_fewer_degrees_never_make_the_margin_smaller(stderr, degrees):
    assert Estimate(0.0, stderr, degrees).margin() >= Estimate(0.0, stderr, degrees + 1.0).margin()
    assert Estimate(0.0, stderr, degrees).margin() > Estimate(0.0, stderr).margin()


@laws
@given(finite, st.floats(0, 1e3), st.integers(1, 50).map(float), finite)
def test_an_estimate_is_never_surely_on_both_sides_of_a_bound(value, stderr, degrees, bound):
    estimate = Estimate(value, stderr, degrees)
    assert not (estimate.surely_below(bound) and estimate.surely_above(bound))
    assert estimate.surely_below(bound) == (-estimate).surely_above(-bound)


@laws
@given(finite, finite)
def test_an_infinite_error_is_sure_of_nothing(value, bound):
    for degrees in (1.0, math.inf):
        estimate = Estimate(value, math.inf, degrees)
        assert not estimate.surely_below(bound)
        assert not estimate.surely_above(bound)


def test_a_number_that_is_none_is_sure_of_nothing():
    estimate = Estimate(math.nan, math.nan, 3.0)
    assert not estimate.surely_below(1.0)
    assert not estimate.surely_above(-1.0)


@laws
@given(finite, finite)
def test_without_error_an_estimate_is_compared_like_a_number(value, bound):
    assert Estimate(value, 0.0, 1.0).surely_below(bound) == (value < bound)


@laws
@given(finite, st.floats(0, 1e3), st.one_of(positive, positive.map(lambda scale: -scale)))
def test_division_scales_the_error_by_the_size_of_the_scale(value, stderr, scale):
    divided = Estimate(value, stderr, 5.0) / scale
    assert divided == Estimate(value / scale, stderr / abs(scale), 5.0)
    assert divided.stderr >= 0


@laws
@given(st.lists(finite, min_size=2, max_size=30))
def test_with_equal_weights_it_is_the_textbook_mean_and_its_standard_error(values):
    estimate = weighted_mean(values, [7.0] * len(values))
    assert estimate.value == pytest.approx(np.mean(values), abs=1e-6)
    assert estimate.stderr == pytest.approx(stats.sem(values), rel=1e-6, abs=1e-6)
    assert estimate.degrees == len(values) - 1


@laws
@given(st.lists(st.tuples(finite, positive), min_size=2, max_size=20), positive, positive, finite)
def test_the_mean_moves_with_the_values_and_does_not_know_the_unit_of_the_weights(pairs, factor, unit, shift):
    values, weights = zip(*pairs, strict=True)
    plain = weighted_mean(values, weights)
    moved = weighted_mean([factor * value + shift for value in values], [unit * weight for weight in weights])
    tolerance = 1e-9 * (factor * 1e6 + 1e6)
    assert moved.value == pytest.approx(factor * plain.value + shift, abs=tolerance)
    assert moved.stderr == pytest.approx(factor * plain.stderr, rel=1e-6, abs=tolerance)


@laws
@given(finite, positive)
def test_one_batch_has_no_spread_and_so_an_infinite_error(value, weight):
    estimate = weighted_mean([value], [weight])
    assert estimate.value == pytest.approx(value)
    assert math.isinf(estimate.stderr)


@pytest.mark.parametrize("huge", [1e155, 1e200, 1e307])
def test_losses_far_off_do_not_overflow_the_error(huge):
    # A line search looks at steps so long that the loss is astronomical there.
    estimate = weighted_mean([huge, 0.0, -huge], [1.0, 1.0, 1.0])
    assert estimate.stderr == pytest.approx(huge / math.sqrt(3))


def test_an_infinite_loss_makes_an_infinite_mean():
    estimate = weighted_mean([math.inf, 1.0], [1.0, 1.0])
    assert estimate.value == math.inf
    assert not estimate.surely_below(1e300)


def test_the_error_agrees_with_the_bootstrap():
    rng = np.random.default_rng(0)
    weights = rng.integers(20, 100, 60).astype(float)
    values = rng.gamma(2.0, size=60)
    estimate = weighted_mean(values.tolist(), weights.tolist())
    drawn = rng.integers(0, 60, (4000, 60))
    means = (values[drawn] * weights[drawn]).sum(1) / weights[drawn].sum(1)
    assert estimate.stderr == pytest.approx(means.std(), rel=0.1)


@pytest.mark.parametrize("batches", [3, 8, 32])
def test_the_interval_holds_the_truth_as_often_as_two_errors_of_a_normal_law(batches):
    rng = np.random.default_rng(1)
    hits, rounds = 0, 3000
    for _ in range(rounds):
        estimate = weighted_mean(rng.normal(1.0, 2.0, batches).tolist(), [1.0] * batches)
        hits += abs(estimate.value - 1.0) <= estimate.margin(2.0)
    promised = 2 * stats.norm.cdf(2.0) - 1
    assert abs(hits / rounds - promised) < 4 * math.sqrt(promised * (1 - promised) / rounds)
