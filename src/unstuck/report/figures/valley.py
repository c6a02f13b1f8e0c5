"""Between the walls of a valley: the loss along the gradient, and where the present step lands."""

import math

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Route
from unstuck.report.figures.theme import DOWN, GREEN, MARK, UP, padded, style
from unstuck.report.numbers import TIMES, significant

OVERSHOOTS = 0.9  # of the present step: a best step that is shorter lies before the landing point
FURTHER = 1.15  # shown beyond the landing point
MARGIN = 0.22  # on either side, for what is written there


def drawn_valley(verdict: Verdict) -> tuple[Route, float] | None:
    """The line search and the loss where the present step lands, if that lies beyond the best point of the search."""
    measured = verdict.measured
    along, full = measured.route("gradient"), measured.route("full")
    # Only of a step along the gradient itself is the landing point on this line.
    if along is None or full is None or measured.gradient.stable is None or not along.distances:
        return None
    landing = along.losses[0] - full.gain.value
    overshot = along.multiple is not None and 0.0 < along.multiple < OVERSHOOTS
    return (along, landing) if overshot and math.isfinite(landing) else None


def valley(verdict: Verdict) -> go.Figure:
    """The measured loss on a plain axis, in units of the present step."""
    figure = go.Figure()
    found = drawn_valley(verdict)
    if found is not None and found[0].multiple:
        along, landing = found
        unit = along.distance / found[0].multiple
        tried = dict(zip(along.distances, along.losses, strict=True)) | {unit: landing}
        points = [
            (distance / unit, loss)
            for distance, loss in sorted(tried.items())
            if distance <= FURTHER * unit and math.isfinite(loss)
        ]
        _curve(figure, points)
        _jump(figure, along.losses[0], landing)
        best = along.losses[0] - along.gain.value
        _mark(figure, found[0].multiple, best, f"best: {significant(found[0].multiple, 2)}{TIMES}", GREEN)
        figure.update_yaxes(title_text="loss", range=padded([loss for _, loss in points], 0.25))
    style(figure, "Between the walls: where the present step lands", 380)
    figure.update_xaxes(
        title_text="way along the negative gradient, in units of the present step",
        range=[-MARGIN, FURTHER + MARGIN],
    )
    return figure


def _curve(figure: go.Figure, points: list[tuple[float, float]]) -> None:
    figure.add_scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="lines+markers",
        # Not a spline: it would draw dips between the points that nobody measured.
        line={"color": UP, "width": 2},
        marker={"size": 6, "color": UP},
        name="the loss, as measured",
        hovertemplate="loss %{y:.4g}<br>at %{x:.3g} of the present step<extra></extra>",
        showlegend=False,
    )


def _jump(figure: go.Figure, here: float, landing: float) -> None:
    _mark(figure, 0.0, here, "the run is here", MARK)
    _mark(figure, 1.0, landing, "the next step lands here", DOWN)
    figure.add_annotation(
        x=1.0,
        y=landing,
        ax=0.0,
        ay=here,
        axref="x",
        ayref="y",
        showarrow=True,
        arrowhead=2,
        arrowwidth=1.5,
        arrowcolor=DOWN,
        standoff=8,
        startstandoff=8,
        opacity=0.7,
    )


def _mark(figure: go.Figure, x: float, y: float, text: str, colour: str) -> None:
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers+text",
        marker={"symbol": "diamond", "size": 12, "color": colour, "line": {"color": "#FFFFFF", "width": 1.5}},
        text=[f"{text}\u2002" if x == 0.0 else f"\u2002{text}"] if x in (0.0, 1.0) else [text],
        textposition={0.0: "middle left", 1.0: "middle right"}.get(x, "bottom center"),
        textfont={"color": colour},
        cliponaxis=False,
        showlegend=False,
        hovertemplate=f"{text}: loss %{{y:.4g}}<extra></extra>",
    )
