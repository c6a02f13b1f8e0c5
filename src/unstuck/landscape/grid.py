"""The loss on a grid over a plane: coarse first, then finer, and at any moment what there is."""

import math
from collections.abc import Iterator
from functools import partial

from jaxtyping import Float
from torch import Tensor

from unstuck.landscape import filling
from unstuck.landscape.filling import Place
from unstuck.landscape.ground import Ground
from unstuck.landscape.heights import Heights
from unstuck.landscape.pictures import Path, Plane, Quadratic, Sheet
from unstuck.landscape.planes import Frame
from unstuck.landscape.relief import Relief

# Places a side, level by level; each has all places of the one before.
LEVELS = (9, 17, 33)
_FINEST = LEVELS[-1]

# Heights are interpolated with a polynomial of this degree.
_DEGREE = 2

# Rounding that is a larger share of what is drawn than this is worth float64: a fortieth of what an interpolated
# height may be off by.
_ROUNDED = 1e-4


class Grid:
    """A plane that is looked at place by place.

    Args:
        frame: The plane.
        ground: The loss.
        quadratic: Its model of second order, if it is known.
        path: A path that spans it.
    """

    def __init__(
        self, frame: Frame, ground: Ground, quadratic: Quadratic | None, path: Path | None = None
    ) -> None:
        self._frame, self._ground = frame, ground
        self._quadratic, self._path = quadratic, path
        self._looker = self._rough = Heights(ground.judge, ground.held)
        self._relief = Relief(_DEGREE)
        self._rounded: set[Place] = set()

    @property
    def name(self) -> str:
        """Of the plane."""
        return self._frame.name

    @property
    def known(self) -> int:
        """At how many places the height is known."""
        return len(self._relief.evaluated) + len(self._relief.between)

    def missing(self, side: int) -> Iterator[Place]:
        """Give the places of a level at which the loss is to be evaluated before the next one is asked for.

        All of the coarsest level, from the middle outwards; of a finer one until the others can be interpolated.
        """
        if side == LEVELS[0]:
            yield from self._unseen(side)
            self._refine_precision()
        if side == LEVELS[0] or self._ground.limits.exact:
            yield from self._unseen(side)
        else:
            yield from self._checked(side)

    def look(self, place: Place) -> None:
        """Evaluate the loss at a place."""
        self._relief.evaluated[place] = self._looker.look(partial(self._displaced, place))
        self._rounded.discard(place)

    def plane(self) -> Plane:
        """Give what is there."""
        sides = [side for side in LEVELS if all(self._relief.height(place) for place in _places(side))]
        finest = next((side for side in reversed(LEVELS) if self._begun(side)), LEVELS[0])
        finest = max([finest, *sides])
        indices = range(0, _FINEST, (_FINEST - 1) // (finest - 1))
        between = self._relief.between
        return Plane(
            name=self._frame.name,
            axes=self._frame.axes,
            cosine=self._frame.cosine,
            xs=tuple(self._position(0, index) for index in indices),
            ys=tuple(self._position(1, index) for index in indices),
            training=self._sheet(indices, "training"),
            errors=self._errors(indices),
            validation=self._sheet(indices, "validation") if self._ground.held is not None else (),
            whole=sides[-1] if sides else 0,
            evaluated=len(self._relief.evaluated),
            quadratic=self._quadratic,
            path=self._path,
            interpolated=tuple(tuple((x, y) in between for x in indices) for y in indices) if between else (),
            interpolation=self._relief.interpolation,
        )

    def _unseen(self, side: int) -> list[Place]:
        evaluated = self._relief.evaluated
        return [place for place in _places(side) if place not in evaluated or place in self._rounded]

    def _refine_precision(self) -> None:
        """Go over to float64 if rounding is no small part of what is drawn."""
        corners = [(0, 0), (_FINEST // 2, _FINEST // 2), (_FINEST - 1, _FINEST - 1)]
        generator = self._ground.limits.generator()
        for place in corners:
            if self._relief.evaluated[place].finite:
                displaced = partial(self._displaced, place)
                self._looker.measure_rounding(displaced, self._relief.evaluated[place].training, generator)
        low, top = self._relief.span()
        if self._looker.rounding(max(abs(low), abs(top))) <= _ROUNDED * (top - low):
            return
        precise = self._ground.refined()
        if precise is not None:
            self._rough, self._looker = self._looker, Heights(*precise)
            self._rounded = set(self._relief.evaluated)

    def _checked(self, side: int) -> Iterator[Place]:
        """Give places where the heights cannot be predicted, and where predictions are to be checked."""
        relief, generator = self._relief, self._ground.limits.generator()
        reach, most = 2 * (_FINEST - 1) // (side - 1), filling.MOST * side * side
        while places := self._unseen(side):
            if walled := relief.walled(places, reach):
                yield from walled
                continue
            guess = relief.guess(places)
            if guess is None or side * side - len(places) > most:
                yield from places
                return
            chosen = guess.chosen(len(relief.known), generator)
            yield from (places[number] for number in chosen)
            off = relief.off([places[number] for number in chosen], guess.heights[chosen])
            if filling.believed(off, filling.PLANE):
                relief.fill(self._unseen(side), len(chosen), off)
                return

    def _begun(self, side: int) -> bool:
        """Whether a place was looked at that no coarser level has."""
        stride = (_FINEST - 1) // (side - 1)
        coarser = 2 * stride
        return any(
            x % stride == y % stride == 0 and (x % coarser or y % coarser or side == LEVELS[0])
            for x, y in self._relief.evaluated
        )

    def _position(self, axis: int, index: int) -> float:
        low, high = self._frame.axes[axis].low, self._frame.axes[axis].high
        share = index / (_FINEST - 1)
        return low * (1.0 - share) + high * share

    def _displaced(self, place: Place, theta: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        x, y = (self._position(axis, index) for axis, index in enumerate(place))
        return self._frame.at(theta, x, y)

    def _sheet(self, indices: range, what: str) -> Sheet:
        def height(place: Place) -> float | None:
            found = self._relief.height(place)
            return None if found is None else getattr(found, what)

        return tuple(tuple(height((x, y)) for x in indices) for y in indices)

    def _errors(self, indices: range) -> Sheet:
        def error(place: Place) -> float | None:
            found = self._relief.height(place)
            if found is None:
                return None
            looker = self._rough if place in self._rounded else self._looker
            return self._relief.error(place, found, looker.rounding(found.training))

        return tuple(tuple(error((x, y)) for x in indices) for y in indices)


def _places(side: int) -> list[Place]:
    """All of a level, from the middle outwards."""
    stride, middle = (_FINEST - 1) // (side - 1), (_FINEST - 1) / 2
    places = [(x, y) for x in range(0, _FINEST, stride) for y in range(0, _FINEST, stride)]
    return sorted(places, key=lambda place: math.hypot(place[0] - middle, place[1] - middle))
