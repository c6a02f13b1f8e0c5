"""Heights at places that are numbered along each axis: evaluated, or interpolated between those."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unstuck.landscape import filling
from unstuck.landscape.filling import Array, Guess, Place
from unstuck.landscape.heights import Height
from unstuck.landscape.pictures import Interpolation, span_of


@dataclass(frozen=True)
class _Filled:
    """Heights that were not evaluated, and how they were checked."""

    heights: Mapping[Place, Height]
    interpolation: Interpolation


class Relief:
    """What is known of the heights on a line or on a plane.

    Args:
        degree: Of the polynomial that heights are interpolated with.

    Attributes:
        evaluated: Heights at which the loss was evaluated.
    """

    def __init__(self, degree: int) -> None:
        self._degree = degree
        self.evaluated: dict[Place, Height] = {}
        self._filled: _Filled | None = None

    @property
    def known(self) -> list[Place]:
        """Places that were evaluated and have a height."""
        return [place for place, height in self.evaluated.items() if height.finite]

    @property
    def between(self) -> Mapping[Place, Height]:
        """Heights that are interpolated."""
        filled = {} if self._filled is None else self._filled.heights
        return {place: height for place, height in filled.items() if place not in self.evaluated}

    @property
    def interpolation(self) -> Interpolation | None:
        """How those were checked; None where there are none."""
        return self._filled.interpolation if self._filled and self.between else None

    def height(self, place: Place) -> Height | None:
        """Give the height of a place, if it is known."""
        found = self.evaluated.get(place)
        return found or (self._filled.heights.get(place) if self._filled else None)

    def error(self, place: Place, height: Height, rounding: float) -> float:
        """Give the error of a height: of the batches, of rounding, and of what was interpolated."""
        between = 0.0 if place in self.evaluated or not self._filled else self._filled.interpolation.error
        return math.hypot(height.stderr, rounding, between)

    def span(self) -> tuple[float, float]:
        """Give the lowest height that was evaluated, and the highest that is drawn."""
        heights = self.evaluated.values()
        return span_of([v for each in heights for v in (each.training, each.validation) if v is not None])

    def walled(self, places: Sequence[Place], reach: int) -> list[Place]:
        """Those of the places that are so near to one where the loss is no number."""
        walls = np.array([place for place, height in self.evaluated.items() if not height.finite])
        if not len(walls):
            return []
        return [place for place in places if (abs(walls - np.array(place)).max(axis=1) <= reach).any()]

    def guess(self, places: Sequence[Place]) -> Guess | None:
        """Predict the heights of places; None where too few are known, or too wild."""
        return filling.guess(self.known, self._columns(self.known), places, self._degree)

    def off(self, places: Sequence[Place], predicted: Array) -> float:
        """By which share of what is drawn predictions are off at most; infinitely where the loss is no number."""
        if not all(self.evaluated[place].finite for place in places):
            return math.inf
        return self._share(self._columns(places) - predicted)

    def missed(self) -> float:
        """By which share of what is drawn a height is off at most from what all others predict, the ends aside."""
        known = sorted(self.known)
        return self._share(filling.missed(known, self._columns(known), self._degree))

    def fill(self, places: Sequence[Place], checked: int, off: float) -> None:
        """Interpolate at places, as every height that is evaluated is known."""
        guess = self.guess(places) if places else None
        if guess is None:
            return
        low, top = self.span()
        errors = [self.evaluated[place].stderr for place in self.known]
        least, most = min(errors), max(errors)
        heights = {
            place: Height(loss, min(max(stderr, least), most), rest[0] if rest else None)
            for place, (loss, stderr, *rest) in zip(places, guess.heights.tolist(), strict=True)
        }
        error = filling.allowance(off) * (top - low)
        self._filled = _Filled(heights, Interpolation(checked=checked, off=off, error=error))

    def _columns(self, places: Sequence[Place]) -> Array:
        """Training loss, standard error and validation loss, if there is one."""
        rows = [
            [each.training, each.stderr if math.isfinite(each.stderr) else 0.0]
            + ([] if each.validation is None else [each.validation])
            for each in (self.evaluated[place] for place in places)
        ]
        return np.array(rows)

    def _share(self, differences: Array) -> float:
        """The largest difference of losses, as a share of what is drawn."""
        low, top = self.span()
        losses = np.abs(differences)[:, [0, *range(2, differences.shape[1])]]
        return float(losses.max()) / (top - low)
