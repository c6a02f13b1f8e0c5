"""Measurements made by hand and at random, for the tests of this folder."""

import math

from hypothesis import strategies as st

from unstuck.curvature.records import Certificate, Density, Eigenvalue, Spectrum
from unstuck.estimate import Estimate
from unstuck.measurements.records import (
    Arm,
    Continuations,
    Cost,
    Gradient,
    Measurements,
    Route,
    Sample,
    Slice,
    Subject,
)

COST = Cost(60.0, 20, 1.0, 1_000_000, "retained")
SUBJECT = Subject("Net", 1000, 0, "float32", "cpu", "SGD", 0.1, decay=False, mode="train")
SAMPLE = Sample(1024, 16, exhaustive=False, stochastic=False)


def route(name, gain, slope=0.0, stderr=1e-6, **more):
    return Route(name, Estimate(gain, stderr, 7.0), slope, 0.1, **more)


def spectrum(lowest, highest, floor=None, tolerance=None, above=1.0, below=0.0):
    radius = max(abs(lowest), abs(highest))
    bound = lowest - 1e-6 * radius if floor is None else floor
    share = max(0.0, -bound / radius) if radius else 0.0
    return Spectrum(
        size=1000,
        exact=False,
        lowest=(Eigenvalue(lowest, 1e-6 * radius),),
        highest=(Eigenvalue(highest, 1e-6 * radius),),
        floor=Certificate(bound, share if tolerance is None else tolerance, 0.99),
        ceiling=Certificate(highest + 1e-6 * radius, 1.0, 0.99),
        density=Density((lowest, highest), (0.5, 0.5)),
        positive=Estimate(0.5, 0.01),
        above=Estimate(above, 0.0),
        below=Estimate(below, 0.0),
        flat=1e-3,
        trace=Estimate(1.0, 0.1),
        noise=1e-6,
        products=20,
    )


def line(name, eigenvalue, stderr=1e-3, fall=0.0):
    """A slice whose loss lies `fall` below the centre at its ends."""
    losses = (1.0 - fall, 1.0, 1.0 - fall)
    return Slice(name, Estimate(eigenvalue, stderr, 7.0), (-0.1, 0.0, 0.1), losses, (1.0, 1.0, 1.0))


def measurements(routes, spectrum_, slices, **more):
    fields = {
        "subject": SUBJECT,
        "sample": SAMPLE,
        "loss": Estimate(1.0, 0.01, 15.0),
        "scale": 1.0,
        "length": 10.0,
        "gradient": Gradient(1e-3, 1e-8, 1e-5, 0.5, stable=5.0),
        "complete": True,
    }
    return Measurements(routes=routes, spectrum=spectrum_, slices=slices, **(fields | more))


finite = st.one_of(st.floats(-10, 10), st.floats(allow_nan=False, allow_infinity=False), st.just(0.0))
size = st.one_of(st.floats(0, 10), st.floats(0, allow_infinity=False), st.just(0.0))
error = st.one_of(size, st.just(math.inf))
degrees = st.sampled_from([1.0, 7.0, math.inf])
estimates = st.builds(Estimate, finite, error, degrees)
certificates = st.builds(Certificate, finite, size, st.floats(0.5, 1))
shares = st.builds(Estimate, st.floats(0, 1), st.floats(0, 0.5))
slices = st.builds(
    lambda name, eigenvalue, reach, ends: Slice(
        name, eigenvalue, (-reach, 0.0, reach), (ends[0], ends[1], ends[2]), (0.0, 0.0, 0.0)
    ),
    st.just("lowest"),
    estimates,
    st.floats(1e-9, 1e3),
    st.tuples(finite, finite, finite),
)


def routes(name):
    multiple = st.one_of(st.none(), size)
    gain = st.builds(
        Route, st.just(name), estimates, finite, size, multiple=multiple, steps=st.integers(1, 16)
    )
    return st.one_of(st.none(), gain)


@st.composite
def spectra(draw):
    ends = sorted((draw(finite), draw(finite)))
    residual = draw(size)
    return Spectrum(
        size=draw(st.integers(2, 10**9)),
        exact=draw(st.booleans()),
        lowest=(Eigenvalue(ends[0], residual),),
        highest=(Eigenvalue(ends[1], residual),),
        floor=draw(certificates),
        ceiling=draw(certificates),
        density=Density((ends[0],), (1.0,)),
        positive=draw(shares),
        above=draw(shares),
        below=draw(shares),
        flat=1e-3,
        trace=draw(estimates),
        noise=draw(st.floats(1e-16, 1.0)),
        products=draw(st.integers(1, 500)),
    )


