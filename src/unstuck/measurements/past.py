"""The recorded history of a run: does its loss still fall, and since when not?"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.history import History, Numbers
from unstuck.measurements.records import Past

Curve = list[tuple[float, float]]

# Fewer records show no trend.
_FEWEST = 16

# Means of blocks are nearly independent where single records are not (batch means; Law & Kelton, 1979).
_BLOCKS, _ALL_BLOCKS = 10, 40

# A block lies above what follows when it does so by this many standard errors: some forty are asked.
_SIGMAS = 3.0

# From the median second difference to the standard error of each mean, under a normal law.
_FROM_BENDS = 1.4826 / math.sqrt(6.0)

# Points of a curve that is drawn.
_POINTS = 300


def measure_past(history: History) -> Past:
    """Sum up what was recorded.

    Raises:
        MeasurementError: There are too few records with a finite loss.
    """
    losses = _curve(history.steps, history.loss)
    if len(losses) < _FEWEST:
        msg = f"the history has {len(losses)} records with a finite loss; {_FEWEST} are needed to see a trend"
        raise MeasurementError(msg)
    gradients = _curve(history.steps, history.gradient_norm or ())
    rates = [value for _, value in _curve(history.steps, history.learning_rate or ())]
    best, rise = _validated(_curve(history.steps, history.validation_loss or ()))
    return Past(
        first=losses[0][0],
        last=losses[-1][0],
        pace=_pace(losses[len(losses) // 2 :]),
        improved=_improved(losses),
        not_finite=_not_finite(history),
        gradient_peak=_peak([value for _, value in gradients]),
        rate_share=rates[-1] / max(rates) if rates and max(rates) > 0.0 else None,
        validation_best=best,
        validation_rise=rise,
        losses=_thinned(losses),
        gradients=_thinned(gradients),
    )


def _curve(steps: Sequence[float], values: Numbers) -> Curve:
    pairs = zip(steps, values, strict=False)
    return [(step, float(value)) for step, value in pairs if value is not None and math.isfinite(value)]


def _pace(recent: Curve) -> Estimate:
    """Fit a straight line to the means of blocks; its error is from what they scatter about it."""
    blocks = _blocks(recent, _BLOCKS)
    middle = fmean(step for step, _ in blocks)
    spread = math.fsum((step - middle) ** 2 for step, _ in blocks)
    level = fmean(value for _, value in blocks)
    slope = math.fsum((step - middle) * value for step, value in blocks) / spread
    left = math.hypot(*(value - level - slope * (step - middle) for step, value in blocks))
    degrees = len(blocks) - 2.0
    return Estimate(-slope, left / math.sqrt(degrees * spread), degrees)


def _blocks(curve: Curve, count: int) -> Curve:
    """Mean step and value of so many parts of nearly equal length."""
    bounds = [round(len(curve) * number / count) for number in range(count + 1)]
    parts = [curve[low:high] for low, high in pairwise(bounds) if high > low]
    return [(fmean(step for step, _ in part), fmean(value for _, value in part)) for part in parts]


def _improved(losses: Curve) -> float | None:
    """Find the last block whose mean lies surely above that of all after it."""
    blocks = _blocks(losses, min(_ALL_BLOCKS, len(losses) // 4))
    values = [value for _, value in blocks]
    # By second differences, in which a fall cancels.
    bends = [abs(a - 2.0 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    error = _FROM_BENDS * median(bends)
    for number in range(len(blocks) - 2, -1, -1):
        after = values[number + 1 :]
        if values[number] - fmean(after) > _SIGMAS * error * math.sqrt(1.0 + 1.0 / len(after)):
            return blocks[number][0]
    return None


def _not_finite(history: History) -> float | None:
    steps = [
        step
        for values in (history.loss, history.gradient_norm or ())
        for step, value in zip(history.steps, values, strict=False)
        if value is not None and not math.isfinite(value)
    ]
    return min(steps, default=None)


def _peak(norms: Sequence[float]) -> float | None:
    if len(norms) < _FEWEST:
        return None
    now = median(norms[-max(len(norms) // 10, 1) :])
    return max(norms) / now if now > 0.0 else None


def _validated(curve: Curve) -> tuple[float | None, float | None]:
    if len(curve) < 2:  # noqa: PLR2004  # one point has no course
        return None, None
    step, lowest = min(curve, key=lambda pair: pair[1])
    now = fmean(value for _, value in curve[-max(len(curve) // 10, 1) :])
    return step, (now - lowest) / abs(lowest) if lowest else None


def _thinned(curve: Curve) -> tuple[tuple[float, float], ...]:
    stride = max(math.ceil(len(curve) / _POINTS), 1)
    parts = [curve[start : start + stride] for start in range(0, len(curve), stride)]
    return tuple((fmean(step for step, _ in part), fmean(value for _, value in part)) for part in parts)
