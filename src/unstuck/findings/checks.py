"""From measurements to findings: one small function a cause, each None when its cause does not hold."""

import math
import sys

from scipy.special import ndtr

from unstuck.estimate import Estimate
from unstuck.findings.point import curvature_gain, first_order_gain
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Point
from unstuck.measurements.records import Measurements, Route

# The step is too small when the best one along -g is this many times longer. An optimizer in good health takes
# many steps where a line search takes one: tuned Adam on digits is 40 to 50 times below, plain SGD 1 to 3.
STEP_OFF = 300.0

# Beyond twice the best step the loss rises again (of a quadratic, exactly there).
TOO_FAR = 0.5

# One rate cannot serve all directions when correcting for curvature gains this many times more than the best
# single step along g. On a quadratic of condition c the worst steepest-descent step takes 4 c / (1 + c)^2 of what
# is left (Nocedal & Wright, 2006, theorem 3.3), which is a fifth at c = 18.
UNEQUAL = 5.0

# Or when the best step along g is this many times what the steepest direction bears.
BEYOND_STABLE = 10.0

# A run that e-folds its loss within ten thousand steps is on its way.
HEALTHY_PACE = 1e-4

# A step that gets this share of what the best step along g could is doing well, however little that is.
KEEPING_UP = 0.1

# Steps on batches are noise more than signal when they are this many times longer than on the whole gradient:
# their mean square is the signal's plus the noise's, so that at 1.4 both are equal.
NOISY = math.sqrt(2.0)

# Twice the steps of a run on its way gain clearly more than once; one that bounces is lower now, higher then.
ACCUMULATES = 1.2

# A step this many times too long is no healthy one, even if the loss happens to be lower some steps later.
CHAOTIC = 0.1

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
            _estimate("curvature_gain", _share(gain, measured)),
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
            _estimate("gradient_norm", Estimate(gradient.norm, gradient.noise)),
            Evidence("largest_curvature", radius),
            *([Evidence("flatness", gradient.flatness)] if gradient.flatness is not None else []),
        ),
        f"{why} The run stands on a plateau.",
        "Look for saturated or dead units and for an initialisation that is too small or too large; "
        "momentum or a fresh initialisation gets off a plateau, patience seldom does.",
    )


def step_too_small(point: Point, measured: Measurements) -> Finding | None:
    """The best step along -g is many times the one that is taken, and the steepest direction would bear it."""
    best, stable = _descent(point, measured), measured.gradient.stable
    if best is None or best.multiple is None or best.multiple < STEP_OFF:
        return None
    if _held_back(best, stable) or _improves(measured):
        return None
    return Finding(
        Cause.STEP_TOO_SMALL,
        _confidence(best.multiple, STEP_OFF),
        (Evidence("step_multiple", best.multiple), *_gains(measured)),
        f"The loss falls along the gradient, but the steps are tiny: the best one is {best.multiple:.3g} times the "
        f"present one and gains {_percent(best.gain, measured)} at once. The run creeps.",
        "Raise the learning rate, tenfold at first; see that a schedule has not brought it down too early.",
    )


def step_too_large(point: Point, measured: Measurements) -> Finding | None:
    """The step goes beyond the valley's other wall: the loss does not fall, though a shorter one would."""
    best = _descent(point, measured)
    if best is None or best.multiple is None or best.multiple > TOO_FAR or _improves(measured):
        return None
    full = measured.route("full")
    # That the whole gradient's step raises the loss and a shorter one lowers it is overshooting itself.
    rises = full is not None and full.gain.surely_below(0.0)
    return Finding(
        Cause.STEP_TOO_LARGE,
        0.95 if rises else _confidence(TOO_FAR / max(best.multiple, 1e-12), 0.5),
        (Evidence("step_multiple", best.multiple), *_gains(measured)),
        f"The gradient points down, but the step overshoots: {best.multiple:.2g} times its length would gain "
        f"{_percent(best.gain, measured)}. The run bounces between the walls of a valley.",
        f"Lower the learning rate to {best.multiple:.2g} of what it is or less, or let it decay.",
    )


def gradient_noise(point: Point, measured: Measurements) -> Finding | None:
    """Steps on the whole gradient gain, the same steps on batches do not."""
    now, full, ahead = (measured.route(name) for name in ("now", "full", "ahead"))
    if point.kind is not Kind.NOT_CRITICAL or now is None or full is None or ahead is None:
        return None
    noisy = now.distance / full.distance if full.distance > 0.0 else 0.0
    if noisy < NOISY or not full.gain.surely_above(max(0.0, now.gain.value, ahead.gain.value)):
        return None
    if _improves(measured):
        return None
    return Finding(
        Cause.GRADIENT_NOISE,
        _confidence(noisy**2, NOISY),
        (
            Evidence("batch_step_over_full_step", noisy),
            _estimate("full_gain", _share(full.gain, measured)),
            *_gains(measured),
        ),
        "A step on the gradient of the whole sample lowers the loss; steps on single batches do not. "
        "The noise of the batches undoes the progress.",
        "Lower the learning rate, enlarge the batch or accumulate gradients.",
    )


