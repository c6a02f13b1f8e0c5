"""What the order of the data does: going on in it, and with the same examples shuffled."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Reordered, Structure
from unstuck.measurements.records.order import SUSPICIOUS
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.theme import DOWN, FLAT, QUIET, UP, dotted, padded, style
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
    given, random = "batches as they come", "batches drawn at random"
    colour = DOWN if structure.suspicious else UP
    if structure.purity is not None and structure.expected_purity is not None:
        rows = (
            Bar(given, 100 * structure.purity, colour, percent(structure.purity)),
            Bar(random, 100 * structure.expected_purity, FLAT, percent(structure.expected_purity)),
        )
        unit = "examples of a batch that belong to its most common class, %"
        return Panel(unit, rows, 100.0, whole=True)
    chance = f"p = {significant(structure.probability, 2)}"
    rows = (
        Bar(given, structure.excess, colour, f"{significant(structure.excess)}{TIMES} ({chance})"),
        Bar(random, 1.0, FLAT, f"1{TIMES}"),
    )
    return Panel("variance of the batch means over that of random batches", rows, SUSPICIOUS)


def _runs(found: Reordered) -> go.Figure:
    figure = go.Figure()
    for name, losses, colour in (
        ("in the order as given", found.given, DOWN),
        ("with the same examples shuffled", found.shuffled, UP),
    ):
        dotted(
            figure,
            [0, *found.marks],
            [found.loss, *losses],
            colour,
            name=name,
            showlegend=True,
            hovertemplate="loss %{y:.4g}<br>after %{x} steps<extra></extra>",
        )
    figure.add_hline(y=found.loss, line={"color": QUIET, "dash": "dash", "width": 1.5})
    style(figure, "Going on in this order, and shuffled", 380)
    figure.update_xaxes(title_text="steps")
    return figure.update_yaxes(title_text="loss", range=padded([found.loss, *found.given, *found.shuffled]))
