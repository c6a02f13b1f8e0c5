"""From measurements to findings: one small function a cause, each None when its cause does not hold."""

import math

from scipy.special import ndtr

from unstuck.estimate import Estimate
from unstuck.findings.point import curvature_gain, first_order_gain
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Point
from unstuck.measurements.records import Measurements, Route

# The present step is off when the best one differs from it by this factor. Line searches on healthy runs of
# plain gradient descent land within a factor of a few of a good learning rate, since losses are flat there.
STEP_OFF = 10.0

# Beyond twice the best step the loss rises again (of a quadratic, exactly there).
TOO_FAR = 0.5

# One rate cannot serve all directions when correcting for curvature gains this many times more than the best
# single step along g. On a quadratic, steepest descent gains 4 c / (1 + c)^2 of the distance to the minimum, in
# the worst case, at condition c (Nocedal & Wright, 2006, theorem 3.3): 5 corresponds to c of about 18.
UNEQUAL = 5.0

# A step that gets this share of what the best step along g could is doing well.
KEEPING_UP = 0.1

# No claim is made with more confidence than this, whatever the numbers say: models of noise are models.
MOST = 0.99


def saddle_point(point: Point, measured: Measurements) -> Finding | None:
    """A critical point with a way down along negative curvature."""
    lowest, gain = measured.slice("lowest"), curvature_gain(measured)
    if point.kind is not Kind.SADDLE or lowest is None or gain is None:
        return None
    return Finding(
        Cause.SADDLE_POINT,
        min(_surely_below_zero(lowest.eigenvalue), _surely_below_zero(-gain)),
        (
            _estimate("lambda_min", lowest.eigenvalue),
            _estimate("curvature_gain", gain / measured.scale),
            *_slope(measured),
        ),
        "The gradient has all but vanished, but this is no minimum: along one direction the loss curves "
        f"downwards. Moving along it, and then on, lowered the loss by {_percent(gain, measured)}.",
        "Escape along the eigenvector of the lowest eigenvalue, or break the symmetry that keeps the run here "
        "(identical or zero units); neither a learning rate nor a larger batch will.",
    )


def local_minimum(point: Point, measured: Measurements) -> Finding | None:
    """A critical point without a way down."""
    if point.kind not in (Kind.MINIMUM, Kind.DEGENERATE_MINIMUM) or point.certificate is None:
        return None
    certificate = point.certificate
    spectrum = measured.spectrum
    flat = "" if point.kind is Kind.MINIMUM else " Some directions are flat: the minimum is a valley floor."
    return Finding(
        Cause.LOCAL_MINIMUM,
        min(certificate.probability, MOST),
        (
            Evidence("certificate_bound", certificate.bound),
            Evidence("lambda_max", spectrum.lambda_max if spectrum else 0.0),
            *_slope(measured),
        ),
        "No step lowers the loss: not along the gradient, not corrected for curvature, and no direction curves "
        f"downwards by more than {certificate.tolerance:.2g} of the steepest.{flat}",
        "No optimizer will lower this loss from here: change the model, the regularisation, the data or the "
        "starting point, or accept this loss.",
    )


def local_maximum(point: Point, measured: Measurements) -> Finding | None:
    """A critical point where every way is down."""
    spectrum = measured.spectrum
    if point.kind is not Kind.MAXIMUM or spectrum is None:
        return None
    return Finding(
        Cause.LOCAL_MAXIMUM,
        min(spectrum.ceiling.probability, MOST),
        (Evidence("lambda_max", spectrum.lambda_max), *_slope(measured)),
        "The gradient has vanished and the loss curves downwards in every direction: this is the top of a hill. "
        "Any step away from here lowers the loss.",
        "Move a little in any direction, and check the sign of the loss.",
    )


def plateau(point: Point, measured: Measurements) -> Finding | None:
    """No slope and no curvature to speak of, or a gradient that curvature cannot reach."""
    if point.kind not in (Kind.PLATEAU, Kind.GRADIENT_FLAT):
        return None
    flat = point.kind is Kind.PLATEAU
    gradient = measured.gradient
    why = (
        "Gradient and curvature are both negligible: moving by the whole length of the weights would hardly "
        "change the loss."
        if flat
        else "The gradient is not zero, but it lies where the curvature is zero, and following it leads nowhere."
    )
    radius = measured.spectrum.radius if measured.spectrum else 0.0
    return Finding(
        Cause.PLATEAU,
        0.9,
        (
            Evidence("gradient_norm", gradient.norm, gradient.noise),
            Evidence("largest_curvature", radius),
            *([Evidence("flatness", gradient.flatness)] if gradient.flatness is not None else []),
        ),
        f"{why} The run stands on a plateau.",
        "Look for saturated or dead units and for an initialisation that is too small or too large; "
        "momentum or a fresh initialisation gets off a plateau, patience seldom does.",
    )


def step_too_small(point: Point, measured: Measurements) -> Finding | None:
    """The best step along -g is many times the one that is taken."""
    routes = _descending(point, measured)
    if routes is None or routes[1].multiple is None or routes[1].multiple < STEP_OFF:
        return None
    now, best = routes
    share = _share(now, best)
    if share > KEEPING_UP:
        return None
    return Finding(
        Cause.STEP_TOO_SMALL,
        _confidence(best.multiple or 0.0, STEP_OFF),
        (Evidence("step_multiple", best.multiple or 0.0), *_gains(measured)),
        f"The loss falls along the gradient, and a step {best.multiple:.3g} times the present one falls furthest. "
        f"The present step gets only {100 * max(share, 0.0):.2g} % of that.",
        "Raise the learning rate, tenfold at first, and see that a schedule has not brought it down too early.",
    )


