"""What was seen of the loss on planes through a point: plain numbers, no tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.estimate import Estimate
from unstuck.measurements.records import Cost, Omission, Sample, Subject

# A row of numbers along x; None where nothing was evaluated, infinite where the loss overflows.
Line = tuple[float | None, ...]
Sheet = tuple[Line, ...]


@dataclass(frozen=True)
class Axis:
    """One direction of a plane.

    Attributes:
        name: "first" and "second" (random), "highest" and "lowest" (eigenvectors), "component-1" and "component-2".
        length: Of one step along it, in the space of the weights.
        low: Where the picture begins, in steps; the point itself is at 0.
        high: Where it ends.
    """

    name: str
    length: float
    low: float
    high: float


@dataclass(frozen=True)
class Quadratic:
    r"""$L + g_x x + g_y y + \frac12 (h_{xx} x^2 + 2 h_{xy} x y + h_{yy} y^2)$, in steps along the axes.

    Attributes:
        slopes: $g_x$ and $g_y$.
        xx: $h_{xx}$.
        xy: $h_{xy}$.
        yy: $h_{yy}$.
    """

    slopes: tuple[float, float]
    xx: Estimate
    xy: Estimate
    yy: Estimate

    def at(self, loss: float, x: float, y: float) -> float:
        """Give the model of the loss at a place."""
        bend = self.xx.value * x * x + 2.0 * self.xy.value * x * y + self.yy.value * y * y
        return loss + self.slopes[0] * x + self.slopes[1] * y + 0.5 * bend


@dataclass(frozen=True)
class Path:
    """Where the weights were, and how much of that a plane shows.

    Attributes:
        source: "run", recorded, or "copy", continued from where the weights are.
        steps: Of the optimizer, at each place.
        xs: Along the first axis, in steps of the axis.
        ys: Along the second.
        losses: The real loss at each place, which need not lie on the plane.
        aside: The distance of each place from the plane.
        shares: Of the path's variance, what goes along either axis.
        walk: The same of a random walk of as many steps in very many dimensions, on average.
        apart: Distance between the last place and the weights.
    """

    source: str
    steps: tuple[int, ...]
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    losses: tuple[float, ...]
    aside: tuple[float, ...]
    shares: tuple[float, float]
    walk: tuple[float, float]
    apart: float


@dataclass(frozen=True)
class Interpolation:
    """Heights that were not evaluated, but lie on a smooth surface, or on a line, through those that were.

    Attributes:
        checked: At so many places predictions were compared with the loss before they were believed: of a plane where
            the surface was least sure of itself and as many drawn at random, of a line at all that were evaluated but
            its ends, each left out in turn.
        off: The largest difference there, as a share of the height that is drawn.
        error: What an interpolated height may be off by, in units of the loss; part of its error.
    """

    checked: int
    off: float
    error: float


@dataclass(frozen=True)
class Plane:
    """The loss on one plane, on the batches that judge.

    Attributes:
        name: "random", "hessian" or "path".
        axes: Both directions.
        cosine: Of the angle between them.
        xs: Places along the first axis, ascending, in steps; evenly spaced.
        ys: Places along the second.
        training: Loss, a row for each of `ys`.
        errors: Standard error of the difference to the point's own loss, in the same places; what rounding and
            interpolation may have changed is part of it.
        validation: Loss on validation data; empty where there are none.
        whole: Places a side of the finest grid of which every height is known; 0 if not even of the coarsest.
        evaluated: Number of places at which the loss was evaluated.
        quadratic: The model of second order; None of a path.
        path: Where the weights were, on the plane of a path.
        interpolated: Whether a height was interpolated, in the same places; empty where all were evaluated.
        interpolation: How those were checked; None where there are none.
    """

    name: str
    axes: tuple[Axis, Axis]
    cosine: float
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    training: Sheet
    errors: Sheet
    validation: Sheet
    whole: int
    evaluated: int
    quadratic: Quadratic | None
    path: Path | None = None
    interpolated: tuple[tuple[bool, ...], ...] = ()
    interpolation: Interpolation | None = None

    @property
    def centre(self) -> tuple[int, int] | None:
        """Column and row of the point itself; None where it is no place of the grid."""
        if 0.0 not in self.xs or 0.0 not in self.ys:
            return None
        return self.xs.index(0.0), self.ys.index(0.0)


@dataclass(frozen=True)
class View:
    """Everything that was seen around a point.

    Attributes:
        subject: What was looked at.
        sample: The data it rests on.
        loss: At the point, without weight decay, over the sample.
        here: The same on the batches that judge: the height of the point in every picture.
        validation: The loss at the point on validation data; None where there are none.
        length: Of the weights.
        rise: By how much the quadratic model changes along an eigenvector until where its picture ends: the loss, or
            its gap to validation if that is more.
        planes: In the order in which they are best read.
        lowest: Smallest curvature, judged; None where it was not looked for.
        highest: Largest curvature, judged.
        omitted: What could not be seen, and why.
        cost: What all of it took.
        complete: Whether every picture that was asked for is there, at least coarse.
    """

    subject: Subject
    sample: Sample
    loss: Estimate
    here: float
    validation: Estimate | None
    length: float
    rise: float
    planes: tuple[Plane, ...]
    lowest: Estimate | None
    highest: Estimate | None
    omitted: tuple[Omission, ...]
    cost: Cost
    complete: bool

    def plane(self, name: str) -> Plane | None:
        """The plane of that name, if it was seen."""
        return next((each for each in self.planes if each.name == name), None)


# Above the lowest, in units of what lies between it and the median: a paraboloid over its square reaches 3.1 times
# as high, so that nothing is cut off but what is steeper.
_STEEPEST = 4.0

# A loss that is the same everywhere is drawn as if it rose by this share of itself: a scale needs two ends.
_FLAT = 1e-6


def span_of(losses: Sequence[float]) -> tuple[float, float]:
    """Give the lowest of some losses, and the highest that is drawn of them."""
    values = sorted(value for value in losses if math.isfinite(value)) or [0.0]
    low, high = values[0], values[-1]
    top = min(high, low + _STEEPEST * (values[len(values) // 2] - low))
    if not top > low:
        top = high if high > low else low + _FLAT * max(abs(low), 1.0)
    return low, top


def seen(sheet: Sequence[Sequence[float | None]]) -> list[float]:
    """All numbers of a sheet that were evaluated."""
    return [value for line in sheet for value in line if value is not None]