def ill_conditioned(point: Point, measured: Measurements) -> Finding | None:
    """Steep directions forbid the rate that flat ones need, or curvature-corrected steps gain far more."""
    best, krylov = _descent(point, measured), measured.route("krylov")
    if best is None or krylov is None or _improves(measured):
        return None
    stable = measured.gradient.stable
    ratio = krylov.gain.value / best.gain.value
    unequal = krylov.gain.surely_above(UNEQUAL * max(best.gain.value, 0.0))
    beyond = best.multiple / stable if stable and best.multiple and _held_back(best, stable) else 0.0
    if not unequal and not beyond:
        return None
    return Finding(
        Cause.ILL_CONDITIONED,
        max(_confidence(ratio, UNEQUAL) if unequal else 0.0, _confidence(beyond, BEYOND_STABLE)),
        (
            Evidence("krylov_over_gradient", ratio),
            *([Evidence("best_over_stable_step", beyond)] if beyond else []),
            *_gains(measured),
        ),
        "Steep and flat directions want different step lengths, and no single rate serves both. "
        + (
            f"The best step along the gradient is {beyond:.2g} times what the steepest direction bears."
            if beyond
            else f"The best step along the gradient gains {_percent(best.gain, measured)}, one corrected for "
            f"curvature {_percent(krylov.gain, measured)}."
        ),
        "Normalise the inputs or layers, switch to an adaptive optimizer (Adam), or add momentum.",
    )


def healthy(point: Point, measured: Measurements) -> Finding | None:
    """The optimizer goes on gaining."""
    ahead = measured.route("ahead")
    if point.kind is not Kind.NOT_CRITICAL or ahead is None or not _improves(measured):
        return None
    return Finding(
        Cause.HEALTHY,
        MOST if ahead.gain.surely_above(0.0, sigmas=4.0) else 0.9,
        (Evidence("gain_per_step", _share(ahead.gain, measured).value / ahead.steps), *_gains(measured)),
        f"The run is not stuck: its next {ahead.steps} steps gain {_percent(ahead.gain, measured)} of the loss. "
        "No remedy is called for.",
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


def _descent(point: Point, measured: Measurements) -> Route | None:
    """The best step along -g, if the point is not critical and that step surely gains."""
    best = measured.route("gradient")
    if point.kind is not Kind.NOT_CRITICAL or best is None or not best.gain.surely_above(0.0):
        return None
    return best


def _improves(measured: Measurements) -> bool:
    """Whether going on as before gains beyond doubt, ever more, and at a pace that leads somewhere."""
    midway, ahead, best = (measured.route(name) for name in ("midway", "ahead", "gradient"))
    if ahead is None or midway is None or best is None or not ahead.gain.surely_above(0.0):
        return False
    if ahead.gain.value < ACCUMULATES * midway.gain.value or (best.multiple or 1.0) < CHAOTIC:
        return False
    pace = ahead.gain.value / ahead.steps
    return pace > min(HEALTHY_PACE * measured.scale, KEEPING_UP * max(best.gain.value, 0.0))


def _held_back(best: Route, stable: float | None) -> bool:
    """Whether the steepest direction forbids the best step along g, and nearly the present one."""
    if stable is None or best.multiple is None:
        return False
    return best.multiple > BEYOND_STABLE * max(stable, 1.0) and stable < STEP_OFF


def _confidence(ratio: float, threshold: float) -> float:
    """One half at the threshold, and surer the further beyond it."""
    return min(ratio / (ratio + threshold), MOST) if math.isfinite(ratio) else MOST


def _surely_below_zero(estimate: Estimate) -> float:
    if estimate.stderr == 0.0:
        return MOST
    return min(float(ndtr(-estimate.value / (estimate.margin() / 3.0))), MOST)


def _slope(measured: Measurements) -> tuple[Evidence, ...]:
    slope = first_order_gain(measured)
    return (_estimate("slope_gain", _share(slope, measured)),) if slope else ()


def _gains(measured: Measurements) -> tuple[Evidence, ...]:
    routes = [measured.route(name) for name in ("now", "ahead", "gradient", "krylov")]
    return tuple(_estimate(f"{route.name}_gain", _share(route.gain, measured)) for route in routes if route)


def _estimate(name: str, estimate: Estimate) -> Evidence:
    return Evidence(name, estimate.value, estimate.stderr if math.isfinite(estimate.stderr) else None)


def _share(gain: Estimate, measured: Measurements) -> Estimate:
    return gain / max(measured.scale, sys.float_info.min)


def _percent(gain: Estimate, measured: Measurements) -> str:
    return f"{100 * _share(gain, measured).value:.3g} %"
