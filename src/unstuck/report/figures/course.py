"""Loss and gradient, side by side, over the steps of going on: stuck is not the same as a small gradient."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Arm
from unstuck.report.figures.theme import DOWN, MARK, UP, decades, padded, style

LOGARITHMIC_FROM = 20.0  # the ratio of largest to smallest
SMOOTHED_FROM, WINDOW = 40, 15  # steps: more of them are too many zigzags to see a trend in


def drawn_course(verdict: Verdict) -> Arm | None:
    """Going on, if it was and its loss and gradient were kept."""
    found = verdict.measured.continuations
    if found is None:
        return None
    arm = found.going_on
    kept = [value for value in arm.values if math.isfinite(value)]
    return arm if len(kept) > 1 and arm.slopes else None


def course(verdict: Verdict) -> go.Figure:
    """Left the loss, right the length of the gradient, of each step's batch."""
    arm = drawn_course(verdict)
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("the loss", "the length of the gradient"), horizontal_spacing=0.12
    )
    if arm is not None:
        decay = verdict.measured.subject.decay
        batch = "of each step's batch" + (", without weight decay" if decay else "")
        _curve(figure, arm.values, batch, UP, 1)
        _curve(figure, arm.slopes, batch, DOWN, 2)
        _looks(figure, arm.marks, arm.losses)
        _axes(figure, arm)
    style(figure, "Going on as before: always look at both curves", 380)
    figure.update_layout(legend={"y": -0.22, "yanchor": "top"}, margin_b=40)
    figure.update_annotations(font={"size": 14, "color": MARK})
    return figure


def _curve(figure: go.Figure, values: Sequence[float], name: str, colour: str, column: int) -> None:
    shown = [value if math.isfinite(value) else None for value in values]
    many = len(shown) >= SMOOTHED_FROM
    figure.add_scatter(
        x=list(range(len(shown))),
        y=shown,
        mode="lines" if many else "lines+markers",
        line={"color": colour, "width": 1 if many else 2},
        opacity=0.4 if many else 1.0,
        name=name,
        showlegend=column == 1,
        hovertemplate="%{y:.4g} before step %{x}<extra></extra>",
        row=1,
        col=column,
    )
    if many:
        figure.add_scatter(
            x=list(range(len(shown))),
            y=_smooth(values),
            mode="lines",
            line={"color": colour, "width": 2.5},
            name=f"mean of {WINDOW} steps",
            showlegend=column == 1,
            hoverinfo="skip",
            row=1,
            col=column,
        )


def _smooth(values: Sequence[float]) -> list[float | None]:
    half = WINDOW // 2
    means: list[float | None] = []
    for index in range(len(values)):
        near = [value for value in values[max(0, index - half) : index + half + 1] if math.isfinite(value)]
        means.append(math.fsum(near) / len(near) if near else None)
    return means


def _looks(figure: go.Figure, marks: Sequence[int], losses: Sequence[float]) -> None:
    figure.add_scatter(
        x=marks[: len(losses)],
        y=[loss if math.isfinite(loss) else None for loss in losses],
        mode="markers",
        marker={"symbol": "diamond", "size": 9, "color": MARK, "line": {"color": "#FFFFFF", "width": 1}},
        name="of the sample",
        showlegend=bool(losses),
        hovertemplate="loss %{y:.4g} of the sample<br>after %{x} steps<extra></extra>",
        row=1,
        col=1,
    )


def _axes(figure: go.Figure, arm: Arm) -> None:
    heights = [*arm.values, *arm.losses]
    figure.update_xaxes(title_text="steps", range=[-0.03 * arm.steps, 1.03 * arm.steps])
    figure.update_yaxes(**(_wide(heights) or {"range": padded(heights)}), row=1, col=1)
    figure.update_yaxes(**(_wide(arm.slopes) or {"rangemode": "tozero"}), row=1, col=2)


def _wide(values: Sequence[float]) -> dict[str, Any] | None:
    """A logarithmic axis for what spans too much for a plain one; None where it does not or is not positive."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0.0 or max(finite) <= LOGARITHMIC_FROM * min(finite):
        return None
    return decades(min(finite) / 1.5, 1.5 * max(finite))
