"""The look that the figures of all studies share: what tells curves apart is also seen in grey print."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from unstuck.report.figures.theme import DOWN, GREEN, MARK, QUIET, UP, decades, style

# Okabe & Ito's colours, each with a dash and a symbol of its own.
LOOKS = (
    (UP, "solid", "circle"),
    (DOWN, "dash", "square"),
    (GREEN, "dot", "diamond"),
    ("#CC79A7", "dashdot", "triangle-up"),
    (MARK, "longdash", "x"),
    ("#E69F00", "longdashdot", "cross"),
    ("#56B4E9", "solid", "star"),
)

# Around what is drawn on a logarithmic axis, as a factor.
AIR = 1.5

Numbers = Sequence[float | None]


def curve(figure: go.Figure, x: Numbers, y: Numbers, name: str, look: int, **more: Any) -> go.Figure:
    """Add a line; the same name twice is one entry of the legend."""
    colour, dash, _ = LOOKS[look % len(LOOKS)]
    return figure.add_scatter(
        x=list(x),
        y=list(y),
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=_new(figure, name),
        line={"color": colour, "width": 2, "dash": dash},
        hovertemplate=f"{name}: %{{y:.3g}} at %{{x:.3g}}<extra></extra>",
        **more,
    )


def dots(figure: go.Figure, x: Sequence[Any], y: Numbers, name: str, look: int, **more: Any) -> go.Figure:
    """Add points."""
    colour, _, symbol = LOOKS[look % len(LOOKS)]
    more.setdefault("hovertemplate", f"{name}: %{{y:.3g}} at %{{x}}<extra></extra>")
    return figure.add_scatter(
        x=list(x),
        y=list(y),
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=_new(figure, name),
        marker={"color": colour, "size": 8, "symbol": symbol, "line": {"color": "#FFFFFF", "width": 0.5}},
        **more,
    )


def level(figure: go.Figure, y: float, text: str, *, log: bool = False) -> go.Figure:
    """Draw a level across, with what it means; on a logarithmic axis Plotly places text by the logarithm."""
    figure.add_hline(y=y, line={"color": QUIET, "width": 1, "dash": "dot"})
    return figure.add_annotation(
        x=1.0,
        xref="paper",
        xanchor="right",
        y=math.log10(y) if log else y,
        yanchor="bottom",
        text=text,
        showarrow=False,
        font={"color": QUIET, "size": 12},
    )


def finished(figure: go.Figure, title: str, x: str, y: str, *, height: int = 400) -> go.Figure:
    """Give a plain figure its look, its title and the names of its axes."""
    style(figure, title, height)
    return figure.update_xaxes(title_text=x).update_yaxes(title_text=y)


def logarithmic(figure: go.Figure, *, x: bool = False, y: bool = False) -> go.Figure:
    """Give axes a logarithmic scale about what is drawn; Plotly's own labels of 2 to 9 run into each other."""
    traces: Sequence[Any] = figure.data  # pyright: ignore[reportAssignmentType]
    if x:
        figure.update_xaxes(**_about([value for trace in traces for value in trace.x]))
    if y:
        figure.update_yaxes(**_about([value for trace in traces for value in trace.y]))
    return figure


def _about(values: Numbers) -> dict[str, Any]:
    shown = [value for value in values if value is not None and 0.0 < value < math.inf] or [1.0]
    return decades(min(shown) / AIR, max(shown) * AIR)


def _new(figure: go.Figure, name: str) -> bool:
    traces: Sequence[Any] = figure.data  # pyright: ignore[reportAssignmentType]
    return all(trace.name != name for trace in traces)
