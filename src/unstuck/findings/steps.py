"""The optimizer's steps: too large, too small, noisy, or one rate for unequal directions."""

import math

from unstuck.estimate import Estimate
from unstuck.findings.noise import jostled, mostly_signal
from unstuck.findings.phrases import confidence, estimated, figure, gains_of, percent, share
from unstuck.findings.point import leads_down
from unstuck.findings.progress import (
    CREEPS,
    FASTER,
    LOOKS,
    NEGLIGIBLE,
    ahead,
    best_change,
    creeps,
    falls,
    going_on,
    improves,
)
from unstuck.findings.rates import FAR_OFF, best_rate, raising
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Point
from unstuck.measurements.records import Arm, Measurements, Route
from unstuck.measurements.records.continuations import descending

# A run that falls, but creeps, makes steps that are too large where a lower rate sheds half of the loss meanwhile.
SHEDS = 0.5

# Where a run that is on a peak comes down and no further, a lower rate must end below it by this share of the loss.
FAR_BELOW = 0.2

# Unless the kind of point is open: longer steps leave saddles, too. As sure as may be named, and not so sure that
# curvature is not asked.
OPEN = 0.8

# One rate cannot serve all directions when correcting for curvature gains this many times more than the best
# rate does. On a quadratic of condition c the worst steepest-descent step takes 4 c / (1 + c)^2 of what
# is left (Nocedal & Wright, 2006, theorem 3.3), which is a fifth at c = 18.
UNEQUAL = 5.0

# Twice is enough where a still higher rate is thrown out: then it is the steep directions that hold the rate down.
HELD_DOWN = 2.0

# A descent of many steps counts where it gains so many times what a single one does: it costs some times as much.
MANY = 10.0

# Within so many lengths of the weights: further off it is another network, and not these directions are unequal.
NEARBY = 3.0

# The looks over which an arm's end is taken; more than so many on the way down are no turn of a bounce (once in 24).
LATER = 3

# A rate at which the loss grows by so many times itself is thrown out, however much its looks differ.
MULTIPLIED = 3.0

# Or when the best step along g is this many times what the steepest direction bears.
BEYOND_STABLE = 10.0


def step_too_small(point: Point, measured: Measurements) -> Finding | None:
    """A rate ten or more times higher gains several times more, and the run creeps."""
    arm, best = going_on(measured), best_rate(measured, higher=True)
    if arm is None or best is None or not best.extra.surely_above(0.0):
        return None
    if not (point.kind is Kind.NOT_CRITICAL or (point.kind is Kind.UNDECIDED and _far_off(best, measured))):
        return None
    krylov = measured.route("krylov")
    held_down = thrown_out(measured, above=best.factor)
    if held_down and krylov is not None and krylov.slope > HELD_DOWN * best.descent.value:
        return None  # no rate gets what there is to be had
    own = max(arm.gain.value, 0.0)
    if own > CREEPS * measured.scale or best.gain.value < max(NEGLIGIBLE * measured.scale, FASTER * own):
        return None
    if best.factor < FAR_OFF and improves(measured):
        return None
    times = best.gain.value / own if own > 0.0 else math.inf
    sure = max(confidence(times, FASTER), 0.9 if best.factor >= FAR_OFF else 0.0)
    return Finding(
        Cause.STEP_TOO_SMALL,
        sure if point.kind is Kind.NOT_CRITICAL else min(sure, OPEN),
        (Evidence("best_rate_factor", best.factor), _rate(best, measured), *gains_of(measured)),
        f"The loss falls, but the steps are tiny: {ahead(measured)} At {figure(best.factor)} times the rate the "
        f"same number of steps gains {percent(best.gain, measured)}. The run creeps.",
        raising(best, measured),
    )


def _far_off(best: Arm, measured: Measurements) -> bool:
    """Whether a rate decades higher surely gains much, and there is no saddle in sight that longer steps leave."""
    gains = best.factor >= FAR_OFF and best.gain.surely_above(NEGLIGIBLE * measured.scale)
    return gains and measured.route("gradient") is not None and not leads_down(measured)


def step_too_large(point: Point, measured: Measurements) -> Finding | None:
    """The loss does not fall, not even on the gradient of all the data, and it does at a lower rate."""
    best = best_rate(measured, higher=False)
    if best is None or not _surely_better(best, measured) or not _better_enough(best, measured):
        return None
    if _outdone(best, measured):
        return _too_large(best, measured, 0.9)
    if not _stuck(point, measured) or _leapt(best, measured) or jostled(measured):
        return None
    found = measured.continuations
    whole = found.named("whole") if found else None
    if whole is None and measured.sample.batches > 1:
        return None  # the time was over before noise could be told from size
    if (
        whole is not None
        and whole.gain.surely_above(NEGLIGIBLE * measured.scale)
        and not mostly_signal(measured)
    ):
        return None
    return _too_large(
        best, measured, 0.95 if whole is None or whole.gain.value < 0.5 * best.gain.value else 0.7
    )


