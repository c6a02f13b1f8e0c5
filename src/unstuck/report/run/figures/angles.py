"""Where successive gradients point, and where the steps go."""

import plotly.graph_objects as go

from unstuck.report.figures.theme import DOWN, QUIET, UP, style
from unstuck.report.run.figures.axes import known, line, over_steps
from unstuck.report.run.numbers import BOUNCES
from unstuck.watching.files.recorded import Course, Recorded


def angles(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Cosines of successive gradients, and of each step with the negative gradient."""
    steps = [sample.step for sample in course.samples]
    turns = [sample.gradient_cosine for sample in course.samples]
    falls = [sample.descent_cosine for sample in course.samples]
    if not known(turns) and not known(falls):
        return None
    figure = go.Figure()
    figure.add_hline(y=0.0, line={"color": QUIET, "width": 1})
    figure.add_hline(y=BOUNCES, line={"color": DOWN, "dash": "dot", "width": 1.5})
    line(figure, steps, falls, "step and negative gradient", UP)
    line(figure, steps, turns, "successive gradients", DOWN)
    style(figure, "Where the gradients point, and where the steps go", 320)
    figure.update_yaxes(title_text="cosine", range=[-1.05, 1.05])
    return over_steps(figure, course)
