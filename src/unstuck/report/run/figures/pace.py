"""How many steps a second the run makes."""

from itertools import pairwise

import plotly.graph_objects as go

from unstuck.report.figures.theme import UP, style
from unstuck.report.run.figures.axes import over_steps
from unstuck.watching.files.recorded import Course, Recorded

# Stretches of the run whose pace is drawn: single steps vary too much.
_STRETCHES = 100

# A run must have lasted so many seconds to have a pace worth a figure.
_LASTING = 1.0


def pace(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Steps per second over stretches of equally many points of the curve."""
    curve = course.curve
    if course.seconds < _LASTING or len(curve) < 3:  # noqa: PLR2004 - two stretches
        return None
    each = max(1, len(curve) // _STRETCHES)
    edges = [*curve[::each], curve[-1]] if (len(curve) - 1) % each else list(curve[::each])
    stretches = [
        (left.last, right.last, (right.last - left.last) / (right.time - left.time))
        for left, right in pairwise(edges)
        if right.time > left.time
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=[end for _, end, _ in stretches],
        y=[rate for _, _, rate in stretches],
        mode="lines",
        line={"color": UP, "width": 2, "shape": "vh"},
        customdata=[f"steps {start:,} to {end:,}" for start, end, _ in stretches],
        hovertemplate="%{y:.3g} steps/s<br>%{customdata}<extra></extra>",
    )
    style(figure, "How fast it went", 260)
    figure.update_yaxes(title_text="steps per second", rangemode="tozero")
    return over_steps(figure, course)
