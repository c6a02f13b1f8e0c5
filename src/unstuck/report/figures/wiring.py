"""What is left out of the training, against what is trained: which of them could lower the loss?"""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.gains import gain_bar, gains_panel
from unstuck.report.figures.theme import DOWN, UP
from unstuck.report.numbers import percent

TRAINED, LEFT_OUT = "what is trained", "what is left out"


def has_wiring(verdict: Verdict) -> bool:
    """Whether something is left out whose gain is known."""
    found = verdict.measured.wiring
    return (
        found is not None and bool(found.left_out) and None not in (found.excluded_gain, found.trained_gain)
    )


def wiring(verdict: Verdict) -> go.Figure:
    """Share of the parameters, and the gain of one line search along the gradient of each group."""
    found = verdict.measured.wiring
    panels: list[Panel] = []
    if found is not None and found.excluded_gain is not None and found.trained_gain is not None:
        shares = ((TRAINED, 1.0 - found.share, UP), (LEFT_OUT, found.share, DOWN))
        panels = [
            gains_panel(
                "gain of one step along their gradient",
                gain_bar(verdict, TRAINED, found.trained_gain, UP),
                gain_bar(verdict, LEFT_OUT, found.excluded_gain, DOWN),
            ),
            Panel(
                "share of the parameters, %",
                [Bar(label, 100 * share, colour, percent(share)) for label, share, colour in shares],
                100.0,
                whole=True,
            ),
        ]
    return stacked("What is trained, and what is left out", *panels)
