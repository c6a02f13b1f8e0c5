"""The loss on a grid over a plane: coarse first, then finer, and at any moment what there is."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from unstuck.errors import TrainingError
from unstuck.landscape.ground import Ground
from unstuck.landscape.pictures import Path, Plane, Quadratic, Sheet
from unstuck.landscape.planes import Frame

# Places a side, level by level; each has all places of the one before.
LEVELS = (9, 17, 33)
_FINEST = LEVELS[-1]

Place = tuple[int, int]


@dataclass(frozen=True)
class _Height:
    training: float
    error: float
    validation: float | None


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
        self._heights: dict[Place, _Height] = {}

    @property
    def name(self) -> str:
        """Of the plane."""
        return self._frame.name

    @property
    def looked(self) -> int:
        """At how many places the loss was evaluated."""
        return len(self._heights)

    def missing(self, side: int) -> Iterator[Place]:
        """Give the places of a level that were not looked at yet, from the middle outwards."""
        stride = (_FINEST - 1) // (side - 1)
        middle = (_FINEST - 1) / 2
        places = [(x, y) for x in range(0, _FINEST, stride) for y in range(0, _FINEST, stride)]
        places.sort(key=lambda place: math.hypot(place[0] - middle, place[1] - middle))
        return (place for place in places if place not in self._heights)

    def look(self, place: Place) -> None:
        """Evaluate the loss at a place."""
        ground, frame = self._ground, self._frame
        x, y = (self._position(axis, index) for axis, index in enumerate(place))
        judge, held = ground.judge, ground.held
        try:
            values = judge.look(frame.at(ground.theta, x, y))
        except TrainingError:  # far off some losses raise where others give NaN
            values = [math.inf] * len(judge.base)
        try:
            validation = None if held is None else held.value(frame.at(held.theta, x, y))
        except TrainingError:
            validation = math.inf
        self._heights[place] = _Height(judge.judged(values), judge.gain(values).stderr, validation)

    def plane(self) -> Plane:
        """Give what is there."""
        sides = [side for side in LEVELS if next(self.missing(side), None) is None]
        whole = sides[-1] if sides else 0
        finest = next((side for side in reversed(LEVELS) if self._begun(side)), LEVELS[0])
        stride = (_FINEST - 1) // (finest - 1)
        indices = range(0, _FINEST, stride)
        validated = self._ground.held is not None
        return Plane(
            name=self._frame.name,
            axes=self._frame.axes,
            cosine=self._frame.cosine,
            xs=tuple(self._position(0, index) for index in indices),
            ys=tuple(self._position(1, index) for index in indices),
            training=self._sheet(indices, "training"),
            errors=self._sheet(indices, "error"),
            validation=self._sheet(indices, "validation") if validated else (),
            whole=whole,
            evaluated=len(self._heights),
            quadratic=self._quadratic,
            path=self._path,
        )

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

    def _sheet(self, indices: range, what: str) -> Sheet:
        def height(place: Place) -> float | None:
            found = self._heights.get(place)
            return None if found is None else getattr(found, what)

        return tuple(tuple(height((x, y)) for x in indices) for y in indices)
