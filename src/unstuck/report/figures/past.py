"""The recorded history: loss and gradient side by side, over the steps that led here."""

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Past
from unstuck.report.figures.theme import DOWN, MARK, QUIET, UP, decades, padded, style

STALLED = 0.1  # of the record, from which on the end of the fall is marked
LOGARITHMIC_FROM = 20.0  # the ratio of largest to smallest value
PLACES = ("the loss", "the length of the gradient")


def has_past(verdict: Verdict) -> bool:
    """Whether a history was handed in."""
    return verdict.measured.past is not None


def past(verdict: Verdict) -> go.Figure:
    """Left the loss, right the gradient if it was recorded; a line where the loss last improved."""
    found = verdict.measured.past
    curves = ((found.losses, UP), (found.gradients, DOWN)) if found else ()
    drawn = [curve for curve in curves if curve[0]]
    figure = make_subplots(
        rows=1, cols=max(len(drawn), 1), subplot_titles=PLACES[: len(drawn)], horizontal_spacing=0.12
    )
    for column, (points, colour) in enumerate(drawn, 1):
        values = [value for _, value in points]
        figure.add_scatter(
            x=[step for step, _ in points],
            y=values,
            mode="lines",
            line={"color": colour, "width": 2},
            showlegend=False,
            hovertemplate="%{y:.4g} at step %{x:.0f}<extra></extra>",
            row=1,
            col=column,
        )
        place: dict[str, Any] = {"row": 1, "col": column}
        positive = min(values) > 0.0 and max(values) > LOGARITHMIC_FROM * min(values)
        axis = decades(min(values) / 1.2, 1.2 * max(values)) if positive else {"range": padded(values)}
        figure.update_yaxes(**axis, **place)
        if found and found.improved is not None and _stands(found, found.improved):
            figure.add_vline(x=found.improved, line={"color": QUIET, "dash": "dash", "width": 1.5}, **place)
    style(figure, "How the run got here, as it was recorded", 360)
    figure.update_xaxes(title_text="steps (dashed: since when the loss stands still)")
    figure.update_annotations(font={"size": 14, "color": MARK})
    return figure


def _stands(found: Past, since: float) -> bool:
    return found.last - since > STALLED * (found.last - found.first)
