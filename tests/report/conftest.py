"""Verdicts: of real runs, one for each cause that has a figure, and built by hand for the rare ways to end."""

import dataclasses
import math

import pytest
from runs import RUNS, verdict_of

from unstuck.curvature.records import Certificate, Density, Eigenvalue, Spectrum
from unstuck.estimate import Estimate
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Point, Verdict
from unstuck.measurements.records import (
    Cost,
    Gradient,
    Measurements,
    Route,
    Sample,
    Slice,
    Subject,
)

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m[bold]"

SUBJECT = Subject("DigitNet", 8_970, 0, "float32", "cpu", "SGD", 0.05, decay=False, mode="train")
SAMPLE = Sample(1024, 8, exhaustive=False, stochastic=False)
COST = Cost(63.5, 23, 1.24, 310_000_000, "retained")
GRADIENT = Gradient(2.1e-6, 4.0e-8, 1.9e-3, 0.31)


def route(name, gain, stderr, loss=2.3026, curve=None, **changes):
    """A route whose real loss is `loss - curve(distance)`."""
    made = dataclasses.replace(Route(name, Estimate(gain, stderr, 7.0), 0.0, 0.01), **changes)
    if curve is None:
        return made
    distances = (0.0, *(made.distance * 2.0**k for k in range(-6, 5)))
    return dataclasses.replace(
        made, distances=distances, losses=tuple(loss - curve(distance) for distance in distances)
    )


def slice_(name, eigenvalue, stderr, *, loss, reach, quartic=0.0):
    xs = tuple(reach * (k - 10) / 10 for k in range(21))
    model = tuple(loss + 0.5 * eigenvalue * x * x for x in xs)
    real = tuple(m + quartic * x**4 + 0.02 * eigenvalue * x**3 for m, x in zip(model, xs, strict=True))
    return Slice(name, Estimate(eigenvalue, stderr), xs, real, model)


def density(nodes, weights):
    total = math.fsum(weights)
    return Density(tuple(nodes), tuple(weight / total for weight in weights))


def make_spectrum(lowest, highest, nodes, weights, tolerance, **changes):
    radius = max(abs(lowest[0]), abs(highest[0]))
    below = Estimate(0.031, 0.006) if lowest[0] < -1e-3 * radius else Estimate(0.0, 0.0)
    spectrum = Spectrum(
        size=8_970,
        exact=False,
        lowest=tuple(Eigenvalue(value, 2e-4 * radius) for value in lowest),
        highest=tuple(Eigenvalue(value, 1e-5 * radius) for value in highest),
        floor=Certificate(tolerance * -radius, tolerance, 0.99),
        ceiling=Certificate(1.001 * radius, 1.001, 0.99),
        density=density(nodes, weights),
        positive=Estimate(0.521 if below.value else 0.88, 0.012),
        above=Estimate(0.142, 0.011),
        below=below,
        flat=1e-3,
        trace=Estimate(31.2, 1.4),
        noise=2e-7,
        products=23,
    )
    return dataclasses.replace(spectrum, **changes)


def measurements(value, routes, spectrum, slices=(), **changes):
    measured = Measurements(
        SUBJECT,
        SAMPLE,
        Estimate(value, 0.011),
        value,
        11.2,
        GRADIENT,
        routes,
        spectrum,
        slices,
        complete=True,
    )
    return dataclasses.replace(measured, **changes)


