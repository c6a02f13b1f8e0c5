"""Loss and gradient norm over one axis of steps, with what was found where it was found."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.report.figures.theme import DOWN, FLAT, GREEN, MARK, QUIET, UP, style
from unstuck.report.numbers import seconds
from unstuck.report.run.drawing import mean
from unstuck.report.run.figures.axes import fitting, known, line, over_steps, wrapped
from unstuck.report.run.numbers import varies
from unstuck.report.run.standing import Mark, marks, said, stalled
from unstuck.watching.files.recorded import Course, Part, Recorded

# Points of the thick curve's window: a fiftieth of the axis.
_WINDOW = 50

# Half the width of a mark, as a share of the axis.
_REACH = 0.016

# Events of one mark that the pointer shows.
_SAID = 4

_COLOURS = {"stall": DOWN, "finding": MARK, "moving": GREEN}
_GROUPS = (QUIET, GREEN, "#CC79A7", "#56B4E9", "#E69F00")  # Okabe & Ito, as in the theme


def course(recorded: Recorded, course: Course) -> go.Figure | None:
    """The loss on top, the gradient norm below it, and below that the learning rate if it changes."""
    told = recorded.told(course.number)
    rows = [_loss] if known(part.mean for part in course.curve) else []
    rows += [_gradient] if known(sample.gradient_norm for sample in course.samples) else []
    if not rows:
        return None
    rows += [_rate] if varies(course) else []
    heights = [{_loss: 0.52, _gradient: 0.33, _rate: 0.18}[row] for row in rows]
    figure = make_subplots(
        rows=len(rows), cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.045
    )
    for number, row in enumerate(rows, 1):
        row(figure, course, number)
    for start, end in stalled(told, course.steps):
        for row in range(1, len(rows) + 1):
            place: dict[str, Any] = {"row": row, "col": 1}
            figure.add_vrect(start, end, fillcolor=DOWN, opacity=0.08, line_width=0, layer="below", **place)
    if rows[0] is _loss:
        shown = marks(told, course.curve[0].first, course.steps)
        _pointed_at(figure, course, shown)
        _marks(figure, course, shown)
    style(figure, "Loss and gradient norm", 60 + 200 * len(rows))
    return over_steps(figure, course, row=len(rows), col=1)


def _loss(figure: go.Figure, course: Course, row: int) -> None:
    curve = course.curve
    steps = [part.last for part in curve]
    if any(part.count > 1 for part in curve):
        _band(figure, curve, row)
    smooth = smoothed([part.mean for part in curve])
    figure.add_scatter(
        x=steps,
        y=[part.mean for part in curve],
        mode="lines",
        line={"color": UP, "width": 1},
        opacity=0.35,
        showlegend=False,
        hoverinfo="skip",
        row=row,
        col=1,
    )
    figure.add_scatter(
        x=steps,
        y=smooth,
        mode="lines",
        line={"color": UP, "width": 2.5},
        showlegend=False,
        hoverinfo="skip",
        row=row,
        col=1,
    )
    broken = [part.last for part in curve if part.missing and part.mean is None]
    if broken:
        figure.add_scatter(
            x=broken,
            y=[_height(course, step) for step in broken],
            mode="markers",
            marker={"symbol": "x", "size": 8, "color": DOWN},
            showlegend=False,
            hovertemplate="no finite loss<br>step %{x:,.0f}<extra></extra>",
            row=row,
            col=1,
        )
    scale = fitting([part.mean for part in curve])
    figure.update_yaxes(title_text="loss" + _log(scale), **scale, row=row, col=1)


def _band(figure: go.Figure, curve: Sequence[Part], row: int) -> None:
    """From the least loss of each point's steps to the greatest."""
    fine = [part for part in curve if part.low is not None and part.high is not None]
    for values, fill in (([part.low for part in fine], None), ([part.high for part in fine], "tonexty")):
        figure.add_scatter(
            x=[part.last for part in fine],
            y=values,
            mode="lines",
            line={"width": 0},
            fill=fill,
            fillcolor="rgba(0,114,178,0.10)",
            showlegend=False,
            hoverinfo="skip",
            row=row,
            col=1,
        )


