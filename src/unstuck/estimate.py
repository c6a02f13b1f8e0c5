"""A measured number never travels without its error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtr, stdtrit


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error, in the value's own units.

    Attributes:
        degrees: Degrees of freedom that the standard error rests on. A spread over four batches is itself
            uncertain, so that "three standard errors" must be Student's, not the normal law's.
    """

    value: float
    stderr: float
    degrees: float = math.inf

    def surely_below(self, bound: float, *, sigmas: float = 3.0) -> bool:
        """Whether the value lies below `bound`, as surely as `sigmas` errors of a normal law would say."""
        return self.value + self.margin(sigmas) < bound

    def surely_above(self, bound: float, *, sigmas: float = 3.0) -> bool:
        """Whether the value lies above `bound`, as surely as `sigmas` errors of a normal law would say."""
        return self.value - self.margin(sigmas) > bound

    def margin(self, sigmas: float = 3.0) -> float:
        """Half the width of the interval that covers as much as `sigmas` errors of a normal law."""
        if self.stderr == 0.0 or math.isinf(self.stderr) or math.isinf(self.degrees):
            return sigmas * self.stderr
        return float(stdtrit(self.degrees, ndtr(sigmas))) * self.stderr

    def __truediv__(self, scale: float) -> "Estimate":
        return Estimate(self.value / scale, self.stderr / abs(scale), self.degrees)

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, self.stderr, self.degrees)


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> Estimate:
    r"""Estimate the mean of batches of unequal size, with its standard error over the batches.

    $\bar x = \sum_i w_i x_i$ with $\sum_i w_i = 1$ and the error of a ratio estimator,
    $s^2 = \frac{m}{m-1} \sum_i w_i^2 (x_i - \bar x)^2$ (Cochran, Sampling Techniques, 1977, section 6.4).
    One batch has no spread to tell an error from: its standard error is infinite.
    """
    total = math.fsum(weights)
    shares = [weight / total for weight in weights]
    parts = [share * value for share, value in zip(shares, values, strict=True)]
    # Of infinities of both signs fsum would raise; their plain sum is not a number, which is sure of nothing.
    mean = math.fsum(parts) if all(map(math.isfinite, parts)) else sum(parts)
    count = len(shares)
    if count == 1:
        return Estimate(mean, math.inf)
    # By hypot, since the square of a loss far off may overflow.
    spread = math.hypot(*(share * (value - mean) for share, value in zip(shares, values, strict=True)))
    return Estimate(mean, math.sqrt(count / (count - 1)) * spread, degrees=float(count - 1))
