"""The loss around a point, for people, in a terminal."""

import math

from rich.console import Group, RenderableType

from unstuck.landscape.pictures import Axis, Plane, View
from unstuck.report import laid
from unstuck.report.facts import Fact, listed
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.numbers import digits, significant
from unstuck.report.surface import facts
from unstuck.report.surface.heights import filled, span
from unstuck.report.surface.words import PLANES, reading
from unstuck.report.text import as_text

# From low to high; the point itself has a mark of its own.
_SHADES, _POINT = " .:-=+*#%@", "o"

# A character is twice as high as wide; so many places a side fit a narrow terminal.
_WIDE, _SIDE = 2, 17


def render(view: View) -> RenderableType:
    """Lay a view out for `rich.print`; it adapts to the width and to NO_COLOR."""
    blocks: list[RenderableType] = [
        laid.headline(
            "What does the loss look like here?",
            facts.headline(view),
            facts.standing(view),
            reading(view.subject.parameters),
        ),
        laid.section("Where the weights are"),
        laid.line(subject_line(view.subject)),
        laid.facts(facts.place(view)),
    ]
    for plane in view.planes:
        if plane.evaluated:
            blocks += [laid.section(PLANES[plane.name].title), _picture(plane)]
    if facts.rows(view):
        blocks += [laid.section("In numbers"), _rows(view)]
    measured = [Fact("sample", facts.sample_line(view)), Fact("cost", cost_line(view.cost))]
    measured += listed("interpolated", facts.interpolated(view))
    measured += listed("left out", facts.left_out(view))
    return Group(*blocks, laid.section("How it was measured"), laid.facts(measured))


def to_text(view: View, width: int = 100) -> str:
    """Write a view as plain text of that width, without any terminal code."""
    return as_text(render(view), width)


def _picture(plane: Plane) -> RenderableType:
    words = PLANES[plane.name]
    low, top = span(plane)
    many = digits(low, top)
    horizontal, vertical = plane.axes
    explained = (
        f"across: {words.axis(0)}, {_ends(horizontal)}",
        f"up: {words.axis(1)}, {_ends(vertical)}",
        f"training loss: [{_SHADES}] from {significant(low, many)} to {significant(top, many)}; {_POINT} the weights",
    )
    body = [laid.safe(line) for line in _shaded(plane, low, top)]
    return laid.indented(Group(*body, *(laid.safe(line, "dim") for line in explained)))


def _shaded(plane: Plane, low: float, top: float) -> list[str]:
    """Give the lines of the picture, the highest place of the second axis first."""
    heights = filled(plane, plane.training)
    stride = max(1, (len(plane.xs) - 1) // (_SIDE - 1))
    lines: list[str] = []
    for y in range(len(heights) - 1, -1, -stride):
        shades = [
            _POINT if (x, y) == plane.centre else _shade(heights[y][x], low, top)
            for x in range(0, len(heights[y]), stride)
        ]
        lines.append("".join(shade * _WIDE for shade in shades).rstrip())
    return lines


def _shade(value: float | None, low: float, top: float) -> str:
    if value is None:
        return "?"
    if not math.isfinite(value):
        return _SHADES[-1]
    share = (value - low) / (top - low)
    return _SHADES[min(max(int(share * len(_SHADES)), 0), len(_SHADES) - 1)]


def _ends(axis: Axis) -> str:
    return f"{significant(axis.low)} to {significant(axis.high)}"


def _rows(view: View) -> RenderableType:
    table = laid.table("picture", "places", "lowest loss, where", "highest", "typical error")
    for row in facts.rows(view):
        table.add_row(laid.safe(row.label), row.points, laid.safe(row.lowest), row.rise, row.error)
    return laid.indented(table)
