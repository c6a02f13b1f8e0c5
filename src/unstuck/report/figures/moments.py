"""The size that an adaptive optimizer divides by, against the size of the gradients now."""

import math

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.gains import gain_bar, gains_panel
from unstuck.report.figures.theme import DOWN, FLAT, UP
from unstuck.report.numbers import TIMES, significant

FAR_OFF = 10.0  # from one decade on both have nothing to do with each other
LARGEST = 230.0  # natural logarithm of a ratio that can be drawn


def has_moments(verdict: Verdict) -> bool:
    """Whether the ratio of both is known."""
    found = verdict.measured.second_moment
    return found is not None and found.ratio is not None and math.isfinite(found.ratio.value)


def moments(verdict: Verdict) -> go.Figure:
    r"""How far $\sigma$ is from the present root mean square of the gradients, in decades; what each gains."""
    found = verdict.measured.second_moment
    panels: list[Panel] = []
    if found is not None and found.ratio is not None:
        panels.append(_sizes(found.ratio.value))
        present, fresh = found.present_gain, found.fresh_gain
        if present is not None and fresh is not None:
            panels.append(
                gains_panel(
                    f"gain of the next {found.steps} steps",
                    gain_bar(verdict, "with sigma as it is", present, DOWN),
                    gain_bar(verdict, "with sigma measured afresh", fresh, UP),
                )
            )
    return stacked("The memory of past gradients, against the present ones", *panels)


def _sizes(ratio: float) -> Panel:
    """Both as multiples of the smaller one."""
    times = math.exp(min(abs(ratio), LARGEST))
    sizes = (times, 1.0) if ratio > 0.0 else (1.0, times)
    colour = DOWN if times >= FAR_OFF else UP
    named = zip(("sigma, as remembered", "|g|, the gradients now"), sizes, (colour, FLAT), strict=True)
    rows = [Bar(label, size, colour, significant(size, 2) + TIMES) for label, size, colour in named]
    return Panel("size, as a multiple of the smaller one (log scale)", rows, full=FAR_OFF, factors=True)
