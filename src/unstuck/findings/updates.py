"""Updates that do not arrive: steps lost to rounding, a stale scale, a momentum that carries a run up."""

import math
from dataclasses import replace

from unstuck.estimate import Estimate
from unstuck.findings.phrases import MOST, confidence, estimated, figure, of_what, percent, share
from unstuck.findings.progress import NEGLIGIBLE, creeps, improves
from unstuck.findings.rates import of_no_gradient
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.measurements.records import Measurements
from unstuck.measurements.records.updates import Precision, SecondMoment

# Below one part in a hundred thousand a step it is the learning rate that is too small: the hundred thousand
# updates that the lecture calls "not enough" (S16) would not e-fold the loss, however exact they were.
USEFUL_PACE = 1e-5

# "Most of the update is lost": rounding leaves less than half of it along itself.
MOST_LOST = 0.5

# Sigma is stale when it is off by a decade: learning rates are tuned to a factor of 3, Adam's sigma trails a
# gradient that falls tenfold in its memory of a thousand steps by about that, and a decade is beyond both.
STALE = 10.0

# How sure it is that momentum carries a run up, where it is no longer than gradients could keep up.
CARRIED = 0.8

# And when refreshing it, or leaving out the rounding, multiplies what the same steps gain. The measured gains of
# two healthy settings of sigma differ by up to twofold (warm-up, batch noise).
GAINS_MORE = 3.0

# A run that creeps may be called stale though it falls, where a fresh sigma gains a decade more.
FAR_MORE = 10.0


# Gradients do fall a hundredfold, on the way down to a loss that is nearly all learnt. In a run that has most of its
# loss still before it, what sigma remembers is a spike, or another task.
FAR_OFF, WELL_UNDER_WAY = 100.0, 0.5


def precision_stall(_point: Point, measured: Measurements) -> Finding | None:
    """Rounding swallows most of the update, and the exact one would gain at a useful pace."""
    precision = measured.precision
    if precision is None:
        return None
    rounded, exact, extra = precision.rounded_gain, precision.exact_gain, precision.extra
    if rounded is None or exact is None or extra is None or precision.kept > MOST_LOST:
        return None
    pace = exact.value / max(precision.steps, 1)
    if pace < USEFUL_PACE * measured.scale or not exact.surely_above(0.0) or not extra.surely_above(0.0):
        return None
    if GAINS_MORE * rounded.value > exact.value:
        return None
    return Finding(
        Cause.PRECISION_STALL,
        min(MOST, 1.0 - 0.5 * max(precision.kept, rounded.value / exact.value, 0.0)),
        (
            Evidence("lost_share", precision.lost),
            Evidence("kept_length", precision.kept),
            estimated("rounded_gain", share(rounded, measured)),
            estimated("exact_gain", share(exact, measured)),
        ),
        f"{_swallowed(precision)} "
        f"The next {precision.steps} steps gain {percent(rounded, measured)} of {of_what(measured)}, and the same "
        f"ones without rounding {percent(exact, measured)}.",
        "Keep the weights in float32 (or a float32 master copy) and compute in the narrow type by autocast; "
        "stochastic rounding helps, too.",
    )


def stale_second_moment(_point: Point, measured: Measurements) -> Finding | None:
    """Sigma is off by a decade, and the same steps with a fresh one gain several times more."""
    moment = measured.second_moment
    if moment is None:
        return None
    ratio, present, fresh, extra = moment.ratio, moment.present_gain, moment.fresh_gain, moment.extra
    if ratio is None or present is None or fresh is None or extra is None:
        return None
    if abs(ratio.value) < math.log(STALE) or not extra.surely_above(0.0) or not fresh.surely_above(0.0):
        return None
    if fresh.value < max(USEFUL_PACE * moment.steps * measured.scale, GAINS_MORE * present.value):
        return None
    times = _times(ratio)
    if improves(measured) and not _held_back(times, fresh.value / max(present.value, 1e-300), measured):
        return None
    high = ratio.value > 0.0
    return Finding(
        Cause.STALE_SECOND_MOMENT,
        confidence(times, STALE),
        (
            Evidence(
                "log_sigma_over_rms", ratio.value, ratio.stderr if math.isfinite(ratio.stderr) else None
            ),
            estimated("present_gain", share(present, measured)),
            estimated("fresh_gain", share(fresh, measured)),
        ),
        f"{_off(moment, ratio)} With that size measured afresh, the next {moment.steps} steps gain "
        f"{percent(fresh, measured)} of {of_what(measured)} instead of {percent(present, measured)}.",
        _refreshing(measured, high=high),
    )


