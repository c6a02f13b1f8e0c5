"""From pairs of final losses to a gain with its interval."""

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy.special import stdtrit

from unstuck.estimate import Estimate, weighted_mean

# All intervals of a proof hold at once with this probability.
LEVEL = 0.95


def gain(
    going_on: Sequence[Sequence[float]],
    remedy: Sequence[Sequence[float]],
    weights: Sequence[float],
    *,
    whole: bool,
) -> Estimate:
    r"""Estimate $(L_{\mathrm{on}} - L_{\mathrm{remedy}}) / |L_{\mathrm{on}}|$ from several orders.

    Both are lists over orders of the held batches' final losses. The differences are paired twice: in an order
    both saw the same batches, and they are compared on the same held batches. The standard error has a part from the
    spread between orders, with one degree of freedom less than there are orders, and, unless the held batches
    are `whole`, all the data there is, one from the spread between held batches.

    What the difference is divided by has come out of the same orders. Where the losses are positive the gain is one
    less the ratio of two means, $R$, whose error is the spread of $L_{\mathrm{remedy}} - R L_{\mathrm{on}}$ (Cochran,
    Sampling Techniques, 1977, section 2.11): a run that ends anywhere does not hide a remedy that ends far below.

    A remedy that throws the run out for good gains minus infinity; one that ends that, 1.
    """
    ends = [_mean(row, weights) for row in going_on]
    others = [_mean(row, weights) for row in remedy]
    if not all(map(math.isfinite, others)):
        lost = sum(
            not math.isfinite(other) and math.isfinite(end) for end, other in zip(ends, others, strict=True)
        )
        return Estimate(-math.inf if lost else 0.0, math.inf)
    if not all(map(math.isfinite, ends)):
        rescued = [0.0 if math.isfinite(end) else 1.0 for end in ends]
        return _over_orders(rescued) if any(map(math.isfinite, ends)) else Estimate(1.0, 0.0)
    scale = abs(math.fsum(ends) / len(ends)) or 1.0
    value = (math.fsum(ends) - math.fsum(others)) / (len(ends) * scale)
    # A loss that can be negative has no zero that a ratio could start from: the scale is then but a unit.
    ratio = 1.0 - value if min(*ends, *others) > 0.0 else 1.0
    left = [(ratio * end - other) / scale for end, other in zip(ends, others, strict=True)]
    between = replace(_over_orders(left), value=value)
    if whole:
        return between
    columns = zip(zip(*going_on, strict=True), zip(*remedy, strict=True), strict=True)
    batches = [
        math.fsum((*(ratio * loss for loss in on), *(-loss for loss in off))) / (len(on) * scale)
        for on, off in columns
    ]
    within = weighted_mean(batches, weights)
    if not math.isfinite(within.stderr):
        return between
    return Estimate(between.value, math.hypot(between.stderr, within.stderr), _degrees(between, within))


def interval(estimate: Estimate, comparisons: int) -> tuple[float, float]:
    """Give the interval of one of several gains such that all hold at once (Bonferroni; Student's law)."""
    if not math.isfinite(estimate.stderr):
        return (-math.inf, math.inf) if math.isfinite(estimate.value) else (estimate.value, estimate.value)
    tail = 0.5 * (1.0 - LEVEL) / max(comparisons, 1)
    # An infinite number of degrees, as without any spread, is the normal law.
    degrees = min(estimate.degrees, 1e9)
    half = -float(stdtrit(degrees, tail)) * estimate.stderr
    return estimate.value - half, estimate.value + half


def _degrees(*parts: Estimate) -> float:
    """Degrees of freedom of a sum of variances that have each their own (Satterthwaite, 1946)."""
    total = math.fsum(part.stderr**2 for part in parts)
    if total == 0.0:
        return parts[0].degrees
    return total**2 / math.fsum(part.stderr**4 / part.degrees for part in parts)


def _over_orders(gains: Sequence[float]) -> Estimate:
    return weighted_mean(gains, [1.0] * len(gains))


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / total