def arm(name="going on", gain=0.0, *, factor=1.0, trend=None, stderr=1e-3, extra=None):
    trend, steps = 0.5 * gain if trend is None else trend, 48
    return Arm(
        name,
        factor,
        steps,
        gain=Estimate(gain, stderr, 7.0),
        trend=Estimate(trend, stderr, 7.0),
        extra=Estimate(gain if extra is None else extra, stderr, 7.0),
        marks=(0, steps),
        losses=(1.0, 1.0 - gain),
    )


def continued(gain, *others, epochs=4.0, **more):
    """The run gains so much by going on; `others` are arms whose extra gain is told from it."""
    return Continuations((arm(gain=gain, **more), *others), epochs)


arms = st.builds(
    lambda name, factor, gain, trend, extra, steps: Arm(
        name, factor, steps, gain, trend, extra, (0, steps), (1.0, 1.0)
    ),
    st.sampled_from(["rate", "whole"]),
    st.sampled_from([0.01, 0.1, 1.0, 10.0, 100.0]),
    estimates,
    estimates,
    estimates,
    st.integers(6, 400),
)
continuations = st.builds(
    lambda first, rest, epochs: Continuations((Arm(**(vars(first) | {"name": "going on"})), *rest), epochs),
    arms,
    st.lists(arms, max_size=4),
    st.floats(0.01, 100.0),
)


NAMES = ("now", "full", "ahead", "gradient", "krylov", "curvature", "escape", "control")


@st.composite
def anything(draw):
    """Whatever could have been measured, however little sense it makes."""
    found = [draw(routes(name)) for name in NAMES]
    flatness = st.one_of(st.none(), size)
    return Measurements(
        subject=SUBJECT,
        sample=SAMPLE,
        loss=draw(estimates),
        scale=draw(size),
        length=draw(size),
        gradient=draw(st.builds(Gradient, size, size, error, flatness, stable=st.one_of(st.none(), size))),
        routes=tuple(made for made in found if made),
        spectrum=draw(st.one_of(st.none(), spectra())),
        slices=tuple(draw(st.lists(slices, max_size=1))),
        complete=draw(st.booleans()),
        continuations=draw(st.one_of(st.none(), continuations)),
    )


def planted(kind):
    """Measurements that show one row of the table in docs/decisions/0003."""
    flat = (route("now", 0.0), route("gradient", 1e-4, 1e-4), route("krylov", 1e-3, 1e-3))
    down = (route("curvature", 0.05), route("escape", 0.5))
    unshaken = route("control", 1e-4, 1e-4)
    ends = (line("lowest", -0.5, fall=0.05), line("highest", 2.0))
    bowl = (line("lowest", 0.1), line("highest", 2.0))
    rows = {
        "saddle": measurements((*flat, *down, unshaken), spectrum(-0.5, 2.0), ends),
        "saddle with slope": measurements(
            (route("gradient", 0.02, 0.02), route("krylov", 0.03, 0.03), *down, route("control", 0.04, 0.04)),
            spectrum(-0.5, 2.0),
            ends,
        ),
        "maximum": measurements((*flat, *down, unshaken), spectrum(-2.0, -0.1), ends),
        "minimum": measurements(flat, spectrum(0.1, 2.0), bowl),
        "degenerate minimum": measurements(flat, spectrum(-1e-6, 2.0, above=0.4), bowl),
        "plateau": measurements(flat, spectrum(0.0, 1e-6), (line("lowest", 0.0), line("highest", 1e-6))),
        "curvature that leads nowhere": measurements(
            (*flat, route("curvature", 1e-4), route("escape", 1e-3), unshaken),
            spectrum(-0.5, 2.0),
            (line("lowest", -0.5), line("highest", 2.0)),
        ),
        "leaps on flat ground": measurements(
            (*flat, *down, unshaken),
            spectrum(-1e-9, 2.0, above=0.1),
            (line("lowest", 0.0, fall=0.05), line("highest", 2.0)),
        ),
        "gradient-flat": measurements(
            flat, spectrum(0.1, 2.0), bowl, gradient=Gradient(0.1, 1e-8, 1e-4, 0.001)
        ),
        "not critical": measurements(
            (route("gradient", 0.2, 0.2), route("krylov", 0.3, 0.3)), spectrum(0.1, 2.0), bowl
        ),
        "in between": measurements(
            (route("gradient", 1e-4, 1e-4), route("krylov", 0.012, 0.012, stderr=0.01)),
            spectrum(0.1, 2.0),
            bowl,
        ),
    }
    return rows[kind]
