"""Where the next decrease can come from: what each way down gains, in percent of the loss."""

from typing import Any

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.facts import Way, ways
from unstuck.report.figures.theme import DOWN, FLAT, MARK, UP, minus, steady, style

SMALLEST_FULL_SCALE = 1.0  # percent of the loss: a gain of nothing must look like nothing


def descent(verdict: Verdict) -> go.Figure:
    """One bar per route; the slope's part of the gain and the negative curvature's are told apart."""
    rows = ways(verdict)
    labels = [way.label for way in rows]
    figure = go.Figure()
    _bars(figure, labels, "owed to the slope", UP, [100 * way.slope for way in rows])
    _bars(figure, labels, "owed to negative curvature", DOWN, [100 * way.curvature for way in rows], "/")
    _bars(figure, labels, "the loss rises", FLAT, [100 * way.share if way.rises else 0.0 for way in rows])
    _whiskers(figure, rows, [steady(100 * way.stderr) for way in rows])
    style(figure, "Where can the next decrease come from?", 130 + 46 * len(rows))
    figure.update_layout(barmode="relative")
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", showline=False)
    figure.update_xaxes(
        title_text="decrease of the loss, % (whiskers: ± one standard error)", range=_reach(rows)
    )
    figure.add_vline(x=0, line={"color": MARK, "width": 1})
    return figure


def _bars(
    figure: go.Figure, labels: list[str], name: str, colour: str, values: list[float], pattern: str = ""
) -> None:
    shown = any(abs(value) > 0 for value in values)
    figure.add_bar(
        y=labels,
        x=values,
        orientation="h",
        name=name,
        showlegend=shown,
        marker={"color": colour, "line_width": 0, "pattern": _pattern(pattern, colour)},
        hoverinfo="skip",
    )


def _pattern(shape: str, colour: str) -> dict[str, Any]:
    return {"shape": shape, "bgcolor": colour, "fgcolor": "#FFFFFF", "size": 7, "solidity": 0.25}


def _whiskers(figure: go.Figure, rows: tuple[Way, ...], errors: list[float]) -> None:
    figure.add_scatter(
        y=[way.label for way in rows],
        x=[100 * way.share for way in rows],
        error_x={"type": "data", "array": errors, "color": MARK, "thickness": 1.3, "width": 5},
        mode="markers",
        marker={"color": MARK, "size": 5},
        cliponaxis=False,
        showlegend=False,
        customdata=[_hover(way) for way in rows],
        hovertemplate="%{customdata}<extra></extra>",
    )
    low, _ = _reach(rows)
    for way, error in zip(rows, errors, strict=True):
        cut = " (cut off)" if 100 * way.share < low else ""
        figure.add_annotation(
            y=way.label,
            x=max(100 * way.share + error, 0.0),
            text=f"{minus(way.gain)} %{cut}",
            xanchor="left",
            xshift=8,
            showarrow=False,
            font={"size": 13},
        )


def _hover(way: Way) -> str:
    multiple = f" ({way.multiple} the present step)" if way.multiple else ""
    return minus(f"{way.label}: {way.gain} % of the loss<br>after a step of length {way.step}{multiple}")


def _reach(rows: tuple[Way, ...]) -> tuple[float, float]:
    ends = [(100 * way.share, steady(100 * way.stderr)) for way in rows]
    high = max(SMALLEST_FULL_SCALE, *(share + error for share, error in ends))
    low = min(0.0, *(share - error for share, error in ends))
    return max(1.05 * low, -0.5 * high), 1.35 * high  # room for the label right of the bar