def make_saddle():
    low, high = (-0.512, -0.287, -0.141, -0.06), (4.31, 3.02, 1.44, 0.91)
    nodes = (
        -0.512,
        -0.287,
        -0.141,
        -0.03,
        -0.006,
        -2e-4,
        1e-5,
        3e-4,
        0.008,
        0.09,
        0.4,
        0.91,
        1.44,
        3.02,
        4.31,
    )
    weights = (1.1e-4, 1.1e-4, 2.2e-4, 0.011, 0.02, 0.4, 0.3, 0.12, 0.09, 0.04, 0.011, 3e-4, 2e-4, 1e-4, 1e-4)
    spectrum = make_spectrum(low, high, nodes, weights, 0.121)
    routes = (
        route("now", 1.1e-7, 3.4e-7, slope=1.1e-7, distance=1.05e-7, multiple=1.0),
        route(
            "gradient",
            2.3e-6,
            1.8e-6,
            slope=2.3e-6,
            distance=0.0041,
            multiple=39_000.0,
            curve=lambda x: 1.1e-3 * x - 0.14 * x * x,
        ),
        route("krylov", 9.1e-6, 5.2e-6, slope=9.0e-6, distance=0.021),
        route("curvature", 0.312, 0.014, distance=1.48, curve=lambda x: 0.26 * x * x - 0.055 * x**4),
        route("escape", 1.04, 0.03, slope=0.73, distance=3.9, steps=50),
        route("control", 4e-6, 3e-6, slope=4e-6, distance=1e-4, steps=50),
    )
    slices = (
        slice_("lowest", -0.497, 0.021, loss=2.3026, reach=2.2, quartic=0.052),
        slice_("highest", 4.28, 0.09, loss=2.3026, reach=0.9, quartic=-0.1),
    )
    point = Point(Kind.SADDLE, 2.3026, 2.1e-6, -0.497, 4.28, 0.521, Certificate(-0.52, 0.121, 0.99))
    finding = Finding(
        Cause.SADDLE_POINT,
        0.993,
        (Evidence("lambda_min", -0.497, 0.021), Evidence("curvature_gain", 0.1355, 0.0061)),
        "The slope is gone, yet the loss bends down along one direction: half a unit of negative curvature "
        "that held up on data it was not found on. Following it really lowers the loss, by 13.5 %.",
        "Take one step along the direction of negative curvature (`unstuck escape`), then train on.",
    )
    measured = measurements(2.3026, routes, spectrum, slices)
    return Verdict(
        Cause.SADDLE_POINT,
        0.993,
        point,
        (finding,),
        (),
        measured,
        COST,
        ("Dropout layers were found but their rate is 0.",),
    )


def make_minimum():
    """Every eigenvalue of a small network, computed exactly, over all the data there is."""
    nodes = tuple(0.002 * 1.09**k for k in range(97))
    low, high = nodes[:3], nodes[:-4:-1]
    spectrum = make_spectrum(
        low,
        high,
        nodes,
        [1.0] * 97,
        0.0,
        size=97,
        exact=True,
        floor=Certificate(0.002, 0.0, 1.0),
        ceiling=Certificate(high[0], 1.0, 1.0),
        positive=Estimate(1.0, 0.0),
        above=Estimate(93 / 97, 0.0),
        trace=Estimate(math.fsum(nodes), 0.0),
    )
    routes = (
        route("now", -2e-9, 0.0, slope=0.0, distance=3e-8, multiple=1.0, loss=0.0812),
        route(
            "gradient",
            3e-9,
            0.0,
            slope=3e-9,
            distance=1e-6,
            multiple=33.0,
            curve=lambda x: -3.1 * x * x,
            loss=0.0812,
        ),
        route("krylov", 4e-9, 0.0, slope=4e-9, distance=2e-6, loss=0.0812),
    )
    slices = (
        slice_("lowest", 0.002, 0.0, loss=0.0812, reach=3.0, quartic=1e-5),
        slice_("highest", high[0], 0.0, loss=0.0812, reach=0.2),
    )
    point = Point(Kind.MINIMUM, 0.0812, 2e-8, 0.002, high[0], 1.0, Certificate(0.002, 0.0, 1.0))
    finding = Finding(
        Cause.LOCAL_MINIMUM,
        0.999,
        (Evidence("lambda_min", 0.002, 0.0),),
        "There is no slope left and the loss bends up in every direction. No small step from here lowers it.",
        "If 0.0812 is not good enough, change the model or the data, or start again from elsewhere.",
    )
    measured = measurements(
        0.0812,
        routes,
        spectrum,
        slices,
        loss=Estimate(0.0812, 0.0),
        gradient=Gradient(2e-8, 6e-8, 0.0, None),
        sample=Sample(150, 1, exhaustive=True, stochastic=False),
    )
    return Verdict(Cause.LOCAL_MINIMUM, 0.999, point, (finding,), (), measured, COST)


