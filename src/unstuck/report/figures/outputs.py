"""How low the loss can go with the outputs as they are built, against where it is."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.theme import DOWN, FLAT, MARK, UP


def has_outputs(verdict: Verdict) -> bool:
    """Whether a floor of the loss is known."""
    found = verdict.measured.outputs
    return found is not None and found.built is not None


def outputs(verdict: Verdict) -> go.Figure:
    """The present loss, the floor below it, and the floor that free outputs would have."""
    found = verdict.measured.outputs
    rows: list[Bar] = []
    if found is not None:
        named = (
            ("the loss now", found.loss, MARK),
            ("lowest as it is built", found.built, DOWN),
            ("lowest with free outputs", found.free, UP),
        )
        rows = [
            Bar(label, value, colour if value else FLAT, f"{value:.4g}")
            for label, value, colour in named
            if value is not None
        ]
    return stacked("How low can the loss go?", Panel("loss", rows))
