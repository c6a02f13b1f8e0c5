"""Layer by layer over the run: how long its gradient is, and how far an update moves it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go

from unstuck.report.figures.theme import QUIET, round_numbers, style
from unstuck.report.run.figures.axes import over_steps, plain, short
from unstuck.report.units import place_name
from unstuck.watching.files.recorded import Course, Layer, Recorded

# Rows of a table that can be told apart; of more layers as many are drawn, evenly spread.
_MOST = 48

# Pixels of a row, and around all of them.
_ROW, _FRAME, _LEAST = 17, 110, 70

# Pixels that the numbers beside the colours need each.
_TICK = 24

# Decades below the greatest value that colours tell apart.
_DECADES = 6


def updates(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Update over weights of each layer."""
    rows = _drawn(course)
    return _table(
        course, rows, [row.ratios for row in rows], "How far one step moves each layer", "update over weights"
    )


def gradients(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Gradient norm of each layer."""
    rows = _drawn(course)
    return _table(
        course,
        rows,
        [row.gradient_norms for row in rows],
        "Which layers the gradient reaches",
        "gradient norm",
    )


def _drawn(course: Course) -> Sequence[Layer]:
    rows = course.layers.rows
    if len(rows) <= _MOST:
        return rows
    return [rows[round(index * (len(rows) - 1) / (_MOST - 1))] for index in range(_MOST)]


def _table(
    course: Course, rows: Sequence[Layer], values: Sequence[Sequence[float | None]], title: str, what: str
) -> go.Figure | None:
    logs = [[_log(value) for value in row] for row in values]
    finite = [value for row in logs for value in row if value is not None]
    if not finite or len(course.layers.steps) < 2:  # noqa: PLR2004 - one column shows no course
        return None
    high = max(finite)
    low = max(min(finite), high - _DECADES)
    low, high = (low, high) if high - low > 1.0 else (low - 0.5, high + 0.5)
    # An update of exactly zero is lower than anything.
    logs = [
        [low if value == 0.0 else log for value, log in zip(*pair, strict=True)]
        for pair in zip(values, logs, strict=True)
    ]
    height = max(_ROW * len(rows), _LEAST)
    ticks = [(log, text) for log, text in _ticks(low, high) if low <= log <= high]
    ticks = ticks[:: math.ceil(len(ticks) * _TICK / height)]
    figure = go.Figure()
    figure.add_heatmap(
        x=_edges(course),
        y=list(range(len(rows))),
        z=logs,
        zmin=low,
        zmax=high,
        colorscale="Cividis",
        customdata=[
            [
                None if value is None else f"{plain(place_name(row.name))}<br>{what} {value:.3g}"
                for value in own
            ]
            for row, own in zip(rows, values, strict=True)
        ],
        hovertemplate="%{customdata}<br>step %{x:,.0f}<extra></extra>",
        hoverongaps=False,
        colorbar={
            "title": {"text": what, "side": "right", "font": {"size": 13, "color": QUIET}},
            "tickvals": [log for log, _ in ticks],
            "ticktext": [text for _, text in ticks],
            "thickness": 12,
            "outlinewidth": 0,
        },
    )
    style(figure, title, _FRAME + height)
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[short(place_name(row.name)) for row in rows],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(showgrid=False)
    return over_steps(figure, course)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    return [(math.log10(value), text) for value, text in round_numbers(10.0**low, 10.0**high)]


def _edges(course: Course) -> list[float]:
    """Each column reaches half way to its neighbours."""
    steps = course.layers.steps
    between = [(left + right) / 2 for left, right in pairwise(steps)]
    return [steps[0], *between, steps[-1]]


def _log(value: float | None) -> float | None:
    return math.log10(value) if value is not None and 0.0 < value < math.inf else None
