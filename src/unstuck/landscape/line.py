"""The loss along a line through the point: few places first, and more where they do not tell each other."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.landscape import filling
from unstuck.landscape.filling import Place
from unstuck.landscape.ground import Limits
from unstuck.landscape.heights import Height, Heights
from unstuck.landscape.pictures import Interpolation
from unstuck.landscape.relief import Relief

# Evenly spaced places from end to end; the point itself is in the middle.
PLACES = 33
_ALL: tuple[Place, ...] = tuple((index,) for index in range(PLACES))
_MIDDLE = PLACES // 2

# Heights are interpolated with a polynomial of this degree: with one of the second what nine places told of the
# others was off by half more, on 36 lines through three networks.
_DEGREE = 4

# Beside both ends and the middle one place of each three from these on is evaluated first, drawn at random: waves in
# step with evenly spaced places would not be seen.
_STRATA, _DRAWN = (2, 7, 12, 18, 23, 28), 3

# So many places on either side of one where the loss is no number are evaluated.
_BESIDE = 2


class Line:
    """Looks at a line: heights on both sides of the point, evaluated or, where the loss is smooth, interpolated.

    Args:
        looker: Knows the loss.
        end: From the point to the last place; the first is as far on the other side.
        limits: Whether every place is evaluated, and the seed of those that come first.
    """

    def __init__(self, looker: Heights, end: Float[Tensor, " n"], limits: Limits) -> None:
        self._looker, self._end, self._relief = looker, end, Relief(_DEGREE)
        self._relief.evaluated[_ALL[_MIDDLE]] = looker.here()
        drawn = torch.randint(_DRAWN, (len(_STRATA),), generator=limits.generator())
        first = {0, PLACES - 1, *(start + more for start, more in zip(_STRATA, drawn.tolist(), strict=True))}
        self._look([place for place in _ALL if limits.exact or place[0] in first])

    @property
    def shares(self) -> list[float]:
        """Of the way to the last place, ascending from -1."""
        return [(index - _MIDDLE) / _MIDDLE for (index,) in _ALL]

    @property
    def heights(self) -> list[Height]:
        """At each place."""
        return [height for place in _ALL if (height := self._relief.height(place))]

    @property
    def errors(self) -> list[float]:
        """Of each difference to the point's own loss: over the batches, by rounding, by interpolation."""
        return [
            self._relief.error(place, height, self._looker.rounding(height.training))
            for place, height in zip(_ALL, self.heights, strict=True)
        ]

    @property
    def interpolated(self) -> list[bool]:
        """Whether a height was interpolated."""
        return [place in self._relief.between for place in _ALL]

    @property
    def interpolation(self) -> Interpolation | None:
        """How those were checked; None where there are none."""
        return self._relief.interpolation

    def _look(self, first: list[Place]) -> None:
        """Evaluate until all that were evaluated are predicted by each other."""
        relief, places = self._relief, first
        while places:
            for place in places:
                if place not in relief.evaluated:
                    share = (place[0] - _MIDDLE) / _MIDDLE
                    relief.evaluated[place] = self._looker.look(
                        partial(torch.add, other=self._end, alpha=share)
                    )
            rest = [place for place in _ALL if place not in relief.evaluated]
            places = relief.walled(rest, _BESIDE) or self._next(rest)

    def _next(self, rest: list[Place]) -> list[Place]:
        """Give the place that is least sure, or what is left if that is little or wild; or interpolate it."""
        guess = self._relief.guess(rest) if rest else None
        if guess is None or len(rest) < (1.0 - filling.MOST) * PLACES:
            return rest
        off = self._relief.missed()
        if not filling.believed(off, filling.LINE):
            return [rest[int(guess.doubt.argmax())]]
        self._relief.fill(rest, len(self._relief.known) - 2, off)
        return []
