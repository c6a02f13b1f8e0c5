"""By how much the loss is higher elsewhere, on batches that did not choose the place."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.judging import Judge


@dataclass(frozen=True)
class Place:
    """Where the loss was found to be high.

    Attributes:
        displacement: From the point.
        found: The loss there, on the half that finds.
    """

    displacement: Float[Tensor, " n"]
    found: float


@dataclass(frozen=True)
class Rise:
    """How much higher the loss is at a place: as judged, as found, and what the slope alone would give."""

    value: Estimate
    found: float
    slope: float


class Rises:
    """Judges rises of the loss, all from the same point.

    Args:
        judge: Knows the loss at the point, and which half judges.
        gradient: At the point, on the half that judges.
    """

    def __init__(self, judge: Judge, gradient: Float[Tensor, " n"]) -> None:
        self.judge = judge
        self._gradient = gradient

    def absolute(self, place: Place) -> Rise:
        """The rise in units of the loss."""
        judge = self.judge
        value = -judge.gain(judge.look(judge.objective.theta + place.displacement))
        return Rise(value, place.found - judge.found(judge.base), self._slope(place))

    def relative(self, place: Place) -> Rise:
        r"""$100 (f(y) - f(x)) / (1 + f(x))$, with the error of a ratio over batches (Keskar et al., 2017, eq. 3)."""
        judge = self.judge
        there = judge.look(judge.objective.theta + place.displacement)
        judges = judge.halves.judges
        weights = [judge.objective.weights[index] for index in judges]
        base = 1.0 + judge.judged(judge.base)
        ratio = -judge.gain(there).value / base
        left = [there[i] - judge.base[i] - ratio * (1.0 + judge.base[i]) for i in judges]
        spread = weighted_mean(left, weights)
        exhaustive = judge.halves.exhaustive or not math.isfinite(ratio)
        error = judge.rounding if exhaustive else math.hypot(spread.stderr, judge.rounding)
        value = Estimate(100.0 * ratio, 100.0 * error / abs(base), math.inf if exhaustive else spread.degrees)
        here = judge.found(judge.base)
        found = 100.0 * (place.found - here) / (1.0 + here)
        return Rise(value, found, 100.0 * self._slope(place) / base)

    def _slope(self, place: Place) -> float:
        space = self.judge.objective.space
        return space.dot(self._gradient.double(), place.displacement.double())


def together(draws: list[Rise]) -> Rise:
    """The mean over random draws of a subspace, with the error of both the draw and the batches."""
    count = len(draws)
    mean = math.fsum(each.value.value for each in draws) / count
    within = max(each.value.stderr for each in draws)
    between = math.hypot(*(each.value.value - mean for each in draws)) / math.sqrt(max(count - 1, 1) * count)
    degrees = min(draws[0].value.degrees, count - 1.0 if count > 1 else math.inf)
    return Rise(
        Estimate(mean, math.hypot(within, between if count > 1 else math.inf), degrees),
        math.fsum(each.found for each in draws) / count,
        math.fsum(each.slope for each in draws) / count,
    )
