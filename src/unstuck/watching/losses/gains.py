r"""What a loss falls while the number of steps doubles, from means of batches of consecutive steps.

The slope of $-L$ over $\log_2 t$ by least squares. Noise of a running training is correlated, by as much as nobody
knows beforehand; two errors are therefore given, and the smaller may be used, for the wider of the two is the one
that does not apply:

- *Apart*: batches are nearly independent. The error of a straight line, times $\sqrt{(1 + \rho) / (1 - \rho)}$ for
  what correlation $\rho$ of neighbours is left (batch means with an autoregressive correction; Law & Kelton,
  Simulation Modeling and Analysis, section 9.5.3).
- *Walk*: noise is a random walk, the slowest there is. The error of a line through Brownian motion of variance
  $\sigma^2$ over the window is $\sqrt{6/5}\,\sigma$ over its length. The bends (second differences) of means of a
  walk have the variance of its steps from batch to batch, and hardly show the course of a smooth curve: a full-batch
  loss that creeps has a small error of this kind, and none of the first to speak of.
"""

import math
from collections.abc import Sequence
from operator import mul
from statistics import fmean

from unstuck.estimate import Estimate

# Binary logarithm of the middle step, and mean loss, of each batch.
Curve = Sequence[tuple[float, float]]

# Fewer batches have no spread to speak of.
FEWEST = 5

# Blocks higher above the median by so many deviations are spikes and are cut down to that. Normal noise never is.
_SPIKE = 10.0

# Share of blocks that spikes are at most.
_RARE = 0.05

# Between the quartiles of a normal law lie so many standard deviations.
_QUARTILES = 1.349

# Correlation is taken for higher by one standard error, and never for so high that it would divide by zero.
_DOUBT, _HIGHEST = 1.0, 0.95

# Neighbouring bends share two of three means.
_SHARED = 1.5


def slope(curve: Curve) -> float:
    """Give the fall per doubling alone, which is all that most looks need to dismiss a stall."""
    across, up = _middle(curve)
    return -sum((x - across) * (y - up) for x, y in curve) / sum(
        (x - across) * (x - across) for x, _ in curve
    )


def bounded(curve: Curve, errors: float) -> tuple[float, Estimate]:
    """Give the fall per doubling with its error, and its upper bound by so many errors of a normal law."""
    apart, walk = gains(curve)
    chosen = apart if apart.margin(errors) <= walk.margin(errors) else walk
    return chosen.value + chosen.margin(errors), chosen


def gains(curve: Curve) -> tuple[Estimate, Estimate]:
    """Give the fall per doubling with the errors of batches that are apart and of a random walk."""
    fall, (across, up) = slope(curve), _middle(curve)
    count = len(curve)
    spread = sum((x - across) * (x - across) for x, _ in curve)
    left = [y - up + fall * (x - across) for x, y in curve]
    squares = sum(map(mul, left, left))
    rho = _correlation(left, squares)
    inflation = (1.0 + rho) / (1.0 - rho)
    apart = math.sqrt(inflation * squares / ((count - 2) * spread))
    bends = [a - 2.0 * b + c for (_, a), (_, b), (_, c) in zip(curve, curve[1:], curve[2:], strict=False)]
    deviation = math.hypot(*bends) / math.sqrt(len(bends))
    walk = math.sqrt(6 / 5 * (count - 1)) * deviation / (curve[-1][0] - curve[0][0])
    return (
        Estimate(fall, apart, max(count / inflation - 2.0, 1.0)),
        Estimate(fall, walk, len(bends) / _SHARED),
    )


def without_spikes(means: list[float]) -> list[float]:
    """Cut spikes down to the highest that noise explains; blocks without any loss (NaN) become zero."""
    present = sorted(mean for mean in means if not math.isnan(mean))
    count = len(present)
    middle = present[count // 2]
    # Of a loss that is mostly the same, to the bit, the quartiles are one and say nothing.
    deviation = (present[3 * count // 4] - present[count // 4]) / _QUARTILES
    top = middle + _SPIKE * (deviation or fmean(abs(mean - middle) for mean in present))
    if count == len(means) and present[-1] <= top:
        return means
    # A peak that comes often is part of the loss: of one, say, that is mostly zero.
    if present[-1 - int(_RARE * count)] > top:
        top = present[-1]
    return [0.0 if math.isnan(mean) else min(mean, top) for mean in means]


def _middle(curve: Curve) -> tuple[float, float]:
    return sum(x for x, _ in curve) / len(curve), sum(y for _, y in curve) / len(curve)


def _correlation(left: Sequence[float], squares: float) -> float:
    r"""Give an upper bound of the correlation of neighbours.

    What is left by a straight line is less correlated than the noise was, by about $(2 + 4 \rho) / n$ (Kendall,
    Biometrika 41, 1954).
    """
    if squares == 0.0:
        return 0.0
    count = len(left)
    rho = (sum(map(mul, left, left[1:])) / squares + 2.0 / count) / (1.0 - 4.0 / count)
    return min(max(rho + _DOUBT * math.sqrt(max(1.0 - rho * rho, 0.0) / count), 0.0), _HIGHEST)