def _gradient(figure: go.Figure, course: Course, row: int) -> None:
    norms = [sample.gradient_norm for sample in course.samples]
    steps = [sample.step for sample in course.samples]
    line(figure, steps, norms, "\u2016g\u2016", DOWN, showlegend=False, row=row, col=1)
    scale = fitting(norms)
    figure.update_yaxes(title_text="\u2016g\u2016" + _log(scale), **scale, row=row, col=1)


def _rate(figure: go.Figure, course: Course, row: int) -> None:
    several = course.groups if len(course.groups) > 1 else ()
    rates = [part.rate for part in course.curve]
    if several:
        for group, colour in zip(several, _GROUPS, strict=False):
            name = f"rate of group {group.number}"
            line(figure, group.steps, group.rates, name, colour, showlegend=False, row=row, col=1)
    else:
        steps = [part.last for part in course.curve]
        line(figure, steps, rates, "rate", QUIET, showlegend=False, row=row, col=1)
    shown = [rate for group in several for rate in group.rates] or rates
    # Schedules end at zero, or next to it: a logarithmic scale would show little else.
    top = max((rate for rate in shown if rate is not None), default=1.0)
    figure.update_yaxes(title_text="rate", range=[-0.05 * top, 1.1 * top], nticks=4, row=row, col=1)


def _pointed_at(figure: go.Figure, course: Course, shown: Sequence[Mark]) -> None:
    """What stands beside the pointer: the loss, except where a mark has something to say."""
    reach = _REACH * course.steps
    free = [part for part in course.curve if all(abs(part.last - mark.step) > reach for mark in shown)]
    figure.add_scatter(
        x=[part.last for part in free],
        y=[part.mean for part in free],
        mode="markers",
        marker={"size": 6, "color": UP, "opacity": 0.0},
        showlegend=False,
        customdata=[seconds(part.time) for part in free],
        hovertemplate="loss %{y:.4g}<br>step %{x:,.0f}, after %{customdata}<extra></extra>",
        row=1,
        col=1,
    )


def _marks(figure: go.Figure, course: Course, shown: Sequence[Mark]) -> None:
    """Numbers on the curve, as in the list below; beside the pointer what they say."""
    if not shown:
        return
    figure.add_scatter(
        x=[mark.step for mark in shown],
        y=[_height(course, mark.step) for mark in shown],
        mode="markers+text",
        marker={
            "size": [16 + 8 * (len(mark.label) > 2) for mark in shown],  # noqa: PLR2004 - a range of numbers
            "color": [_COLOURS.get(mark.kind, FLAT) for mark in shown],
            "line": {"color": "#FFFFFF", "width": 1.5},
            "opacity": 1.0,
        },
        text=[mark.label for mark in shown],
        textfont={"color": "#FFFFFF", "size": 11},
        showlegend=False,
        cliponaxis=False,
        customdata=[_words(mark) for mark in shown],
        hovertemplate="%{customdata}<extra></extra>",
        row=1,
        col=1,
    )


def _words(mark: Mark) -> str:
    """What its events say, the last ones of more."""
    return "<br>".join(wrapped(f"Step {event.step:,}: {said(event)}") for event in mark.events[-_SAID:])


def _height(course: Course, step: int) -> float | None:
    """The thick curve at a step, or next to it."""
    smooth = smoothed([part.mean for part in course.curve])
    near = [
        (abs(part.last - step), value)
        for part, value in zip(course.curve, smooth, strict=True)
        if value is not None
    ]
    return min(near)[1] if near else None


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """Means over a window that is as long to the right as to the left, and shorter towards the ends.

    There it keeps a quarter of its length to one side, or the curve would end in the noise of single points.
    """
    half, last = max(len(values) // (2 * _WINDOW), 1), len(values) - 1
    means: list[float | None] = []
    for index, value in enumerate(values):
        reach = max(min(half, index, last - index), half // 4)
        near = [one for one in values[max(index - reach, 0) : index + reach + 1] if one is not None]
        means.append(mean(near) if near and value is not None else None)
    return means


def _log(scale: dict[str, object]) -> str:
    return " (log scale)" if scale.get("type") == "log" else ""
