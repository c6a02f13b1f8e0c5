"""The size that an adaptive optimizer divides by, against the size of the gradients now."""

import math

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.gains import gain_bar, gains_panel
from unstuck.report.figures.theme import DOWN, FLAT, UP, steady
from unstuck.report.numbers import TIMES, significant


def has_moments(verdict: Verdict) -> bool:
    """Whether the ratio of both is known."""
    found = verdict.measured.second_moment
    return found is not None and found.ratio is not None and math.isfinite(found.ratio.value)


def moments(verdict: Verdict) -> go.Figure:
    r"""How far $\sigma$ is from the present root mean square of the gradients, in decades; what each gains."""
    found = verdict.measured.second_moment
    panels: list[Panel] = []
    if found is not None and found.ratio is not None:
        present, fresh = found.present_gain, found.fresh_gain
        if present is not None and fresh is not None:
            panels.append(
                gains_panel(
                    f"gain of the next {found.steps} steps",
                    gain_bar(verdict, "with sigma as it is", present, DOWN),
                    gain_bar(verdict, "with sigma measured afresh", fresh, UP),
                )
            )
        panels.append(_sizes(found.ratio.value / math.log(10.0), steady(found.ratio.stderr) / math.log(10.0)))
    return stacked("The memory of past gradients, against the present ones", *panels)


def _sizes(decades: float, error: float) -> Panel:
    """One decade is a factor of ten: the smaller of both ends at zero."""
    least = min(decades, 0.0)
    times = f"{significant(10.0 ** min(abs(decades), 300.0), 2)}{TIMES} the other"
    larger = decades > 0.0
    return Panel(
        "size in powers of ten above the smaller one",
        (
            Bar("sigma, as remembered", decades - least, DOWN, times if larger else "", error),
            Bar("|g|, the gradients now", -least, FLAT, "" if larger else times),
        ),
        1.0,
    )
