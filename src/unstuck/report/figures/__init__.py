"""The figures of a verdict: each a function from the verdict to a Plotly figure."""

from collections.abc import Callable

import plotly.graph_objects as go

from unstuck.errors import MeasurementError
from unstuck.findings.records import Cause, Verdict
from unstuck.report.figures.cost import cost, has_cost
from unstuck.report.figures.course import course, drawn_course
from unstuck.report.figures.depth import depth, has_depth
from unstuck.report.figures.descent import descent
from unstuck.report.figures.labels import has_labels, labels
from unstuck.report.figures.layers import has_layers, layers
from unstuck.report.figures.line import drawn_routes, line
from unstuck.report.figures.moments import has_moments, moments
from unstuck.report.figures.noise import noise, noise_scales
from unstuck.report.figures.order import has_order, order
from unstuck.report.figures.outputs import has_outputs, outputs
from unstuck.report.figures.past import has_past, past
from unstuck.report.figures.precision import has_precision, precision
from unstuck.report.figures.rates import has_rates, rates
from unstuck.report.figures.slices import slices
from unstuck.report.figures.spectrum import spectrum
from unstuck.report.figures.trials import has_trials, trials
from unstuck.report.figures.validation import has_validation, validation
from unstuck.report.figures.valley import drawn_valley, valley
from unstuck.report.figures.wiring import has_wiring, wiring

# In the order in which they are best read.
FIGURES: dict[str, Callable[[Verdict], go.Figure]] = {
    "trials": trials,
    "descent": descent,
    "past": past,
    "course": course,
    "rates": rates,
    "valley": valley,
    "line": line,
    "noise": noise,
    "spectrum": spectrum,
    "slices": slices,
    "layers": layers,
    "depth": depth,
    "outputs": outputs,
    "labels": labels,
    "order": order,
    "validation": validation,
    "wiring": wiring,
    "moments": moments,
    "precision": precision,
    "cost": cost,
}

_MEASURED: dict[str, Callable[[Verdict], bool]] = {
    "trials": has_trials,
    "descent": lambda verdict: bool(verdict.measured.routes),
    "past": has_past,
    "course": lambda verdict: drawn_course(verdict) is not None,
    "rates": has_rates,
    "valley": lambda verdict: drawn_valley(verdict) is not None,
    "line": lambda verdict: bool(drawn_routes(verdict)),
    "noise": lambda verdict: noise_scales(verdict.measured.noise) is not None,
    "spectrum": lambda verdict: verdict.measured.spectrum is not None,
    "slices": lambda verdict: bool(verdict.measured.slices),
    "layers": has_layers,
    "depth": has_depth,
    "outputs": has_outputs,
    "labels": has_labels,
    "order": has_order,
    "validation": has_validation,
    "wiring": has_wiring,
    "moments": has_moments,
    "precision": has_precision,
    "cost": has_cost,
}

# What shows a cause best comes first.
_SHOWS: dict[Cause, tuple[str, ...]] = {
    Cause.HEALTHY: ("rates", "course"),
    Cause.SADDLE_POINT: ("descent", "slices"),
    Cause.LOCAL_MINIMUM: ("descent", "spectrum"),
    Cause.LOCAL_MAXIMUM: ("spectrum", "slices"),
    Cause.PLATEAU: ("slices", "descent"),
    Cause.STEP_TOO_LARGE: ("valley", "rates"),
    Cause.STEP_TOO_SMALL: ("rates", "line"),
    Cause.ILL_CONDITIONED: ("descent", "line"),
    Cause.GRADIENT_NOISE: ("rates", "noise"),
    Cause.VANISHING_GRADIENT: ("depth", "layers"),
    Cause.DEAD_UNITS: ("layers",),
    Cause.SATURATED_UNITS: ("layers",),
    Cause.STALE_SECOND_MOMENT: ("moments",),
    Cause.PRECISION_STALL: ("precision",),
    Cause.NON_FINITE: (),
    Cause.FROZEN_PARAMETERS: ("wiring",),
    Cause.MISMATCHED_LOSS: ("outputs",),
    Cause.UNINFORMATIVE_LABELS: ("labels",),
    Cause.UNSHUFFLED_DATA: ("order",),
    Cause.GENERALIZATION_GAP: ("validation",),
}


# That a run is healthy but for its leading cause needs no figure of its own.
_SHOWN_ALONG = set(Cause) - {Cause.HEALTHY}


def telling(verdict: Verdict) -> tuple[str, ...]:
    """Names of the figures that show what was found, those of the leading cause first."""
    told = [finding.cause for finding in verdict.findings if finding.cause in (verdict.cause, *_SHOWN_ALONG)]
    names = [name for cause in told for name in _SHOWS[cause]]
    return tuple(name for name in dict.fromkeys(["trials", *names]) if _MEASURED[name](verdict))


def available(verdict: Verdict) -> tuple[str, ...]:
    """Names of the figures for which something was measured: those that tell first, then in order of reading."""
    first = telling(verdict)
    return (*first, *(name for name in FIGURES if name not in first and _MEASURED[name](verdict)))


def figure(verdict: Verdict, name: str) -> go.Figure:
    """Draw one figure by its name.

    Raises:
        MeasurementError: There is no figure of that name, or what it shows was not measured.
    """
    names = available(verdict)
    if name not in names:
        why = "was not measured here" if name in FIGURES else "is not the name of a figure"
        there = f"choose one of {', '.join(names)}" if names else "there is none to choose"
        msg = f"figure {name!r} {why}: {there}"
        raise MeasurementError(msg)
    return FIGURES[name](verdict)