def make_valley():
    """Bouncing between the walls of a valley: no critical point at all."""
    low, high = (-0.09, -0.02), (212.0, 87.0, 31.0)
    nodes = (-0.09, -0.02, 1e-3, 0.2, 2.0, 31.0, 87.0, 212.0)
    spectrum = make_spectrum(low, high, nodes, (1e-4, 2e-4, 0.7, 0.2, 0.09, 2e-4, 1e-4, 1e-4), 0.001)
    routes = (
        route("now", -0.0312, 0.0041, slope=0.2, distance=0.11, multiple=1.0, loss=0.71),
        route("full", -0.0215, 0.0037, slope=0.2, distance=0.11, multiple=1.0, loss=0.71),
        route("ahead", -0.012, 0.0051, distance=0.0, steps=50),
        route(
            "gradient",
            0.052,
            0.003,
            slope=0.052,
            distance=0.0098,
            multiple=0.089,
            curve=lambda x: 10.6 * x - 540 * x * x,
            loss=0.71,
        ),
        route("krylov", 0.231, 0.012, slope=0.22, distance=0.83, loss=0.71),
        route("curvature", 1.2e-4, 2e-4, slope=0.0, distance=0.02, loss=0.71),
    )
    slices = (slice_("highest", 209.0, 6.0, loss=0.71, reach=0.06),)
    point = Point(Kind.NOT_CRITICAL, 0.71, 10.6, -0.09, 209.0, 0.88, None)
    large = Finding(
        Cause.STEP_TOO_LARGE,
        0.97,
        (Evidence("best_rate_factor", 0.1), Evidence("eta_lambda_max", 10.4, 0.3)),
        "The best step along the gradient is a tenth of the one the optimizer takes, which overshoots. "
        "So the run bounces between the walls and the loss stays where it is.",
        "Lower the learning rate from 0.05 to about 0.005.",
    )
    ill = Finding(
        Cause.ILL_CONDITIONED,
        0.88,
        (Evidence("krylov_over_best_rate", 4.4, 0.3),),
        "Correcting the step for curvature gains four times what the best plain step gains.",
        "Try Adam, or normalise the inputs.",
    )
    gradient = Gradient(10.6, 4e-7, 0.4, 0.62, stable=0.19)
    measured = measurements(0.71, routes, spectrum, slices, gradient=gradient)
    return Verdict(Cause.STEP_TOO_LARGE, 0.97, point, (large, ill), (), measured, COST)


def make_undecided():
    """One batch, so no error is known; the budget went before the curvature."""
    routes = (route("now", 1e-4, math.inf, slope=1e-4, distance=0.004, loss=0.9),)
    point = Point(Kind.UNDECIDED, 0.9, 0.03, None, None, None, None)
    measured = measurements(
        0.9,
        routes,
        None,
        loss=Estimate(0.9, math.inf),
        gradient=Gradient(0.03, 1e-7, math.inf, None),
        sample=Sample(64, 1, exhaustive=False, stochastic=True),
        subject=dataclasses.replace(SUBJECT, optimizer=None, rate=None, frozen=120),
        complete=False,
    )
    cost = Cost(2.5, 0, 0.31, 280_000_000, "retained")
    return Verdict(None, 0.0, point, (), (), measured, cost, ("One batch only: no error can be told.",))


def make_interrupted():
    """Ctrl-C, and a loss that is not even a number."""
    point = Point(Kind.UNDECIDED, math.nan, math.nan, None, None, None, None)
    measured = measurements(
        1.0,
        (),
        None,
        loss=Estimate(math.nan, math.nan),
        scale=math.nan,
        gradient=Gradient(math.nan, 0.0, math.nan, None),
        complete=False,
    )
    return Verdict(None, 0.0, point, (), (), measured, COST, ("Interrupted by Ctrl-C.",))


def make_hostile():
    saddle = make_saddle()
    finding = dataclasses.replace(saddle.findings[0], explanation=HOSTILE, advice=HOSTILE)
    odd = dataclasses.replace(
        finding, cause=Cause.DEAD_UNITS, evidence=(Evidence(HOSTILE, 1.0), Evidence("x", math.inf, math.nan))
    )
    subject = dataclasses.replace(SUBJECT, model=HOSTILE, dtype=HOSTILE, device=HOSTILE, optimizer=HOSTILE)
    routes = (*saddle.measured.routes, route(HOSTILE, 0.1, 0.01))
    measured = dataclasses.replace(saddle.measured, subject=subject, routes=routes)
    return dataclasses.replace(
        saddle,
        findings=(finding, odd),
        measured=measured,
        notes=(HOSTILE,),
        cost=dataclasses.replace(COST, engine=HOSTILE),
    )


VERDICTS = {
    "saddle": make_saddle,
    "minimum": make_minimum,
    "valley": make_valley,
    "undecided": make_undecided,
    "interrupted": make_interrupted,
    "hostile": make_hostile,
}


@pytest.fixture(params=[*VERDICTS, *RUNS])
def verdict(request):
    """Each of them in turn."""
    return VERDICTS[request.param]() if request.param in VERDICTS else verdict_of(request.param)


@pytest.fixture
def saddle():
    return make_saddle()


@pytest.fixture
def minimum():
    return make_minimum()


@pytest.fixture
def valley():
    return make_valley()


@pytest.fixture
def undecided():
    return make_undecided()


@pytest.fixture
def hostile():
    return make_hostile()
