"""What rounding leaves of the steps."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.gains import gain_bar, gains_panel
from unstuck.report.figures.theme import DOWN, FLAT, UP
from unstuck.report.numbers import percent


def has_precision(verdict: Verdict) -> bool:
    """Whether the gains with and without rounding are known."""
    found = verdict.measured.precision
    return found is not None and None not in (found.rounded_gain, found.exact_gain)


def precision(verdict: Verdict) -> go.Figure:
    """Gains of the same steps, rounded and exact; and which updates rounding swallows."""
    found = verdict.measured.precision
    panels: list[Panel] = []
    if found is not None and found.rounded_gain is not None and found.exact_gain is not None:
        panels = [
            gains_panel(
                f"gain of the next {found.steps} steps",
                gain_bar(verdict, f"rounded to {found.dtype}", found.rounded_gain, DOWN),
                gain_bar(verdict, "exact", found.exact_gain, UP),
            ),
            Panel(
                "one step, %",
                (
                    Bar("parameters left unmoved", 100 * found.lost, DOWN, percent(found.lost)),
                    Bar("kept of the step's length", 100 * found.kept, FLAT, percent(found.kept)),
                ),
                100.0,
                whole=True,
            ),
        ]
    return stacked("What rounding leaves of the steps", *panels)
