"""What the order of the data does: going on in it, and with the same examples shuffled."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Reordered, Structure
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.theme import DOWN, FLAT, QUIET, UP, padded, style
from unstuck.report.numbers import TIMES, percent, significant


def has_order(verdict: Verdict) -> bool:
    """Whether the order was looked at."""
    return verdict.measured.order is not None


def order(verdict: Verdict) -> go.Figure:
    """Both runs where there are any, else how much batches differ from random ones."""
    found = verdict.measured.order
    if found is not None and found.reordered is not None:
        return _runs(found.reordered)
    return stacked(
        "Are the batches drawn at random?", *(() if found is None else (_batches(found.structure),))
    )


def _batches(structure: Structure) -> Panel:
    if structure.purity is not None and structure.expected_purity is not None:
        unit = "examples of a batch that belong to its most common class, %"
        pairs = (
            ("batches as they come", structure.purity),
            ("batches drawn at random", structure.expected_purity),
        )
        rows = [
            Bar(label, 100 * share, colour, percent(share)) for (label, share), colour in _coloured(pairs)
        ]
        return Panel(unit, rows, 100.0)
    pairs = (("batches as they come", structure.excess), ("batches drawn at random", 1.0))
    rows = [
        Bar(label, value, colour, significant(value) + TIMES) for (label, value), colour in _coloured(pairs)
    ]
    return Panel("variance of the batch means over that of random batches", rows, 2.0)


def _coloured(pairs: tuple[tuple[str, float], ...]) -> list[tuple[tuple[str, float], str]]:
    return list(zip(pairs, (DOWN, FLAT), strict=True))


def _runs(found: Reordered) -> go.Figure:
    figure = go.Figure()
    for name, losses, colour in (
        ("in the order as given", found.given, DOWN),
        ("with the same examples shuffled", found.shuffled, UP),
    ):
        figure.add_scatter(
            x=[0, *found.marks],
            y=[found.loss, *losses],
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 6},
            name=name,
            showlegend=True,
            hovertemplate="loss %{y:.4g}<br>after %{x} steps<extra></extra>",
        )
    figure.add_hline(y=found.loss, line={"color": QUIET, "dash": "dash", "width": 1.5})
    style(figure, "Going on in this order, and shuffled", 380)
    figure.update_xaxes(title_text="steps")
    return figure.update_yaxes(title_text="loss", range=padded([found.loss, *found.given, *found.shuffled]))
