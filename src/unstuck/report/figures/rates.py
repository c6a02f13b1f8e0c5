"""What other steps would do: the loss against steps at the present learning rate, at others, without noise."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Arm
from unstuck.report.figures.theme import DOWN, FAR, GREEN, MARK, QUIET, UP, cut, decades, minus, style
from unstuck.report.numbers import significant
from unstuck.report.words import arm_name

FARTHEST = 2.0  # shown above the present loss, in units of the largest decrease; more rise is cut off
SMALLEST_DROP = 0.02  # of the loss: where nothing falls, what rises is shown at this scale at least
LOGARITHMIC_FROM = 20.0  # a fall by this factor is seen on a logarithmic axis only
UNEQUAL = 5  # arms whose lengths differ by more are drawn over the logarithm of the steps
START = 0.5  # where a logarithmic axis shows step 0

_DASHES = ("solid", "dash", "dot")


def has_rates(verdict: Verdict) -> bool:
    """Whether another way of stepping was tried, and any loss on the way is a number."""
    return any(math.isfinite(loss) for arm in _arms(verdict) for loss in arm.losses)


def rates(verdict: Verdict) -> go.Figure:
    """One curve per arm, from the same point; one that leaves the picture says so in the legend."""
    arms = _arms(verdict)
    low, high = _heights(arms, verdict.measured.scale)
    lengths = [arm.steps for arm in arms]
    together = max(lengths) <= UNEQUAL * min(lengths)
    figure = go.Figure()
    for arm, (colour, dash) in zip(arms, _looks(arms), strict=True):
        shown = [
            (mark if together else max(mark, START), loss)
            for mark, loss in zip(arm.marks, arm.losses, strict=True)
            if math.isfinite(loss)
        ]
        figure.add_scatter(
            x=[mark for mark, _ in shown],
            y=cut((loss for _, loss in shown), high + FAR * (high - low)),
            customdata=[loss for _, loss in shown],
            mode="lines+markers",
            line={"color": colour, "width": 3 if arm.name == "going on" else 2, "dash": dash},
            marker={"size": 6},
            name=minus(f"{arm_name(arm)}{_leaves(arm, high)}"),
            showlegend=True,
            hovertemplate="loss %{customdata:.4g}<br>after %{x} steps<extra></extra>",
        )
    figure.add_hline(y=arms[0].losses[0], line={"color": QUIET, "dash": "dash", "width": 1.5})
    style(figure, "What other steps would do from here", 440)
    figure.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin_b=40)
    _axes(figure, (low, high), max(lengths), together=together)
    return figure


def _arms(verdict: Verdict) -> Sequence[Arm]:
    found = verdict.measured.continuations
    return found.arms if found else ()


def _axes(figure: go.Figure, heights: tuple[float, float], longest: int, *, together: bool) -> None:
    low, high = heights
    if low > 0.0 and high > LOGARITHMIC_FROM * low:
        figure.update_yaxes(title_text="loss (log scale)", **decades(low, high))
    else:
        figure.update_yaxes(title_text="loss", range=[low, high])
    if together:
        figure.update_xaxes(title_text="steps", range=[-0.02 * longest, 1.02 * longest])
        return
    axis = decades(0.9 * START, 1.1 * longest)
    pairs = list(zip(axis["tickvals"], axis["ticktext"], strict=True))
    ticks = [(START, "0"), *((value, text) for value, text in pairs if value > START)]
    axis |= {"tickvals": [value for value, _ in ticks], "ticktext": [text for _, text in ticks]}
    figure.update_xaxes(title_text="steps (log scale)", **axis)


def _looks(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Blue for lower rates, orange for higher ones, green for all the sample; broken the more, the further."""
    looks: list[tuple[str, str]] = []
    used = {UP: 0, DOWN: 0, GREEN: 0, MARK: 0}
    for arm in arms:
        colour = GREEN if arm.name == "whole" else MARK
        if arm.name == "rate":
            colour = DOWN if arm.factor > 1.0 else UP
        looks.append((colour, _DASHES[used[colour] % len(_DASHES)]))
        used[colour] += 1
    return looks


def _heights(arms: Sequence[Arm], scale: float) -> tuple[float, float]:
    """From the lowest loss to a little above the present one: what diverges would flatten everything else."""
    here = arms[0].losses[0]
    finite = [loss for arm in arms for loss in arm.losses if math.isfinite(loss)]
    lowest = min(finite, default=here)
    drop = max(here - lowest, SMALLEST_DROP * scale)
    top = min(max(finite, default=here), here + FARTHEST * drop)
    low = lowest - 0.1 * drop
    if lowest > 0.0 and here > LOGARITHMIC_FROM * lowest:
        low = lowest / 1.5
    return low, max(top, here) + 0.1 * drop


def _leaves(arm: Arm, high: float) -> str:
    finite = [loss for loss in arm.losses if math.isfinite(loss)]
    if len(finite) < len(arm.losses):
        return " (diverges)"
    highest = max(finite)
    return f" (leaves the picture: up to {significant(highest)})" if highest > high else ""
