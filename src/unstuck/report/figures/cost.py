"""What the diagnosis cost, against forming the Hessian that it never formed."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.theme import FLAT, UP, decades, style
from unstuck.report.numbers import count, memory, seconds, significant


def has_cost(verdict: Verdict) -> bool:
    """Whether there is anything to compare: products, and a Hessian that would have cost more."""
    return verdict.cost.products > 0 and verdict.cost.gradients < verdict.measured.subject.parameters


def cost(verdict: Verdict) -> go.Figure:
    """Gradient evaluations: this diagnosis, and a Hessian built column by column (at least one each)."""
    spent = verdict.cost
    size = verdict.measured.subject.parameters
    rows = (
        ("this diagnosis", spent.gradients, UP, f"{seconds(spent.seconds)}, {memory(spent.peak_bytes)}"),
        ("forming the Hessian", float(size), FLAT, "at least: one product per parameter"),
    )
    figure = go.Figure()
    for label, number, colour, words in rows:
        figure.add_bar(
            y=[label],
            x=[max(number, 1.0)],
            orientation="h",
            marker={"color": colour, "line_width": 0},
            text=[f"{significant(number)}"],
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            hovertemplate=f"{label}: {count(number, 'gradient evaluation')}<br>{words}<extra></extra>",
        )
    style(figure, "What it cost", 210)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", showline=False)
    most = max(10.0, spent.gradients, float(size))
    figure.update_xaxes(**decades(1.0, 2 * most), title_text="gradient evaluations (log scale)")
    return figure
