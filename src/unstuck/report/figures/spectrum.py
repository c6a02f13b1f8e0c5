"""The eigenvalues of the Hessian: how many curve down, are flat, curve up."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.curvature.records import Certificate, Spectrum
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.findings.records import Verdict
from unstuck.report.eigenvalues import flat_share
from unstuck.report.figures.signed_axis import SignedAxis
from unstuck.report.figures.theme import DOWN, FLAT, MARK, QUIET, UP, decades, minus, steady, style
from unstuck.report.numbers import count, percent, probability, significant, with_error

BINS_IN_FLAT = 4  # so that zero and both limits of the flat zone are edges of bins
LOGARITHMIC_FROM = 30  # eigenvalues in one bin; below it single ones can be seen on a linear axis
FOUND, JUDGED = 1, 0


@dataclass(frozen=True)
class _Zone:
    name: str
    colour: str
    share: Estimate


def spectrum(verdict: Verdict) -> go.Figure:
    """Histogram of all eigenvalues, and below it those that were found one by one.

    Raises:
        MeasurementError: The verdict holds no spectrum.
    """
    known = verdict.measured.spectrum
    if known is None:
        msg = "the spectrum cannot be drawn: the curvature was not measured"
        raise MeasurementError(msg)
    judged = [slice_.eigenvalue for slice_ in verdict.measured.slices]
    return drawn(known, judged, "How the loss curves: the eigenvalues of the Hessian")


def drawn(known: Spectrum, judged: Sequence[Estimate], title: str) -> go.Figure:
    """Draw a spectrum, and its ends as they were judged."""
    axis = SignedAxis((known.flat * known.radius) or 1.0)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.78, 0.22], vertical_spacing=0.03)
    _histogram(figure, known, axis)
    _found(figure, known, axis)
    _judged(figure, judged, axis)
    _certificate(figure, known.floor, axis, "left")
    _certificate(figure, known.ceiling, axis, "right")
    flat = axis.at(axis.unit)
    figure.add_vrect(x0=-flat, x1=flat, fillcolor=FLAT, opacity=0.12, line_width=0, layer="below")
    style(figure, title, 460)
    _axes(figure, known, axis)
    return figure


def _zones(known: Spectrum) -> tuple[_Zone, _Zone, _Zone]:
    return (
        _Zone("curving down", DOWN, known.below),
        _Zone("flat", FLAT, flat_share(known)),
        _Zone("curving up", UP, known.above),
    )


def _histogram(figure: go.Figure, known: Spectrum, axis: SignedAxis) -> None:
    """One trace per zone, so that the legend states the share of each."""
    width = 2 * axis.at(axis.unit) / BINS_IN_FLAT
    bins: defaultdict[int, float] = defaultdict(float)
    for node, weight in zip(known.density.nodes, known.density.weights, strict=True):
        bins[math.floor(axis.at(node) / width)] += weight * known.size
    half = BINS_IN_FLAT // 2
    members = (
        [b for b in bins if b < -half],
        [b for b in bins if -half <= b < half],
        [b for b in bins if b >= half],
    )
    for zone, indices in zip(_zones(known), members, strict=True):
        indices.sort()
        figure.add_bar(
            x=[(index + 0.5) * width for index in indices] or [None],
            y=[bins[index] for index in indices] or [None],
            width=0.94 * width,
            marker={"color": zone.colour, "line_width": 0},
            name=minus(f"{zone.name}: {with_error(zone.share, 100.0)} %"),
            customdata=[
                _bin_words(axis, index * width, (index + 1) * width, bins[index]) for index in indices
            ],
            hovertemplate="%{customdata}<extra></extra>",
            row=1,
            col=1,
        )
    figure.update_yaxes(**_heights(known, max(bins.values(), default=1.0)), row=1, col=1)


def _heights(known: Spectrum, most: float) -> dict[str, Any]:
    what = "eigenvalues" if known.exact else "eigenvalues, estimated"
    if most < LOGARITHMIC_FROM:
        step = math.ceil(most / 5)
        return {"type": "linear", "rangemode": "tozero", "dtick": step, "title_text": what}
    return {**decades(0.5, 3 * most), "title_text": f"{what} (log scale)"}


def _bin_words(axis: SignedAxis, low: float, high: float, number: float) -> str:
    ends = f"{significant(axis.value(low), 2)} and {significant(axis.value(high), 2)}"
    return minus(f"about {count(number, 'eigenvalue')}<br>between {ends}")


def _found(figure: go.Figure, known: Spectrum, axis: SignedAxis) -> None:
    if known.exact:
        values, residuals = known.density.nodes, (0.0,) * len(known.density.nodes)
    else:
        single = {item.value: item.residual for item in (*known.lowest, *known.highest)}
        values, residuals = tuple(single), tuple(single.values())
    colours = [_colour(value, axis) for value in values]
    figure.add_scatter(
        x=[axis.at(value) for value in values],
        y=[FOUND] * len(values),
        mode="markers",
        marker={"symbol": "line-ns", "size": 15, "line": {"width": 1.8, "color": colours}},
        opacity=0.6 if known.exact else 1.0,
        showlegend=False,
        customdata=[
            minus(f"eigenvalue {significant(value)}<br>± {significant(residual, 2)} (residual)")
            for value, residual in zip(values, residuals, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
        row=2,
        col=1,
    )


def _judged(figure: go.Figure, judged: Sequence[Estimate], axis: SignedAxis) -> None:
    """The extreme directions on the data that judges, with the error that sampling leaves."""
    errors = [steady(item.stderr) for item in judged]
    ends = list(zip(judged, errors, strict=True))
    figure.add_scatter(
        x=[axis.at(item.value) for item in judged] or [None],
        y=[JUDGED] * len(judged) or [None],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [axis.at(item.value + error) - axis.at(item.value) for item, error in ends],
            "arrayminus": [axis.at(item.value) - axis.at(item.value - error) for item, error in ends],
            "color": MARK,
            "thickness": 1.2,
            "width": 4,
        },
        mode="markers",
        marker={"symbol": "diamond", "size": 8, "color": [_colour(item.value, axis) for item in judged]},
        showlegend=False,
        customdata=[
            minus(f"curvature along it on the judging data<br>{with_error(item)}") for item in judged
        ],
        hovertemplate="%{customdata}<extra></extra>",
        row=2,
        col=1,
    )


def _certificate(figure: go.Figure, certificate: Certificate, axis: SignedAxis, side: str) -> None:
    position = axis.at(certificate.bound)
    figure.add_vline(x=position, line={"color": QUIET, "dash": "dot", "width": 1.5})
    sure = "all computed" if certificate.probability == 1 else probability(certificate.probability)
    figure.add_annotation(
        x=position,
        y=1.0 if side == "left" else 0.91,
        yref="y domain",
        yanchor="top",
        xanchor=side,
        xshift=4 if side == "left" else -4,
        text=f"none further {side} ({sure})",
        showarrow=False,
        font={"size": 12, "color": QUIET},
        bgcolor="rgba(255,255,255,0.75)",
        row=1,
        col=1,
    )


def _axes(figure: go.Figure, known: Spectrum, axis: SignedAxis) -> None:
    low = min(known.floor.bound, known.lambda_min, -1.5 * axis.unit)
    high = max(known.ceiling.bound, known.lambda_max, 1.5 * axis.unit)
    positions, labels = axis.ticks(low, high)
    margin = 0.04 * (axis.at(high) - axis.at(low)) + axis.at(axis.unit) / BINS_IN_FLAT
    figure.update_xaxes(
        range=[axis.at(low) - margin, axis.at(high) + margin],
        tickvals=positions,
        ticktext=labels,
        showgrid=False,
    )
    limit = percent(known.flat)
    figure.update_xaxes(title_text=f"eigenvalue (flat: within {limit} of the largest, shaded)", row=2, col=1)
    figure.update_yaxes(
        range=[-0.7, 1.7],
        tickvals=[FOUND, JUDGED],
        ticktext=["found", "judged"],
        showgrid=False,
        row=2,
        col=1,
    )


def _colour(value: float, axis: SignedAxis) -> str:
    if abs(value) <= axis.unit:
        return FLAT
    return UP if value > 0 else DOWN