def _outdone(best: Arm, measured: Measurements) -> bool:
    """Whether the run falls, but creeps, while the same steps at a lower rate shed half of the loss and more.

    Where batches are mostly noise they would do so by averaging it out.
    """
    crept = falls(measured) and creeps(measured) and mostly_signal(measured)
    return crept and best.gain.surely_above(SHEDS * measured.scale)


def _too_large(best: Arm, measured: Measurements, sure: float) -> Finding:
    return Finding(
        Cause.STEP_TOO_LARGE,
        sure,
        (
            Evidence("best_rate_factor", best.factor),
            _rate(best, measured),
            *_stability(measured),
            *gains_of(measured),
        ),
        f"The steps overshoot: {ahead(measured)} At {best.factor:g} times the learning "
        f"rate the same steps gain {percent(best.gain, measured)}. The run bounces between the walls of a valley.",
        f"Lower the learning rate to {best.factor:g} times what it is, or let it decay.",
    )


def gradient_noise(point: Point, measured: Measurements) -> Finding | None:
    """Steps on the gradient of all the data gain at the very same rate, steps on batches do not."""
    found = measured.continuations
    whole = found.named("whole") if found else None
    if whole is None or not _stuck(point, measured) or mostly_signal(measured):
        return None
    noise, best = measured.noise, best_rate(measured, higher=False)
    lower = best is not None and _surely_better(best, measured)
    # Where a run still comes down, steps on all the data must show it, too: what momentum swings about is no noise.
    enough = _better_enough if _surely_better(whole, measured) else _far_better
    if best is not None and (not enough(best, measured) or _leapt(best, measured)):
        return None
    # Few steps on all the data may end above where many on batches wander; but if they gain, and shorter steps on
    # batches get below, then noise it is that keeps the present ones up.
    gains = whole.gain.surely_above(NEGLIGIBLE * measured.scale)
    shaken = lower and jostled(
        measured
    )  # whatever momentum has gathered of the noise does to steps on all the data
    if not _surely_better(whole, measured) and not (gains and lower) and not shaken:
        return None
    scale = noise.simple if noise else None
    return Finding(
        Cause.GRADIENT_NOISE,
        0.95 if lower else 0.8,
        (
            *([estimated("noise_scale", scale)] if scale else []),
            *([Evidence("batch_size", noise.batch)] if noise else []),
            estimated("whole_gain", share(whole.gain, measured)),
            *([_rate(best, measured)] if best else []),
            *(_stability(measured) if measured.stability else ()),
            *gains_of(measured),
        ),
        f"Steps on single batches do not get the loss down for good: {ahead(measured)} "
        f"{_calmer(whole, best if shaken and not gains else None, measured)} The noise of the batches undoes the "
        "progress.",
        "Lower the learning rate or let it decay, enlarge the batch, or average the weights.",
    )


def ill_conditioned(point: Point, measured: Measurements) -> Finding | None:
    """No single rate gains much, and steps corrected for curvature do."""
    best, krylov = measured.route("gradient"), measured.route("krylov")
    if point.kind is not Kind.NOT_CRITICAL or best is None or krylov is None or improves(measured):
        return None
    if measured.wiring is not None and measured.wiring.standing:
        return None  # at a rate of 0 no rate was tried
    arm = going_on(measured)
    other = max(_best_of_rates(measured).value, arm.descent.value if arm else 0.0, 0.0)
    corrected, words = _corrected(krylov, measured)
    ratio = corrected.value / other if other > 0.0 else math.inf
    many = HELD_DOWN if thrown_out(measured) else UNEQUAL
    least = max(many * other, NEGLIGIBLE * measured.scale)
    unequal = corrected.surely_above(least)
    beyond = _beyond(measured)
    if not unequal and not beyond:
        return None
    return Finding(
        Cause.ILL_CONDITIONED,
        max(
            confidence(ratio, many) if unequal else 0.0,
            confidence(beyond, BEYOND_STABLE) if beyond else 0.0,
        ),
        (
            Evidence("krylov_over_best_rate", ratio),
            *([Evidence("best_over_stable_step", beyond)] if beyond else []),
            *gains_of(measured),
        ),
        f"Steep and flat directions want different step lengths, and no single rate serves both: {ahead(measured)} "
        f"The best of all rates that were tried gains {percent(_best_of_rates(measured), measured)}, {words} "
        f"{percent(corrected, measured)}.",
        "Normalise the inputs or layers, switch to an adaptive optimizer (Adam), or add momentum.",
    )


