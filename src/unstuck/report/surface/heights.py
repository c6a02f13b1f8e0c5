"""How a plane is drawn: what is filled in between places, and how high the picture goes."""

import math
from collections.abc import Sequence

import numpy as np

from unstuck.landscape.pictures import Plane, Sheet, seen, span_of

# Heights that differ by less than so many times what they are known to are the same, and the picture is then as high
# as so many: nothing is to be seen in it but rounding.
_SAME, _EVEN = 2.0, 100.0

# Of the picture's height: how far below the real loss its quadratic model is drawn.
_BELOW = 0.25

Heights = list[list[float | None]]


def span(plane: Plane, model: Heights | None = None) -> tuple[float, float]:
    """The lowest loss and the highest that is drawn; what is higher is cut off.

    A model is drawn lower than the real loss by no more than a part of that.
    """
    low, top = span_of([*seen(plane.training), *seen(plane.validation)])
    error = level(plane)
    if error is not None and top - low < _EVEN * error:
        return low, low + _EVEN * error
    if model is not None:
        low = max(min(low, *(v for line in model for v in line if v is not None)), low - _BELOW * (top - low))
    return low, top


def level(plane: Plane) -> float | None:
    """What the training losses are known to, on these very batches, if they are all the same within it."""
    losses = [value for value in seen(plane.training) if math.isfinite(value)]
    error = plane.interpolation.error if plane.interpolation is not None else 0.0
    return error if losses and max(losses) - min(losses) < _SAME * error else None


def modelled(plane: Plane, here: float) -> Heights | None:
    """The quadratic model at every place, if there is one."""
    quadratic = plane.quadratic
    if quadratic is None:
        return None
    return [[quadratic.at(here, x, y) for x in plane.xs] for y in plane.ys]


def filled(plane: Plane, sheet: Sheet) -> Heights:
    """Fill the gaps of a grid that was not finished by straight lines between those of the last that was."""
    gaps = any(value is None for line in sheet for value in line)
    if not gaps or not plane.whole:
        return [list(line) for line in sheet]
    stride = (len(plane.xs) - 1) // (plane.whole - 1)
    coarse = np.array([line[::stride] for line in sheet[::stride]], dtype=np.float64)
    xs, ys = np.array(plane.xs), np.array(plane.ys)
    rows = np.stack([np.interp(xs, xs[::stride], line) for line in coarse])
    full = np.stack([np.interp(ys, ys[::stride], column) for column in rows.T]).T
    return [
        [float(full[y, x]) if value is None else value for x, value in enumerate(line)]
        for y, line in enumerate(sheet)
    ]


def cut(heights: Heights, low: float, top: float) -> Heights:
    """Heights as they can be drawn: none that is beyond the picture."""
    return [[None if v is None else _within(v, low, top) for v in line] for line in heights]


def lowest(plane: Plane) -> tuple[float, float, float] | None:
    """The lowest training loss that was evaluated, not interpolated, and where."""
    found = [
        (value, plane.xs[x], plane.ys[y])
        for y, line in enumerate(plane.training)
        for x, value in enumerate(line)
        if value is not None
        and math.isfinite(value)
        and not (plane.interpolated and plane.interpolated[y][x])
    ]
    return min(found, default=None)


def through(
    plane: Plane, axis: int
) -> tuple[Sequence[float], Sequence[float | None], Sequence[float | None]]:
    """Places, training and validation loss along one axis through the point."""
    middle = plane.centre
    if middle is None:
        return (), (), ()
    column, row = middle
    sheets = (plane.training, plane.validation)
    if axis == 0:
        lines = [list(sheet[row]) if sheet else [] for sheet in sheets]
    else:
        lines = [[line[column] for line in sheet] for sheet in sheets]
    return (plane.xs, plane.ys)[axis], lines[0], lines[1]


def _within(value: float, low: float, top: float) -> float:
    return top if math.isnan(value) else min(max(value, low), top)
