"""How much of a batch's gradient is signal, against the size of the batch."""

import math

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Noise
from unstuck.report.figures.theme import MARK, QUIET, UP, decades, style
from unstuck.report.numbers import significant

POINTS = 80
BEYOND = 16.0  # shown past the present batch and past the noise scale, on either side
BOUND = 2.0  # standard errors that an unknown signal is taken to be above its estimate
HALF = 0.5


def noise_scales(noise: Noise | None) -> tuple[float, float, float] | None:
    """The noise scale with its lower and upper end; where the signal drowns only the lower end is known."""
    if noise is None or noise.batch <= 0.0:
        return None
    if noise.simple is not None:
        value = noise.simple.value
        error = noise.simple.stderr if math.isfinite(noise.simple.stderr) else 0.0
        return (value, max(value - error, value / 10.0), value + error) if value > 0.0 else None
    most = max(noise.signal.value, 0.0) + BOUND * noise.signal.stderr
    if not 0.0 < most < math.inf or noise.variance.value <= 0.0:
        return None
    least = noise.variance.value / most
    return least, least, math.inf


def noise(verdict: Verdict) -> go.Figure:
    r"""$1 / (1 + B_\mathrm{simple} / B)$ of a batch gradient's squared length is the gradient of all data."""
    figure = go.Figure()
    known, scales = verdict.measured.noise, noise_scales(verdict.measured.noise)
    if known is not None and scales is not None:
        _curve(figure, known, scales)
    style(figure, "How much of a batch's gradient is signal", 380)
    figure.update_yaxes(title_text="share that is signal, %", range=[-4, 112])
    figure.update_xaxes(title_text="examples in a batch (log scale)")
    return figure


def _curve(figure: go.Figure, known: Noise, scales: tuple[float, float, float]) -> None:
    value, low, high = scales
    first, last = min(known.batch, value) / BEYOND, max(known.batch, value) * BEYOND
    sizes = [first * (last / first) ** (index / (POINTS - 1)) for index in range(POINTS)]
    figure.add_scatter(
        x=[*sizes, *reversed(sizes)],
        y=[*(_signal(size, low) for size in sizes), *(_signal(size, high) for size in reversed(sizes))],
        mode="lines",
        fill="toself",
        line={"width": 0},
        fillcolor="rgba(0,114,178,0.15)",
        name="possible" if math.isinf(high) else "± one standard error",
        showlegend=True,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=sizes,
        y=[_signal(size, value) for size in sizes],
        mode="lines",
        line={"color": UP, "width": 2.5},
        name="at most" if math.isinf(high) else "best estimate",
        showlegend=True,
        hovertemplate="batch of %{x:.3g}: %{y:.3g} % signal<extra></extra>",
    )
    here = _signal(known.batch, value)
    figure.add_scatter(
        x=[known.batch],
        y=[here],
        mode="markers+text",
        marker={"symbol": "diamond", "size": 13, "color": MARK},
        text=[f"the present batch: {known.batch:.3g}"],
        textposition="top right" if known.batch < value else "top left",  # towards the middle
        showlegend=False,
        hovertemplate="present batch of %{x:.3g}: %{y:.3g} % signal<extra></extra>",
    )
    figure.add_hline(y=100 * HALF, line={"color": QUIET, "dash": "dot", "width": 1.5})
    figure.add_annotation(
        x=1.0,
        xref="x domain",
        y=100 * HALF,
        xanchor="right",
        yanchor="bottom",
        text=f"as much noise as signal: {'at least ' if math.isinf(high) else ''}{significant(value, 2)} examples",
        showarrow=False,
        font={"size": 12, "color": QUIET},
    )
    figure.update_xaxes(**decades(first, last))


def _signal(size: float, scale: float) -> float:
    return 0.0 if math.isinf(scale) else 100.0 / (1.0 + scale / size)
