"""The optimizer's steps: too large, too small, noisy, one rate for unequal directions, or just right."""

import math

from unstuck.findings.phrases import MOST, confidence, estimated, percent, share
from unstuck.findings.progress import improves
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

# Steps on batches are noise more than signal when they are this many times longer than on the whole gradient:
# their mean square is the signal's plus the noise's, so that at 1.4 both are equal.
NOISY = math.sqrt(2.0)


def step_too_small(point: Point, measured: Measurements) -> Finding | None:
    """The best step along -g is many times the one that is taken, and the steepest direction would bear it."""
    best, stable = _descent(point, measured), measured.gradient.stable
    if best is None or best.multiple is None or best.multiple < STEP_OFF:
        return None
    if _held_back(best, stable) or improves(measured):
        return None
    return Finding(
        Cause.STEP_TOO_SMALL,
        confidence(best.multiple, STEP_OFF),
        (Evidence("step_multiple", best.multiple), *_gains(measured)),
        f"The loss falls along the gradient, but the steps are tiny: the best one is {best.multiple:.3g} times the "
        f"present one and gains {percent(best.gain, measured)} at once. The run creeps.",
        "Raise the learning rate, tenfold at first; see that a schedule has not brought it down too early.",
    )


def step_too_large(point: Point, measured: Measurements) -> Finding | None:
    """The step goes beyond the valley's other wall: the loss does not fall, though a shorter one would."""
    best = _descent(point, measured)
    if best is None or best.multiple is None or best.multiple > TOO_FAR or improves(measured):
        return None
    full = measured.route("full")
    # That the whole gradient's step raises the loss and a shorter one lowers it is overshooting itself.
    rises = full is not None and full.gain.surely_below(0.0)
    return Finding(
        Cause.STEP_TOO_LARGE,
        0.95 if rises else confidence(TOO_FAR / max(best.multiple, 1e-12), 0.5),
        (Evidence("step_multiple", best.multiple), *_gains(measured)),
        f"The gradient points down, but the step overshoots: {best.multiple:.2g} times its length would gain "
        f"{percent(best.gain, measured)}. The run bounces between the walls of a valley.",
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
    if improves(measured):
        return None
    return Finding(
        Cause.GRADIENT_NOISE,
        confidence(noisy**2, NOISY),
        (
            Evidence("batch_step_over_full_step", noisy),
            estimated("full_gain", share(full.gain, measured)),
            *_gains(measured),
        ),
        "A step on the gradient of the whole sample lowers the loss; steps on single batches do not. "
        "The noise of the batches undoes the progress.",
        "Lower the learning rate, enlarge the batch or accumulate gradients.",
    )


def ill_conditioned(point: Point, measured: Measurements) -> Finding | None:
    """Steep directions forbid the rate that flat ones need, or curvature-corrected steps gain far more."""
    best, krylov = _descent(point, measured), measured.route("krylov")
    if best is None or krylov is None or improves(measured):
        return None
    stable = measured.gradient.stable
    ratio = krylov.gain.value / best.gain.value
    unequal = krylov.gain.surely_above(UNEQUAL * max(best.gain.value, 0.0))
    beyond = best.multiple / stable if stable and best.multiple and _held_back(best, stable) else 0.0
    if not unequal and not beyond:
        return None
    return Finding(
        Cause.ILL_CONDITIONED,
        max(confidence(ratio, UNEQUAL) if unequal else 0.0, confidence(beyond, BEYOND_STABLE)),
        (
            Evidence("krylov_over_gradient", ratio),
            *([Evidence("best_over_stable_step", beyond)] if beyond else []),
            *_gains(measured),
        ),
        "Steep and flat directions want different step lengths, and no single rate serves both. "
        + (
            f"The best step along the gradient is {beyond:.2g} times what the steepest direction bears."
            if beyond
            else f"The best step along the gradient gains {percent(best.gain, measured)}, one corrected for "
            f"curvature {percent(krylov.gain, measured)}."
        ),
        "Normalise the inputs or layers, switch to an adaptive optimizer (Adam), or add momentum.",
    )


def healthy(point: Point, measured: Measurements) -> Finding | None:
    """The optimizer goes on gaining."""
    ahead = measured.route("ahead")
    if point.kind is not Kind.NOT_CRITICAL or ahead is None or not improves(measured):
        return None
    return Finding(
        Cause.HEALTHY,
        MOST if ahead.gain.surely_above(0.0, sigmas=4.0) else 0.9,
        (Evidence("gain_per_step", share(ahead.gain, measured).value / ahead.steps), *_gains(measured)),
        f"The run is not stuck: its next {ahead.steps} steps gain {percent(ahead.gain, measured)} of the loss. "
        "No remedy is called for.",
        "Go on.",
    )


CHECKS = (step_too_large, gradient_noise, ill_conditioned, step_too_small, healthy)


def _descent(point: Point, measured: Measurements) -> Route | None:
    """The best step along -g, if the point is not critical and that step surely gains."""
    best = measured.route("gradient")
    if point.kind is not Kind.NOT_CRITICAL or best is None or not best.gain.surely_above(0.0):
        return None
    return best


def _held_back(best: Route, stable: float | None) -> bool:
    """Whether the steepest direction forbids the best step along g, and nearly the present one."""
    if stable is None or best.multiple is None:
        return False
    return best.multiple > BEYOND_STABLE * max(stable, 1.0) and stable < STEP_OFF


def _gains(measured: Measurements) -> tuple[Evidence, ...]:
    routes = [measured.route(name) for name in ("now", "ahead", "gradient", "krylov")]
    return tuple(estimated(f"{route.name}_gain", share(route.gain, measured)) for route in routes if route)