def step_too_large(point: Point, measured: Measurements) -> Finding | None:
    """The step goes beyond the valley's other wall: the loss does not fall, though a shorter one would."""
    routes = _descending(point, measured)
    full = measured.route("full")
    if routes is None or full is None or routes[1].multiple is None:
        return None
    best = routes[1]
    multiple = routes[1].multiple
    if multiple > TOO_FAR or full.gain.value > KEEPING_UP * best.gain.value:
        return None
    return Finding(
        Cause.STEP_TOO_LARGE,
        _confidence(TOO_FAR / max(multiple, 1e-12), 1.0),
        (Evidence("step_multiple", multiple), *_gains(measured)),
        f"The gradient points down, but the step overshoots: one of {multiple:.2g} times its length falls "
        "furthest. The run bounces between the walls of a valley.",
        f"Lower the learning rate to about {multiple:.2g} of what it is, or let it decay.",
    )


def gradient_noise(point: Point, measured: Measurements) -> Finding | None:
    """A step on the whole gradient gains, the same step on a batch does not."""
    now, full = measured.route("now"), measured.route("full")
    if point.kind is not Kind.NOT_CRITICAL or now is None or full is None or now == full:
        return None
    difference = Estimate(
        full.gain.value - now.gain.value, math.hypot(full.gain.stderr, now.gain.stderr), now.gain.degrees
    )
    if not (full.gain.surely_above(0.0) and difference.surely_above(0.0) and now.gain.value <= 0.0):
        return None
    return Finding(
        Cause.GRADIENT_NOISE,
        0.8,
        (
            _estimate("now_gain", now.gain / measured.scale),
            _estimate("full_gain", full.gain / measured.scale),
        ),
        "The step that the whole data asks for lowers the loss; the steps that single batches ask for do not. "
        "The noise of the batches undoes the progress.",
        "Lower the learning rate, enlarge the batch or accumulate gradients.",
    )


def ill_conditioned(point: Point, measured: Measurements) -> Finding | None:
    """Correcting for curvature gains far more than any single step along g."""
    best, krylov = measured.route("gradient"), measured.route("krylov")
    if point.kind is not Kind.NOT_CRITICAL or best is None or krylov is None:
        return None
    floor = max(best.gain.value, 0.0)
    if not krylov.gain.surely_above(UNEQUAL * floor):
        return None
    ratio = krylov.gain.value / floor if floor > 0.0 else math.inf
    return Finding(
        Cause.ILL_CONDITIONED,
        _confidence(ratio, UNEQUAL),
        (Evidence("krylov_over_gradient", min(ratio, 1e12)), *_gains(measured)),
        "Steep and flat directions want different step lengths, and no single one serves both: the best step along "
        f"the gradient gains {_percent(best.gain, measured)}, corrected for curvature "
        f"{_percent(krylov.gain, measured)}.",
        "Normalise the inputs or layers, switch to an adaptive optimizer (Adam), or add momentum.",
    )


def healthy(point: Point, measured: Measurements) -> Finding | None:
    """The optimizer's next step gains about what can be expected."""
    routes = _descending(point, measured)
    if routes is None:
        return None
    now, best = routes
    share = _share(now, best)
    if share < KEEPING_UP or not now.gain.surely_above(0.0):
        return None
    return Finding(
        Cause.HEALTHY,
        _confidence(share, KEEPING_UP),
        (Evidence("share_of_best_step", share), *_gains(measured)),
        f"The run is not stuck: its next step gains {_percent(now.gain, measured)} of the loss. The best step "
        f"along the gradient would gain {_percent(best.gain, measured)}.",
        "Go on.",
    )


CHECKS = (
    saddle_point,
    local_minimum,
    local_maximum,
    plateau,
    step_too_large,
    gradient_noise,
    ill_conditioned,
    step_too_small,
    healthy,
)


def _descending(point: Point, measured: Measurements) -> tuple[Route, Route] | None:
    """Where there is descent along g: the optimizer's own step and the best step."""
    now, best = measured.route("now"), measured.route("gradient")
    if point.kind is not Kind.NOT_CRITICAL or now is None or best is None or not best.gain.surely_above(0.0):
        return None
    return now, best


def _share(now: Route, best: Route) -> float:
    return now.gain.value / best.gain.value


def _confidence(ratio: float, threshold: float) -> float:
    """One half at the threshold, and surer the further beyond it."""
    return min(ratio / (ratio + threshold), MOST) if math.isfinite(ratio) else MOST


def _surely_below_zero(estimate: Estimate) -> float:
    if estimate.stderr == 0.0:
        return MOST
    return min(float(ndtr(-estimate.value / (estimate.margin() / 3.0))), MOST)


def _slope(measured: Measurements) -> tuple[Evidence, ...]:
    slope = first_order_gain(measured)
    return (_estimate("slope_gain", slope / measured.scale),) if slope else ()


def _gains(measured: Measurements) -> tuple[Evidence, ...]:
    routes = [measured.route(name) for name in ("now", "gradient", "krylov")]
    return tuple(_estimate(f"{route.name}_gain", route.gain / measured.scale) for route in routes if route)


def _estimate(name: str, estimate: Estimate) -> Evidence:
    return Evidence(name, estimate.value, estimate.stderr if math.isfinite(estimate.stderr) else None)


def _percent(gain: Estimate, measured: Measurements) -> str:
    return f"{100 * gain.value / measured.scale:.2g} %"
