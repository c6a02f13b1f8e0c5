"""The figures of a recorded run: each a function from the run and one of its optimizers to a Plotly figure.

A figure is None where there is nothing to draw.
"""

from collections.abc import Callable

import plotly.graph_objects as go

from unstuck.report.run.figures.angles import angles
from unstuck.report.run.figures.course import course
from unstuck.report.run.figures.curvature import curvature
from unstuck.report.run.figures.layers import gradients, updates
from unstuck.report.run.figures.noise import noise
from unstuck.report.run.figures.overshoot import overshoot
from unstuck.report.run.figures.pace import pace
from unstuck.report.run.figures.sigma import sigma
from unstuck.watching.files.recorded import Course, Recorded

# In the order in which they are best read.
FIGURES: dict[str, Callable[[Recorded, Course], go.Figure | None]] = {
    "course": course,
    "updates": updates,
    "gradients": gradients,
    "curvature": curvature,
    "angles": angles,
    "overshoot": overshoot,
    "noise": noise,
    "sigma": sigma,
    "pace": pace,
}