def stale_sign(measured: Measurements) -> str:
    """Say how far sigma is off, if that is surely a decade; else "", whatever steps with a fresh one gain."""
    moment = measured.second_moment
    if moment is None or moment.ratio is None:
        return ""
    far = replace(moment.ratio, value=abs(moment.ratio.value)).surely_above(math.log(STALE))
    return _off(moment, moment.ratio) if far else ""


def rounding_sign(measured: Measurements) -> str:
    """Say how much of a step rounding swallows, if that is most of it; else "", whatever exact steps gain."""
    precision = measured.precision
    return "" if precision is None or precision.kept > MOST_LOST else _swallowed(precision)


def _times(ratio: Estimate) -> float:
    return math.exp(min(abs(ratio.value), 700.0))


def _off(moment: SecondMoment, ratio: Estimate) -> str:
    high = ratio.value > 0.0
    return (
        f"{moment.optimizer} divides each step by a running size of past gradients"
        f"{' (taken to be so by its name)' if moment.assumed else ''}, which is {figure(_times(ratio))} times "
        f"{'larger' if high else 'smaller'} than the gradients are now: the steps are too "
        f"{'small' if high else 'large'}."
    )


def _swallowed(precision: Precision) -> str:
    return (
        f"The steps are smaller than the rounding of the weights in {precision.dtype}: "
        f"{100 * precision.lost:.3g} % of the parameters that a step should move stay exactly where they are."
    )


def _refreshing(measured: Measurements, *, high: bool) -> str:
    if high and (lower := of_no_gradient(measured)):
        return f"{lower}; then build the optimizer anew."
    anew = "Reset the second moment (build the optimizer anew, with a short warm-up), "
    return anew + (
        "or let it forget sooner: Adam or RMSprop for Adagrad, a smaller beta2." if high else "and clip."
    )


def carried_away(_point: Point, measured: Measurements) -> Finding | None:
    """What the momentum remembers carries the run up, whatever its rate, and the same steps without it get lower."""
    found = measured.momentum
    if found is None or found.present_gain is None or found.fresh_gain is None or found.extra is None:
        return None
    stale = found.ratio > STALE and not improves(measured)
    lower = found.fresh_gain.surely_above(0.0) and found.extra.surely_above(NEGLIGIBLE * measured.scale)
    if not lower or not (stale or _rises_at_any_rate(measured)):
        return None
    return Finding(
        Cause.STEP_TOO_LARGE,
        confidence(found.ratio, STALE) if stale else CARRIED,
        (
            Evidence("momentum_over_gradient", found.ratio),
            estimated("carried_gain", share(found.present_gain, measured)),
            estimated("uncarried_gain", share(found.fresh_gain, measured)),
        ),
        f"What the momentum remembers carries the steps on: the next {found.steps} gain "
        f"{percent(found.present_gain, measured)} of {of_what(measured)} with it, and "
        f"{percent(found.fresh_gain, measured)} with a momentum that begins anew.",
        "Begin the momentum anew (build the optimizer anew): it comes from a run that went astray, or from a loss on "
        "another scale; or let it forget sooner.",
    )


def _rises_at_any_rate(measured: Measurements) -> bool:
    momentum, found = measured.momentum, measured.continuations
    rises = momentum and momentum.present_gain and momentum.present_gain.surely_below(0.0)
    if not rises or found is None or not found.going_on.gain.value < 0.0:
        return False
    return not any(arm.name == "rate" and arm.gain.surely_above(0.0) for arm in found.arms)


def _held_back(times: float, more: float, measured: Measurements) -> bool:
    """Whether a run that falls is stale all the same: it creeps, or what it remembers is not of its own way down."""
    learned = measured.layers.learned if measured.layers else None
    return (creeps(measured) and more > FAR_MORE) or (
        times > FAR_OFF and learned is not None and learned < WELL_UNDER_WAY
    )


CHECKS = (precision_stall, stale_second_moment, carried_away)
