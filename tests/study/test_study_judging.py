import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from unstuck.study.judging import Found, above, below, factor, mean, rank_correlation, share
from unstuck.study.records import Holds

FOUND = (
    st.tuples(*[st.floats(-1e6, 1e6)] * 3).map(sorted).map(lambda three: Found(three[1], three[0], three[2]))
)


@given(st.integers(1, 60).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_share_has_the_exact_interval(case):
    hits, of = case
    found, theirs = share(hits, of), binomtest(hits, of).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert found.low <= found.value <= found.high


def test_of_nothing_a_share_is_anything():
    assert share(0, 0).low == 0.0
    assert share(0, 0).high == 1.0


def test_a_mean_has_students_interval():
    values = [1.0, 2.0, 4.0, 8.0]
    theirs = ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean(values)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_one_value_says_nothing_of_the_mean():
    assert (mean([1.0]).low, mean([1.0]).high) == (-math.inf, math.inf)
    assert above(mean([1.0]), 0.0) is Holds.UNSURE


def test_a_factor_is_the_same_upside_down():
    ratios = [1.5, 2.0, 3.0]
    up, down = factor(ratios), factor([1 / ratio for ratio in ratios])
    assert (up.value, up.low, up.high) == pytest.approx((1 / down.value, 1 / down.high, 1 / down.low))


def test_the_interval_of_a_rank_correlation_covers_it_as_often_as_it_says():
    generator = np.random.default_rng(0)
    true, hits, times = 6 / math.pi * math.asin(0.6 / 2), 0, 100
    for _ in range(times):
        pairs = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 60)
        found = rank_correlation(pairs[:, 0].tolist(), pairs[:, 1].tolist())
        hits += found.low <= true <= found.high
    assert hits >= 88  # 95 expected; a bootstrap of 60 pairs comes a little short


def test_of_a_constant_there_is_no_correlation():
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0]).value)


@given(FOUND, st.floats(-1e6, 1e6))
def test_no_claim_holds_that_the_interval_does_not_agree_with(found, bound):
    assert (above(found, bound) is Holds.YES) == (found.low > bound)
    assert (below(found, bound) is Holds.YES) == (found.high < bound)
    assert not (above(found, bound) is Holds.YES and below(found, bound) is Holds.YES)
    if found.low < bound < found.high:
        assert above(found, bound) is below(found, bound) is Holds.UNSURE
