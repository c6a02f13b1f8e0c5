"""What the figures of a run share: one axis of steps, scales that fit, text that stays text."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from unstuck.report.figures.theme import MARK, decades, padded
from unstuck.report.run.drawing import LOGARITHMIC_FROM
from unstuck.watching.files.recorded import Course

# Letters in a line of what is shown beside the pointer, and in a label.
_LINE, _LABEL = 64, 26

# With more points than this single ones are not marked.
_MARKED = 60


def plain(text: str) -> str:
    """Text that Plotly takes as it is: it reads a kind of HTML."""
    return escape("".join(c if c.isprintable() else " " for c in text), quote=False)


def wrapped(text: str) -> str:
    """The same in lines."""
    return "<br>".join(plain(line) for line in wrap(text, _LINE))


def short(text: str) -> str:
    """A label; of a long one the end, where layers differ."""
    return plain(text if len(text) <= _LABEL else "\u2026" + text[1 - _LABEL :])


def fitting(values: Iterable[float | None]) -> dict[str, Any]:
    """A scale for these values: logarithmic if they are positive and span much."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if known and min(known) > 0.0 and max(known) > LOGARITHMIC_FROM * min(known):
        return decades(min(known) / 1.3, 1.3 * max(known))
    return {"range": padded(known)}


def over_steps(figure: go.Figure, course: Course, **place: Any) -> go.Figure:
    """Give the axis of steps the ends of the run, and a title to the lowest; what the pointer shows is readable."""
    figure.update_layout(hoverlabel={"align": "left", "font": {"color": MARK}})
    air = 0.015 * course.steps
    figure.update_xaxes(range=[1.0 - air, course.steps + air], tickformat=",d")
    return figure.update_xaxes(title_text="step", hoverformat=",.0f", **place)


def line(
    figure: go.Figure,
    steps: Sequence[float],
    values: Sequence[float | None],
    name: str,
    colour: str,
    **more: Any,
) -> None:
    """Add a curve; where a value is not known it breaks."""
    shown = [value if value is not None and math.isfinite(value) else None for value in values]
    figure.add_scatter(
        x=list(steps),
        y=shown,
        mode="lines+markers" if len(shown) <= _MARKED else "lines",
        line={"color": colour, "width": 2},
        marker={"size": 5, "color": colour},
        name=name,
        **{"hovertemplate": f"{name} %{{y:.4g}}<br>step %{{x:,.0f}}<extra></extra>", **more},
    )


def level(figure: go.Figure, value: float, look: dict[str, Any], **place: Any) -> None:
    """Draw a line across at a value."""
    figure.add_hline(y=value, line=look, **place)


def known(values: Iterable[float | None]) -> bool:
    """Whether there is any value to draw."""
    return any(value is not None and math.isfinite(value) for value in values)
