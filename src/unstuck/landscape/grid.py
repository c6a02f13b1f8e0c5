"""The loss on a grid over a plane: coarse first, then finer, and at any moment what there is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from unstuck.landscape import filling
from unstuck.landscape.filling import Array
from unstuck.landscape.ground import Ground
from unstuck.landscape.heights import Height, Heights
from unstuck.landscape.pictures import Interpolation, Path, Plane, Quadratic, Sheet, span_of
from unstuck.landscape.planes import Frame

# Places a side, level by level; each has all places of the one before.
LEVELS = (9, 17, 33)
_FINEST = LEVELS[-1]

# Rounding that is a larger share of what is drawn than this is worth float64: a fortieth of what an interpolated
# height may be off by.
_ROUNDED = 1e-4

Place = tuple[int, int]

_NOWHERE: Mapping[Place, Height] = {}


@dataclass(frozen=True)
class _Filled:
    """Heights that were not evaluated, and how they were checked."""

    heights: Mapping[Place, Height]
    interpolation: Interpolation


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
        self._heights: dict[Place, Height] = {}
        self._rounded: set[Place] = set()
        self._filled: _Filled | None = None

    @property
    def name(self) -> str:
        """Of the plane."""
        return self._frame.name

    @property
    def known(self) -> int:
        """At how many places the height is known."""
        return len(self._heights) + len(self._between)

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
        self._heights[place] = self._looker.look(partial(self._displaced, place))
        self._rounded.discard(place)

    def plane(self) -> Plane:
        """Give what is there."""
        sides = [side for side in LEVELS if all(self._height(place) for place in _places(side))]
        finest = next((side for side in reversed(LEVELS) if self._begun(side)), LEVELS[0])
        finest = max([finest, *sides])
        indices = range(0, _FINEST, (_FINEST - 1) // (finest - 1))
        between = self._between
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
            evaluated=len(self._heights),
            quadratic=self._quadratic,
            path=self._path,
            interpolated=tuple(tuple((x, y) in between for x in indices) for y in indices) if between else (),
            interpolation=self._filled.interpolation if between and self._filled else None,
        )

    @property
    def _between(self) -> Mapping[Place, Height]:
        if self._filled is None:
            return _NOWHERE
        return {place: height for place, height in self._filled.heights.items() if place not in self._heights}

    def _height(self, place: Place) -> Height | None:
        found = self._heights.get(place)
        return found or (self._filled.heights.get(place) if self._filled else None)

    def _unseen(self, side: int) -> list[Place]:
        return [place for place in _places(side) if place not in self._heights or place in self._rounded]

    def _refine_precision(self) -> None:
        """Go over to float64 if rounding is no small part of what is drawn."""
        corners = [(0, 0), (_FINEST // 2, _FINEST // 2), (_FINEST - 1, _FINEST - 1)]
        generator = self._ground.limits.generator()
        for place in corners:
            if self._heights[place].finite:
                displaced = partial(self._displaced, place)
                self._looker.measure_rounding(displaced, self._heights[place].training, generator)
        low, top = self._span()
        if self._looker.rounding(max(abs(low), abs(top))) <= _ROUNDED * (top - low):
            return
        precise = self._ground.refined()
        if precise is not None:
            self._rough, self._looker = self._looker, Heights(*precise)
            self._rounded = set(self._heights)

    def _checked(self, side: int) -> Iterator[Place]:
        """Give places where the heights cannot be predicted, and where predictions are to be checked."""
        generator, most = self._ground.limits.generator(), filling.MOST * side * side
        while places := self._unseen(side):
            if walled := self._walled(places, side):
                yield from walled
                continue
            known = [place for place, height in self._heights.items() if height.finite]
            guess = filling.guess(known, self._columns(known), places)
            if guess is None or side * side - len(places) > most:
                yield from places
                return
            chosen = guess.chosen(len(known), generator)
            yield from (places[number] for number in chosen)
            off = self._off([places[number] for number in chosen], guess.heights[chosen])
            if filling.believed(off):
                self._fill(side, len(chosen), off)
                return

    def _walled(self, places: Sequence[Place], side: int) -> list[Place]:
        """Those of the places that are beside one where the loss is no number."""
        reach = 2 * (_FINEST - 1) // (side - 1)
        walls = np.array([place for place, height in self._heights.items() if not height.finite])
        if not len(walls):
            return []
        return [place for place in places if (abs(walls - np.array(place)).max(axis=1) <= reach).any()]

    def _columns(self, places: Sequence[Place]) -> Array:
        """Training loss, standard error and validation loss, if there is one."""
        heights = [self._heights[place] for place in places]
        errors = [each.stderr if math.isfinite(each.stderr) else 0.0 for each in heights]
        columns = [[each.training for each in heights], errors]
        if self._ground.held is not None:
            columns.append([each.validation or 0.0 for each in heights])
        return np.array(columns).T

    def _off(self, places: Sequence[Place], predicted: Array) -> float:
        """By which share of what is drawn predictions are off at most; infinitely where the loss is no number."""
        low, top = self._span()
        if not all(self._heights[place].finite for place in places):
            return math.inf
        losses = np.abs(self._columns(places) - predicted)[:, [0, *range(2, predicted.shape[1])]]
        return float(losses.max()) / (top - low)

    def _fill(self, side: int, checked: int, off: float) -> None:
        """Interpolate what is left of a level, now that all evaluated places are known."""
        places, known = (
            self._unseen(side),
            [place for place, height in self._heights.items() if height.finite],
        )
        guess = filling.guess(known, self._columns(known), places) if places else None
        if guess is None:
            return
        low, top = self._span()
        errors = [self._heights[place].stderr for place in known]
        least, most = min(errors), max(errors)
        heights = {
            place: Height(loss, min(max(stderr, least), most), rest[0] if rest else None)
            for place, (loss, stderr, *rest) in zip(places, guess.heights.tolist(), strict=True)
        }
        error = filling.allowance(off) * (top - low)
        self._filled = _Filled(heights, Interpolation(checked=checked, off=off, error=error))

    def _span(self) -> tuple[float, float]:
        heights = self._heights.values()
        return span_of([v for each in heights for v in (each.training, each.validation) if v is not None])

    def _begun(self, side: int) -> bool:
        """Whether a place was looked at that no coarser level has."""
        stride = (_FINEST - 1) // (side - 1)
        coarser = 2 * stride
        return any(
            x % stride == y % stride == 0 and (x % coarser or y % coarser or side == LEVELS[0])
            for x, y in self._heights
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
            found = self._height(place)
            return None if found is None else getattr(found, what)

        return tuple(tuple(height((x, y)) for x in indices) for y in indices)

    def _errors(self, indices: range) -> Sheet:
        """Of the batches, of rounding, and of what was interpolated."""

        def error(place: Place) -> float | None:
            found = self._height(place)
            if found is None:
                return None
            between = 0.0 if place in self._heights or not self._filled else self._filled.interpolation.error
            looker = self._rough if place in self._rounded else self._looker
            return math.hypot(found.stderr, looker.rounding(found.training), between)

        return tuple(tuple(error((x, y)) for x in indices) for y in indices)


def _places(side: int) -> list[Place]:
    """All of a level, from the middle outwards."""
    stride, middle = (_FINEST - 1) // (side - 1), (_FINEST - 1) / 2
    places = [(x, y) for x in range(0, _FINEST, stride) for y in range(0, _FINEST, stride)]
    return sorted(places, key=lambda place: math.hypot(place[0] - middle, place[1] - middle))
