"""The figures of a verdict: each a function from the verdict to a Plotly figure."""

from collections.abc import Callable

import plotly.graph_objects as go

from unstuck.errors import MeasurementError
from unstuck.findings.records import Verdict
from unstuck.report.figures.cost import cost
from unstuck.report.figures.descent import descent
from unstuck.report.figures.line import drawn_routes, line
from unstuck.report.figures.slices import slices
from unstuck.report.figures.spectrum import spectrum

FIGURES: dict[str, Callable[[Verdict], go.Figure]] = {
    "descent": descent,
    "spectrum": spectrum,
    "slices": slices,
    "line": line,
    "cost": cost,
}


def available(verdict: Verdict) -> tuple[str, ...]:
    """Names of the figures for which something was measured, in the order in which they are best read."""
    measured = verdict.measured
    there = {
        "descent": bool(measured.routes),
        "spectrum": measured.spectrum is not None,
        "slices": bool(measured.slices),
        "line": bool(drawn_routes(verdict)),
        "cost": True,
    }
    return tuple(name for name in FIGURES if there[name])


def figure(verdict: Verdict, name: str) -> go.Figure:
    """Draw one figure by its name.

    Raises:
        MeasurementError: There is no figure of that name, or what it shows was not measured.
    """
    names = available(verdict)
    if name not in names:
        why = "was not measured here" if name in FIGURES else "is not the name of a figure"
        msg = f"figure {name!r} {why}: choose one of {', '.join(names)}"
        raise MeasurementError(msg)
    return FIGURES[name](verdict)
