"""Horizontal bars with error whiskers, for a few numbers that are to be compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.report.figures.theme import MARK, decades, minus, steady, style

ROOM = 1.5  # right of the longest bar, for its label
LEFT = 0.65  # of the axis at most, for what lies below zero
BAR, FRAME, BETWEEN = 40, 140, 100  # pixels: of one bar, around all panels, between two
HEAD, TAIL = 22, 12  # letters of a long label; more would leave no room for the bars


@dataclass(frozen=True)
class Bar:
    """One number, in the unit of the axis, and how it is written."""

    label: str
    value: float
    colour: str
    text: str
    stderr: float = 0.0


@dataclass(frozen=True)
class Panel:
    """Numbers of one unit.

    Attributes:
        axis: What they are, and in which unit.
        full: What the axis reaches at least.
        whole: They are percentages of one whole.
        factors: They are factors of 1 or more, on a logarithmic axis.
    """

    axis: str
    rows: Sequence[Bar]
    full: float = 0.0
    whole: bool = False
    factors: bool = False


def stacked(title: str, *panels: Panel) -> go.Figure:
    """Draw panels one above the other, in each one bar per row, the first on top."""
    shown = [panel for panel in panels if panel.rows]
    counts = [max(len(panel.rows), 1) for panel in shown]
    inner = BAR * sum(counts) + BETWEEN * (len(shown) - 1)
    figure = make_subplots(
        rows=len(shown), cols=1, row_heights=counts, vertical_spacing=BETWEEN / inner if len(shown) > 1 else 0
    )
    for number, panel in enumerate(shown, start=1):
        _panel(figure, panel, {"row": number, "col": 1})
    return style(figure, title, FRAME + inner)


def short(name: str) -> str:
    """Shorten a long name in its middle: of a module's name both ends matter."""
    return name if len(name) <= HEAD + TAIL else f"{name[:HEAD]}\u2026{name[-TAIL:]}"


def _panel(figure: go.Figure, panel: Panel, where: dict[str, Any]) -> None:
    rows = [row for row in panel.rows if math.isfinite(row.value)]
    high = max([row.value + steady(row.stderr) for row in rows] + [panel.full]) or 1.0
    low = min([row.value - steady(row.stderr) for row in rows] + [0.0])
    # What falls far below zero would push everything else out of sight; its label says how far.
    low = max(1.1 * low, -LEFT / (1.0 - LEFT) * ROOM * high)
    figure.add_bar(
        y=[row.label for row in rows],
        x=[max(row.value, low) for row in rows],
        orientation="h",
        marker={"color": [row.colour for row in rows], "line_width": 0},
        showlegend=False,
        hoverinfo="skip",
        **where,
    )
    _whiskers(figure, [row for row in rows if steady(row.stderr) > 0.0 and row.value > low], where)
    for row in rows:
        end = max(row.value + steady(row.stderr), 0.0)
        figure.add_annotation(
            x=math.log10(max(end, 1.0)) if panel.factors else end,
            y=row.label,
            text=minus(row.text) + (" (cut off)" if row.value < low else ""),
            xanchor="left",
            xshift=8,
            showarrow=False,
            font={"size": 13},
            **where,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", showline=False, **where)
    ticks = {"tickvals": [0, 25, 50, 75, 100]} if panel.whole else {}
    axis = decades(1.0, high**ROOM) if panel.factors else {"range": [low, ROOM * high], **ticks}
    figure.update_xaxes(title_text=panel.axis, **axis, **where)


def _whiskers(figure: go.Figure, rows: Sequence[Bar], where: dict[str, Any]) -> None:
    figure.add_scatter(
        y=[row.label for row in rows],
        x=[row.value for row in rows],
        mode="markers",
        marker={"size": 1, "color": MARK},
        error_x={
            "type": "data",
            "array": [row.stderr for row in rows],
            "color": MARK,
            "thickness": 1.3,
            "width": 5,
        },
        showlegend=False,
        hoverinfo="skip",
        **where,
    )