def _corrected(krylov: Route, measured: Measurements) -> tuple[Estimate, str]:
    """What correcting for curvature gains: one such step, or, if that is far less, a descent of many nearby."""
    descent, nearby = measured.route("control"), NEARBY * max(measured.length, 1.0)
    if descent and descent.distance <= nearby and descent.gain.value >= MANY * krylov.gain.value:
        return descent.gain, "a descent corrected for curvature (L-BFGS)"
    return krylov.gain, "one step corrected for curvature"


CHECKS = (step_too_large, gradient_noise, ill_conditioned, step_too_small)


def _stuck(point: Point, measured: Measurements) -> bool:
    """Whether there is a way down, and going on is known to gain nothing worth the name."""
    return point.kind is Kind.NOT_CRITICAL and not improves(measured) and not falls(measured)


def _calmer(whole: Arm, lower: Arm | None, measured: Measurements) -> str:
    """What shows that it is noise: steps on all the data, or, where momentum carries these up, shorter ones."""
    if lower is None or measured.stability is None:
        return (
            f"At the same rate, {whole.steps} steps on the gradient of all the data gain "
            f"{percent(whole.gain, measured)}."
        )
    times = 1.0 / max(measured.stability.ratio.value, 1e-300)
    return (
        f"The steepest direction bears steps {figure(times)} times as long, so that these bounce between no walls; "
        f"and yet at {lower.factor:g} times the rate as many gain {percent(lower.gain, measured)}."
    )


def _surely_better(arm: Arm, measured: Measurements) -> bool:
    return arm.gain.surely_above(NEGLIGIBLE * measured.scale) and arm.extra.surely_above(0.0)


def _far_better(arm: Arm, measured: Measurements) -> bool:
    """Whether it gains far more than going on, or gets far below where that only falls from a peak."""
    own = going_on(measured)
    if own is None or arm.gain.value > HELD_DOWN * own.gain.value:
        return True
    left = measured.scale - own.gain.value
    return own.trend.value <= 0.0 and arm.extra.surely_above(0.0) and arm.extra.value > FAR_BELOW * left


def _better_enough(arm: Arm, measured: Measurements) -> bool:
    """Or whether it surely sheds half of what going on leaves, though that may be falling still."""
    own = going_on(measured)
    sheds = own is not None and arm.extra.surely_above(SHEDS * (measured.scale - own.gain.value))
    return sheds or _far_better(arm, measured)


def _leapt(best: Arm, measured: Measurements) -> bool:
    """Whether the run had got below what the other rate ends at, leapt up once, and has been coming down since.

    One leap says nothing of where the run goes; what bounces for good would turn again.
    """
    own = going_on(measured)
    if own is None or len(own.losses) <= LOOKS:
        return False
    top = own.losses.index(max(own.losses))
    before, since = own.losses[:top], own.losses[top:]
    ends = best.losses[-LATER:]
    lower = bool(before) and min(before) < math.fsum(ends) / len(ends)
    return lower and len(since) > LATER and descending(since)


def thrown_out(measured: Measurements, *, above: float = 1.0, to: float = math.inf) -> bool:
    """Whether some higher rate, by a factor in this range, surely raises the loss, or multiplies it."""
    arms = measured.continuations.arms if measured.continuations else ()
    return any(
        above < arm.factor <= to
        and (arm.gain.surely_below(0.0) or not arm.gain.value > -MULTIPLIED * measured.scale)
        for arm in arms
    )


def _beyond(measured: Measurements) -> float:
    """How many times longer the best step along g is than the steepest direction bears, if that holds it back."""
    best, stable = measured.route("gradient"), measured.gradient.stable
    if best is None or best.multiple is None or not stable or not best.gain.surely_above(0.0):
        return 0.0
    far = best.multiple / stable
    return far if far > BEYOND_STABLE and best.multiple > BEYOND_STABLE and stable < FAR_OFF else 0.0


def _best_of_rates(measured: Measurements) -> Estimate:
    """What rates gain that could be kept up: not the best step along g, if rates up to it are thrown out."""
    best = measured.route("gradient")
    far = best.multiple if best and best.multiple else 0.0
    return best_change(measured, line=not thrown_out(measured, to=far))


def _rate(arm: Arm, measured: Measurements) -> Evidence:
    return estimated("other_rate_gain", share(arm.gain, measured))


def _stability(measured: Measurements) -> tuple[Evidence, ...]:
    """How the steps compare with what the steepest direction bears: in the optimizer's metric, where it is known."""
    if measured.stability is not None:
        return (estimated("sharpness_over_limit", measured.stability.ratio),)
    stable = measured.gradient.stable
    return (Evidence("eta_lambda_max", 2.0 / stable),) if stable else ()
