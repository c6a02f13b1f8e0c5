"""Do the inputs predict the labels? Predictions of examples that were left out, against permuted labels."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.theme import DOWN, FLAT, MARK, QUIET, UP, steady, style
from unstuck.report.numbers import significant, with_error

SIGMAS = 2.0  # of the shaded zone: what permuted labels reach nineteen times in twenty
LEAST = -0.3  # of the axis


def has_labels(verdict: Verdict) -> bool:
    """Whether it was tested."""
    return verdict.measured.labels is not None


def labels(verdict: Verdict) -> go.Figure:
    """One bar for the correlation, a zone for chance, a line for what would have been noticed."""
    found = verdict.measured.labels
    figure = go.Figure()
    style(figure, "Do the inputs predict the labels?", 240)
    if found is None:
        return figure
    chance, value = SIGMAS * steady(found.dependence.stderr), found.dependence.value
    figure.add_vrect(x0=-chance, x1=chance, fillcolor=FLAT, opacity=0.25, line_width=0, layer="below")
    figure.add_bar(
        y=[0],
        x=[value],
        width=[0.35],
        orientation="h",
        marker={"color": UP if value > chance else DOWN, "line_width": 0},
        hovertemplate=f"correlation {with_error(found.dependence)}<extra></extra>",
        showlegend=False,
    )
    figure.add_annotation(
        x=max(value, chance, min(found.detectable, 1.0)),
        y=0,
        text=f"{with_error(found.dependence)} (p = {significant(found.p_value, 2)})".replace("-", "\u2212"),
        xanchor="left",
        xshift=8,
        showarrow=False,
        bgcolor="rgba(255,255,255,0.8)",
    )
    if found.detectable <= 1.0:
        figure.add_vline(x=found.detectable, line={"color": QUIET, "dash": "dot", "width": 1.5})
        _note(figure, found.detectable, "noticed from here on", "bottom", 1.0)
    _note(figure, -chance, "chance", "top", 0.0)
    figure.add_vline(x=0, line={"color": MARK, "width": 1})
    figure.update_xaxes(
        title_text="correlation of left-out labels with their predictions (1: foretold exactly)",
        range=[min(LEAST, value - 0.05), 1.5],
        tickvals=[tick / 4 for tick in range(-4, 5) if tick / 4 > min(LEAST, value - 0.05)],
    )
    return figure.update_yaxes(visible=False, range=[-0.5, 0.5])


def _note(figure: go.Figure, x: float, text: str, anchor: str, y: float) -> None:
    figure.add_annotation(
        x=x,
        y=y,
        yref="y domain",
        text=text,
        xanchor="left",
        yanchor=anchor if anchor == "bottom" else "bottom",
        xshift=3,
        showarrow=False,
        font={"size": 12, "color": QUIET},
    )
