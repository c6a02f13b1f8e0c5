"""The height of places around a point, on training and on validation data, and what rounding does to it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import TrainingError
from unstuck.measurements.judging import Judge
from unstuck.objective import Objective

# From the weights of the point to those of a place.
Displaced = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]

# A mean of rounded numbers is known to so many times the rounding of itself: measured on a perceptron, a conv net and
# a transformer in float32, 0.1 to 3.1 times. Losses that cancel may be worse: that is measured in each picture.
_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Height:
    """The loss at a place.

    Attributes:
        training: On the batches that judge; infinite where it overflows or raises.
        stderr: Of its difference to the point's own, over the batches.
        validation: On validation data; None where there are none.
    """

    training: float
    stderr: float
    validation: float | None

    @property
    def finite(self) -> bool:
        """Whether it is a number, on all data."""
        return math.isfinite(self.training) and math.isfinite(self.validation or 0.0)


class Heights:
    """Looks at places.

    Args:
        judge: Knows the training loss, and which half judges.
        held: The loss on validation data, if there are any.
    """

    def __init__(self, judge: Judge, held: Objective | None) -> None:
        self._judge, self._held = judge, held
        self._measured: list[tuple[float, float]] = []

    def look(self, place: Displaced) -> Height:
        """Evaluate the loss at a place."""
        return self._height(self._values(place(self._judge.objective.theta)), place)

    def here(self) -> Height:
        """Give the height of the point itself, whose training loss is known."""
        return self._height(self._judge.base, lambda theta: theta)

    def measure_rounding(self, place: Displaced, height: float, generator: torch.Generator) -> None:
        """Look beside a place: every weight is moved by one rounding of its own, up or down.

        What changes is at least what the roundings inside of the model do: measured in float32, it was 0.6 times to
        80 times the difference to the height in float64, less only where both are below `_ROUNDINGS`.
        """
        objective = self._judge.objective
        weights = place(objective.theta)
        signs = objective.space.draw(generator).to(weights).sign()
        beside = torch.addcmul(weights, weights, signs, value=self._eps)
        change = abs(self._judge.judged(self._values(beside)) - height)
        if math.isfinite(change):
            self._measured.append((abs(height), change))

    def rounding(self, height: float) -> float:
        """Give what rounding may have changed a height by."""
        least = _ROUNDINGS * self._eps * abs(height)
        if not self._measured or not math.isfinite(height):
            return least
        heights, changes = zip(*sorted(self._measured), strict=True)
        return max(least, float(np.interp(abs(height), heights, np.maximum.accumulate(changes))))

    @property
    def _eps(self) -> float:
        return self._judge.objective.parameters.eps

    def _height(self, values: Sequence[float], place: Displaced) -> Height:
        judge, held = self._judge, self._held
        try:
            validation = None if held is None else held.value(place(held.theta))
        except TrainingError:
            validation = math.inf
        return Height(judge.judged(values), judge.gain(values).stderr, validation)

    def _values(self, weights: Float[Tensor, " n"]) -> Sequence[float]:
        try:
            return self._judge.look(weights)
        except TrainingError:  # far off some losses raise where others give NaN
            return [math.inf] * len(self._judge.base)
