"""The trials: a fan of loss curves from one state, and below it what each remedy gained, with its interval."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.findings.records import Verdict
from unstuck.measurements.records.trials import Curve, Trial
from unstuck.report.figures.theme import (
    DOWN,
    FAR,
    FLAT,
    GREEN,
    MARK,
    QUIET,
    UP,
    cut,
    decades,
    padded,
    style,
)

PURPLE = "#CC79A7"
COLOURS = (GREEN, UP, DOWN, PURPLE)
LOGARITHMIC_FROM = 20.0  # a fall by this factor is seen on a logarithmic axis only
FARTHEST = 2.0  # shown above the present loss, in units of the largest decrease
SMALLEST_DROP = 0.02  # of the loss
WORST = -1.0  # a remedy that doubles the loss; what is worse is cut off
UPPER: dict[str, Any] = {"row": 1, "col": 1}
LOWER: dict[str, Any] = {"row": 2, "col": 1}
ROW = 34  # pixels for each remedy in the lower part


def has_trials(verdict: Verdict) -> bool:
    """Whether anything came to the proof."""
    return bool(_proved(verdict))


def trials(verdict: Verdict) -> go.Figure:
    """Above, the loss against what was spent, one thin line an order; below, gains with intervals."""
    proved, found = _proved(verdict), verdict.trials
    going = found.going_on if found else ()
    lower = 60 + ROW * len(proved)
    figure = make_subplots(
        rows=2,
        cols=1,
        row_heights=[360, lower],
        vertical_spacing=100 / (460 + lower),
        subplot_titles=("the loss", "gain over going on, in % of its loss"),
    )
    _fan(figure, going, "going on as before", MARK)
    for trial, colour in zip(proved, COLOURS, strict=False):
        _fan(figure, trial.curves, trial.name, colour)
    _gains(figure, proved)
    _axes(figure, [*going, *(curve for trial in proved for curve in trial.curves)])
    style(figure, "What was tried from here", 500 + lower)
    figure.update_layout(legend={"y": 1.06, "yanchor": "bottom"}, margin_t=110)
    figure.update_annotations(font={"size": 14, "color": MARK})
    return figure


def _proved(verdict: Verdict) -> Sequence[Trial]:
    found = verdict.trials
    return [trial for trial in found.tried if trial.gain is not None] if found else ()


def _fan(figure: go.Figure, curves: Sequence[Curve], name: str, colour: str) -> None:
    ceiling = _ceiling(curves)
    for number, curve in enumerate(curves):
        figure.add_scatter(
            x=curve.spent,
            y=cut(curve.losses, ceiling),
            mode="lines",
            line={"color": colour, "width": 1.4},
            opacity=0.75,
            name=name,
            legendgroup=name,
            showlegend=number == 0,
            hovertemplate=f"{name}<br>loss %{{y:.4g}} after %{{x:.0f}} gradients<extra></extra>",
            **UPPER,
        )


def _ceiling(curves: Sequence[Curve]) -> float:
    """Browsers draw no line to a point that is millions of pixels away."""
    begins = [abs(curve.losses[0]) for curve in curves if math.isfinite(curve.losses[0])]
    return FAR * FAR * max(begins, default=1.0)


def _gains(figure: go.Figure, proved: Sequence[Trial]) -> None:
    for trial, colour in zip(proved, COLOURS, strict=False):
        low, high = _percent(trial.low), _percent(trial.high)
        middle = _percent(trial.gain.value if trial.gain else None)
        figure.add_scatter(
            x=[low, high],
            y=[trial.name, trial.name],
            mode="lines",
            line={"color": colour, "width": 4},
            showlegend=False,
            hoverinfo="skip",
            **LOWER,
        )
        figure.add_scatter(
            x=[middle],
            y=[trial.name],
            mode="markers",
            marker={"color": colour, "size": 11, "line": {"color": "#FFFFFF", "width": 1.5}},
            showlegend=False,
            hovertemplate=f"{trial.name}: %{{x:.1f}} % ({low:.1f} to {high:.1f})<extra></extra>",
            **LOWER,
        )
    figure.add_vline(x=0.0, line={"color": QUIET, "dash": "dash", "width": 1.5}, **LOWER)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", **LOWER)
    ends = [_percent(end) for trial in proved for end in (trial.low, trial.high)]
    figure.update_xaxes(range=padded([0.0, *ends], 0.08), title_text="% lower than going on", **LOWER)


def _percent(share: float | None) -> float:
    if share is None or math.isnan(share):
        return 0.0
    return 100.0 * min(max(share, WORST), -WORST * FAR)


def _axes(figure: go.Figure, curves: Sequence[Curve]) -> None:
    finite = [loss for curve in curves for loss in curve.losses if math.isfinite(loss)]
    here = curves[0].losses[0] if curves and math.isfinite(curves[0].losses[0]) else max(finite, default=1.0)
    lowest = min(finite, default=here)
    drop = max(here - lowest, SMALLEST_DROP * abs(here))
    top = min(max(finite, default=here), here + FARTHEST * drop) + 0.05 * drop
    if lowest > 0.0 and top > LOGARITHMIC_FROM * lowest:
        figure.update_yaxes(**decades(lowest / 1.3, top), **UPPER)
    else:
        figure.update_yaxes(range=[lowest - 0.08 * drop, top], **UPPER)
    figure.update_xaxes(title_text="gradient evaluations of a batch", **UPPER)
    figure.add_hline(y=here, line={"color": FLAT, "dash": "dash", "width": 1.2}, **UPPER)
