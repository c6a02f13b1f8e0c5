"""Where steps end: short of the bottom, or beyond it."""

import plotly.graph_objects as go

from unstuck.findings.live.steps import BOUNCES
from unstuck.report.figures.theme import DOWN, QUIET, UP, style
from unstuck.report.run.figures.axes import known, line, over_steps
from unstuck.watching.files.recorded import Course, Recorded

# From a straight line on to twice as high on the other side; what scatters further is drawn at the edge.
_LOWEST, _HIGHEST = -1.5, 2.0


def overshoot(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Slope along each step where it ends, over that where it began."""
    values = [sample.overshoot for sample in course.samples]
    if not known(values):
        return None
    held = [None if value is None else min(max(value, _LOWEST), _HIGHEST) for value in values]
    figure = go.Figure()
    figure.add_hline(y=0.0, line={"color": QUIET, "width": 1})
    figure.add_hline(y=BOUNCES, line={"color": DOWN, "dash": "dot", "width": 1.5})
    line(
        figure,
        [sample.step for sample in course.samples],
        held,
        "slope at the end over that at the beginning",
        UP,
        connectgaps=True,
        customdata=values,
        hovertemplate="%{customdata:.4g}<br>step %{x:,.0f}<extra></extra>",
    )
    style(figure, "Where the steps end: short of the bottom, or beyond it", 320)
    figure.update_yaxes(title_text="overshoot", range=[_LOWEST - 0.1, _HIGHEST + 0.1])
    return over_steps(figure, course)
