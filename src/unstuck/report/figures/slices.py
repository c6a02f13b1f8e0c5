"""The real loss along the two decisive eigenvectors, against the quadratic model of it."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Slice
from unstuck.report.figures.theme import DOWN, MARK, QUIET, UP, minus, padded, style
from unstuck.report.numbers import with_error


def slices(verdict: Verdict) -> go.Figure:
    """One panel per eigenvector: points for the real loss, dashes for the model, a diamond for the run."""
    shown = verdict.measured.slices
    titles = [f"{item.name} eigenvalue: {minus(with_error(item.eigenvalue))}" for item in shown]
    figure = make_subplots(rows=1, cols=len(shown), subplot_titles=titles, horizontal_spacing=0.12)
    for column, item in enumerate(shown, start=1):
        _panel(figure, item, column)
    style(figure, "The real loss along the decisive eigenvectors", 400)
    figure.update_layout(legend={"y": -0.22, "yanchor": "top"}, margin_b=40)
    figure.update_annotations(font={"size": 14, "color": MARK})
    return figure


def _panel(figure: go.Figure, item: Slice, column: int) -> None:
    colour = UP if item.eigenvalue.value > 0 else DOWN
    once = column == 1
    here = next((loss for x, loss in zip(item.distances, item.losses, strict=True) if x == 0), None)
    real = [loss if math.isfinite(loss) else None for loss in item.losses]
    model = [loss if math.isfinite(loss) else None for loss in item.model]
    figure.add_scatter(
        x=item.distances,
        y=model,
        mode="lines",
        line={"dash": "dash", "color": QUIET, "width": 2},
        name="quadratic model",
        showlegend=once,
        legendgroup="model",
        hovertemplate="model: loss %{y:.4g}<br>at distance %{x:.3g}<extra></extra>",
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=item.distances,
        y=real,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 6, "color": colour},
        name="real loss",
        showlegend=once,
        legendgroup="real",
        hovertemplate="real loss %{y:.4g}<br>at distance %{x:.3g}<extra></extra>",
        row=1,
        col=column,
    )
    figure.add_scatter(
        x=[0.0],
        y=[here],
        mode="markers",
        marker={"symbol": "diamond", "size": 12, "color": MARK, "line": {"color": "#FFFFFF", "width": 1.5}},
        name="the run is here",
        showlegend=once,
        legendgroup="here",
        hovertemplate="the run is here: loss %{y:.4g}<extra></extra>",
        row=1,
        col=column,
    )
    figure.update_yaxes(range=padded(item.losses), row=1, col=column)
    figure.update_yaxes(title_text="loss", row=1, col=1)
    figure.update_xaxes(title_text="distance along the eigenvector", row=1, col=column)
