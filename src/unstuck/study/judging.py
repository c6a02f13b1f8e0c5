"""Numbers with their 95 % intervals, and what they say of a claim whose bound was fixed beforehand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, rankdata

from unstuck.estimate import weighted_mean
from unstuck.study.records import Holds, Outcome
from unstuck.trials.statistics import LEVEL, interval

_DRAWS = 2000  # of the bootstrap: the ends of a 95 % interval rest on fifty draws each


@dataclass(frozen=True)
class Found:
    """A number with its interval."""

    value: float
    low: float
    high: float


def exact(value: float) -> Found:
    """Give a number that nothing random went into."""
    return Found(value, value, value)


def share(hits: int, of: int) -> Found:
    """Estimate a proportion, with the interval of Clopper and Pearson (Biometrika 26, 1934)."""
    if of == 0:
        return Found(math.nan, 0.0, 1.0)
    tail = 0.5 * (1.0 - LEVEL)
    low = float(beta.ppf(tail, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1.0 - tail, hits + 1, of - hits)) if hits < of else 1.0
    return Found(hits / of, low, high)


def mean(values: Sequence[float]) -> Found:
    """Estimate a mean, with Student's interval; of a single value the interval is all numbers."""
    if not values:
        return Found(math.nan, -math.inf, math.inf)
    found = weighted_mean(values, [1.0] * len(values))
    return Found(found.value, *interval(found, 1))


def factor(ratios: Sequence[float]) -> Found:
    """Estimate the typical ratio of pairs: the geometric mean, with Student's interval of its logarithm."""
    found = mean([math.log(ratio) for ratio in ratios])
    return Found(math.exp(found.value), math.exp(found.low), _exponential(found.high))


def rank_correlation(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Found:
    """Estimate Spearman's rank correlation, with a percentile interval over resampled pairs (Efron, 1979)."""
    if min(len(set(first)), len(set(second))) < 2:  # noqa: PLR2004 - of a constant there is none
        return Found(math.nan, -1.0, 1.0)
    pairs, generator = np.array([first, second]), np.random.default_rng(seed)
    drawn = pairs[:, generator.integers(0, len(first), (_DRAWS, len(first)))]
    kept = np.ptp(drawn, axis=2).all(axis=0)
    low, high = np.quantile(_spearman(drawn[:, kept]), [0.5 * (1.0 - LEVEL), 0.5 * (1.0 + LEVEL)])
    return Found(float(_spearman(pairs)), float(low), float(high))


def above(found: Found, bound: float) -> Holds:
    """Whether the number lies above the bound: yes or no where the whole interval agrees."""
    return Holds.YES if found.low > bound else Holds.NO if found.high <= bound else Holds.UNSURE


def below(found: Found, bound: float) -> Holds:
    """Whether the number lies below the bound."""
    return Holds.YES if found.high < bound else Holds.NO if found.low >= bound else Holds.UNSURE


def outcome(part: str, holds: Holds, statistic: str, found: Found, bound: float, sentence: str) -> Outcome:
    """Put an outcome together."""
    return Outcome(part, holds, statistic, found.value, found.low, found.high, bound, sentence)


def _spearman(pairs: np.ndarray) -> np.ndarray:
    """Correlate the ranks along the last axis, as spearmanr does, of many samples at once."""
    ranks = rankdata(pairs, axis=-1)
    apart = ranks - ranks.mean(axis=-1, keepdims=True)
    first, second = apart / np.linalg.norm(apart, axis=-1, keepdims=True)
    return np.asarray((first * second).sum(axis=-1))


def _exponential(power: float) -> float:
    return math.exp(power) if power < 700.0 else math.inf  # noqa: PLR2004 - beyond, it overflows
