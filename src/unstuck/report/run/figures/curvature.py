"""The extreme curvatures that the looks found, and how near the steps are to the limit of stability."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.estimate import Estimate
from unstuck.report.figures.signed_axis import SignedAxis
from unstuck.report.figures.theme import DOWN, MARK, QUIET, UP, minus, padded, steady, style
from unstuck.report.numbers import with_error
from unstuck.report.run.figures.axes import level, over_steps
from unstuck.report.run.numbers import STABLE, stability
from unstuck.watching.files.recorded import Course, Glance, Recorded

# Of the largest curvature: below it the axis is linear.
_FLAT = 1e-3


def curvature(_recorded: Recorded, course: Course) -> go.Figure | None:
    """The highest and the lowest Ritz value of each look; below, rate times the highest."""
    looks = [look for look in course.looks if look.lambda_min and look.lambda_max]
    if not looks:
        return None
    products = [stability(course, look) for look in looks]
    rows = 2 if any(product is not None for product in products) else 1
    figure = make_subplots(
        rows=rows,
        cols=1,
        shared_xaxes=True,
        row_heights=[0.62, 0.38][:rows],
        vertical_spacing=0.06,
    )
    axis = SignedAxis(_FLAT * _largest(looks) or 1.0)
    for name, colour, values in (
        ("highest", UP, [look.lambda_max for look in looks]),
        ("lowest", DOWN, [look.lambda_min for look in looks]),
    ):
        _ends(figure, looks, values, axis, f"{name} curvature", colour)
    _judged(figure, looks, axis)
    _scale(figure, looks, axis)
    if rows > 1:
        _stability(figure, looks, products)
    style(figure, "How the loss curves: the looks at the live graph", 260 + 160 * (rows - 1) + 60)
    return over_steps(figure, course, row=rows, col=1)


def _ends(
    figure: go.Figure,
    looks: Sequence[Glance],
    values: Sequence[Estimate | None],
    axis: SignedAxis,
    name: str,
    colour: str,
) -> None:
    shown = [(look.step, value) for look, value in zip(looks, values, strict=True) if value is not None]
    figure.add_scatter(
        x=[step for step, _ in shown],
        y=[axis.at(value.value) for _, value in shown],
        error_y=_bars(shown, axis, colour, 1.2),
        mode="lines+markers",
        line={"color": colour, "width": 1.5},
        marker={"size": 7, "color": colour},
        name=name,
        customdata=[minus(f"{name} {with_error(value)} (residual)") for _, value in shown],
        hovertemplate="%{customdata}<br>step %{x:,.0f}<extra></extra>",
        row=1,
        col=1,
    )


def _judged(figure: go.Figure, looks: Sequence[Glance], axis: SignedAxis) -> None:
    """Along the lowest direction, on other batches than the one it was found on."""
    shown = [(look.step, look.judged) for look in looks if look.judged is not None]
    if not shown:
        return
    figure.add_scatter(
        x=[step for step, _ in shown],
        y=[axis.at(value.value) for _, value in shown],
        error_y=_bars(shown, axis, MARK, 1.0),
        mode="markers",
        marker={"symbol": "diamond-open", "size": 10, "color": MARK},
        name="along the lowest, on other batches",
        customdata=[minus(f"{with_error(value)} on other batches") for _, value in shown],
        hovertemplate="curvature along the lowest: %{customdata}<br>step %{x:,.0f}<extra></extra>",
        row=1,
        col=1,
    )


def _bars(
    shown: Sequence[tuple[int, Estimate]], axis: SignedAxis, colour: str, thickness: float
) -> dict[str, Any]:
    """Error bars on an axis that is not linear: each end where the axis puts it."""
    values = [(value.value, steady(value.stderr)) for _, value in shown]
    return {
        "type": "data",
        "symmetric": False,
        "array": [axis.at(value + error) - axis.at(value) for value, error in values],
        "arrayminus": [axis.at(value) - axis.at(value - error) for value, error in values],
        "color": colour,
        "thickness": thickness,
        "width": 4,
    }


def _scale(figure: go.Figure, looks: Sequence[Glance], axis: SignedAxis) -> None:
    values = [
        one.value + sign * steady(one.stderr)
        for look in looks
        for one in (look.lambda_min, look.lambda_max, look.judged)
        if one is not None
        for sign in (-1.0, 1.0)
    ]
    low, high = min(*values, 0.0), max(*values, 0.0)
    positions, labels = axis.ticks(low, high)
    figure.update_yaxes(
        title_text="curvature",
        tickvals=positions,
        ticktext=labels,
        range=padded([axis.at(low), axis.at(high)]),
        row=1,
        col=1,
    )
    level(figure, 0.0, {"color": QUIET, "width": 1}, row=1, col=1)


def _stability(figure: go.Figure, looks: Sequence[Glance], products: Sequence[float | None]) -> None:
    figure.add_scatter(
        x=[look.step for look in looks],
        y=list(products),
        mode="lines+markers",
        line={"color": MARK, "width": 1.5},
        marker={"size": 6},
        showlegend=False,
        hovertemplate="rate times highest curvature %{y:.3g}<br>step %{x:,.0f}<extra></extra>",
        row=2,
        col=1,
    )
    level(figure, STABLE, {"color": DOWN, "dash": "dot", "width": 1.5}, row=2, col=1)
    most = max(STABLE, *(product for product in products if product is not None))
    figure.update_yaxes(title_text="rate \u00d7 highest", range=[0.0, 1.15 * most], row=2, col=1)


def _largest(looks: Sequence[Glance]) -> float:
    return max(abs(one.value) for look in looks for one in (look.lambda_min, look.lambda_max) if one)
