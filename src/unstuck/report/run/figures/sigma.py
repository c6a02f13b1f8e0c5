"""What the optimizer divides by, against the present gradient; and what rounding leaves unchanged."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.findings.live.logged import MOST_LOST
from unstuck.report.figures.theme import DOWN, QUIET, UP, decades, style
from unstuck.report.run.figures.axes import known, level, line, over_steps
from unstuck.report.run.numbers import is_rounded
from unstuck.watching.files.recorded import Course, Recorded


def sigma(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Sigma over the root mean square of the gradient, and the share of parameters that a step leaves as they are."""
    steps = [sample.step for sample in course.samples]
    ratios = [sample.sigma_ratio for sample in course.samples]
    still = [sample.unchanged for sample in course.samples]
    has_ratios, has_still = known(ratios), is_rounded(course)
    rows = int(has_ratios) + int(has_still)
    if rows == 0:
        return None
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    if has_ratios:
        fine = [ratio for ratio in ratios if ratio is not None and ratio > 0.0] or [1.0]
        line(figure, steps, ratios, "sigma over gradient", UP, showlegend=False, row=1, col=1)
        level(figure, 1.0, {"color": QUIET, "dash": "dot", "width": 1.5}, row=1, col=1)
        scale = decades(min(*fine, 0.5) / 1.2, 1.2 * max(*fine, 2.0))
        figure.update_yaxes(title_text="sigma over gradient", **scale, row=1, col=1)
    if has_still:
        shares = [None if share is None else 100.0 * share for share in still]
        line(figure, steps, shares, "% unchanged", DOWN, showlegend=False, row=rows, col=1)
        level(figure, 100.0 * MOST_LOST, {"color": QUIET, "dash": "dot", "width": 1.5}, row=rows, col=1)
        figure.update_yaxes(title_text="unchanged, %", range=[-3.0, 103.0], row=rows, col=1)
    style(figure, _title(has_ratios=has_ratios, has_still=has_still), 160 + 170 * rows)
    return over_steps(figure, course, row=rows, col=1)


def _title(*, has_ratios: bool, has_still: bool) -> str:
    parts = ["what the optimizer divides by"] * has_ratios + ["what rounding leaves unchanged"] * has_still
    words = ", and ".join(parts)
    return words[0].upper() + words[1:]
