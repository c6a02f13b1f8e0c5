"""Updates that do not arrive: parameters left out, steps lost to rounding, a stale scale."""

import math
from dataclasses import replace

from unstuck.estimate import Estimate
from unstuck.findings.phrases import MOST, confidence, estimated, figure, named, of_what, percent, share
from unstuck.findings.progress import best_change, creeps, going_on, improves
from unstuck.findings.rates import of_no_gradient
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.measurements.records import Measurements
from unstuck.measurements.records.updates import Precision, SecondMoment, Wiring

# Below one part in a hundred thousand a step it is the learning rate that is too small: the hundred thousand
# updates that the lecture calls "not enough" (S16) would not e-fold the loss, however exact they were.
USEFUL_PACE = 1e-5

# A decrease is negligible below this share of the loss, see NEGLIGIBLE in findings/point.py.
NEGLIGIBLE = 0.01

# Leaving parameters out is a choice (fine-tuning) as long as what is trained can gain comparably: one best step of
# the others gains twice as much as one of the trained ones only where those have little left to learn.
LEFT_OUT = 2.0

# Who hands a parameter to the optimizer, or leaves it trainable, wants it trained: where it is cut off or missing all
# the same, it is enough that one step of the others gains half as much as one of the trained ones.
ACCIDENTS = frozenset({"unlisted", "unregistered", "unreached", "stepped", "severed"})
COMPARABLE = 0.5
CUT_OFF = frozenset({"unreached", "stepped"})

# How sure it is that a rate of 0 holds a run up where a step along the gradient gains nothing: it may have arrived.
AT_REST = 0.8

# How sure an accident is: another optimizer may move what this one does not list.
ACCIDENT = 0.8

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

# Where what is trained has no gradient at all, as an adapter whose two factors are zero, that is what is wrong:
# curvature is to be asked before what was frozen on purpose is named.
SILENT = 0.45


def by_choice(measured: Measurements) -> bool:
    """Whether something is trained, and whoever left the rest out may have meant to."""
    wiring = measured.wiring
    if wiring is None or wiring.nothing:
        return False
    return not {group.reason for group in wiring.left_out} & ACCIDENTS


def rate_of_zero(_point: Point, measured: Measurements) -> Finding | None:
    """Every learning rate is 0: no step moves anything, whatever there is to gain."""
    wiring = measured.wiring
    if wiring is None or not wiring.standing or not wiring.begun:
        return None
    gain = wiring.excluded_gain
    some = gain is not None and gain.value > 0.0
    return Finding(
        Cause.STEP_TOO_SMALL,
        MOST if some else AT_REST,
        () if gain is None else (estimated("excluded_gain", share(gain, measured)),),
        "The learning rate is 0: no step moves anything."
        + (
            f" One step along the gradient would lower the loss by {percent(gain, measured)}."
            if some and gain
            else ""
        ),
        _advice(wiring),
    )


def frozen_parameters(_point: Point, measured: Measurements) -> Finding | None:
    """What is not trained could gain much more than what is, and the run does not get on."""
    wiring = measured.wiring
    if wiring is None or not wiring.left_out or not wiring.begun or wiring.standing:
        return None
    excluded, trained, extra = wiring.excluded_gain, wiring.trained_gain, wiring.extra
    if excluded is None or trained is None or extra is None:
        return _severed(wiring, measured)
    own, reasons = max(trained.value, 0.0), {group.reason for group in wiring.left_out}
    # Where nothing is trained, nothing has to be compared: it is enough that there is something to gain. But what the
    # optimizer itself lets stand it may take to have converged, as L-BFGS does.
    anything = wiring.nothing and reasons != {"unmoved"} and excluded.value > 0.0
    much = excluded.surely_above(NEGLIGIBLE * measured.scale) or anything
    times = excluded.value / own if own > 0.0 else math.inf
    accident = bool(reasons & ACCIDENTS)
    arm = going_on(measured)
    # Leaving out is fine as long as the run gets on, or would at another rate: a single step of the others must outdo
    # all that it gains, unless it creeps and nobody meant to leave them out.
    most = max(arm.gain.value, best_change(measured, line=False).value) if arm else 0.0
    if improves(measured) and not creeps(measured):
        most = max(most, own)  # like for like: where a run falls, other rates may not have been tried
    behind = excluded.value > most if arm else not improves(measured)
    behind = behind or (accident and creeps(measured))
    surely = extra.surely_above(0.0)
    costly = times > COMPARABLE if accident else times > LEFT_OUT and surely
    # What is cut off all the same moves the loss, or it would not be reached by differences either: never meant.
    cut_off = bool(CUT_OFF & reasons) and (much or (times > 1.0 and surely))
    if not cut_off and not (much and (wiring.nothing or (behind and costly))):
        return None
    sure = max(confidence(times, LEFT_OUT), ACCIDENT if accident else 0.0)
    if not accident and not wiring.nothing and measured.gradient.norm == 0.0:
        sure = min(sure, SILENT)
    return Finding(
        Cause.FROZEN_PARAMETERS,
        MOST if wiring.nothing else sure,
        (
            estimated("excluded_gain", share(excluded, measured)),
            estimated("trained_gain", share(trained, measured)),
            Evidence("excluded_share", wiring.share),
        ),
        f"{_who(wiring)}. One step along the gradient of these parameters would lower the loss by "
        f"{percent(excluded, measured)}, one along that of the trained ones by {percent(trained, measured)}.",
        _advice(wiring),
    )


def left_out(measured: Measurements) -> str | None:
    """Say what a step of the parameters that are left out would gain, if that is much more than one of the others."""
    wiring = measured.wiring
    if wiring is None or not wiring.left_out or not wiring.begun or wiring.nothing:
        return None
    excluded, trained, extra = wiring.excluded_gain, wiring.trained_gain, wiring.extra
    if excluded is None or trained is None or extra is None or not extra.surely_above(0.0):
        return None
    much = excluded.surely_above(NEGLIGIBLE * measured.scale) or _unlisted(wiring)
    if not much or excluded.value <= LEFT_OUT * max(trained.value, 0.0):
        return None
    return (
        f"{_who(wiring)}. One step along their gradient would lower the loss by {percent(excluded, measured)}, one "
        f"along that of the trained ones by {percent(trained, measured)}. If nobody meant to leave them out, train "
        "them, too."
    )


def unlisted_sign(measured: Measurements) -> str | None:
    """Say what the optimizer was not given though it requires a gradient, if a step of that gains much more."""
    note = left_out(measured)
    return note if note and measured.wiring and _unlisted(measured.wiring) else None


def _unlisted(wiring: Wiring) -> bool:
    return any(group.reason == "unlisted" for group in wiring.left_out)


def _severed(wiring: Wiring, measured: Measurements) -> Finding | None:
    """What no gradient can come to moves the loss, and the run does not get on without it."""
    sway = wiring.sway
    if sway is None or not sway.surely_above(NEGLIGIBLE * measured.scale):
        return None
    if improves(measured) and not creeps(measured):
        return None
    return Finding(
        Cause.FROZEN_PARAMETERS,
        ACCIDENT,
        (estimated("sway", share(sway, measured)), Evidence("excluded_share", wiring.share)),
        f"{_who(wiring)}. The loss depends on them: displaced at random by their own length, they change it by "
        f"{percent(sway, measured)}.",
        _advice(wiring),
    )


_WHY = {
    "frozen": "frozen (requires_grad=False)",
    "unlisted": "in no parameter group of the optimizer",
    "unregistered": "not registered as parameters of the model, so that no optimizer is given them",
    "rate": "in a group whose learning rate is 0",
    "unreached": "cut off from the loss (detached), so that no gradient comes to them",
    "stepped": "behind {ends}, whose derivative is zero, so that no gradient comes to them",
    "severed": "cut off from the loss by an operation that has no derivative, so that no gradient comes to them",
    "unmoved": "left exactly where they are by the optimizer's own steps, though a gradient comes to them",
}

_CURES = {
    "frozen": "Set requires_grad=True on them and give them to the optimizer",
    "unlisted": "Give the optimizer the parameters of this very model, after the model was put together (unless "
    "another optimizer moves them)",
    "unregistered": "Keep modules in nn.ModuleList or nn.ModuleDict and tensors in nn.Parameter, not in plain lists, "
    "dictionaries or attributes, before the optimizer is made (unless another optimizer moves them)",
    "rate": "Give that group a learning rate above 0",
    "unreached": "Remove the .detach(), .item() or torch.no_grad() between them and the loss",
    "stepped": "Let gradients pass through {ends} as if it were not there (straight-through: "
    "x + (f(x) - x).detach()), or use a smooth function in the training",
    "severed": "Between them and the loss is a comparison, an argmax, a conversion to integers or to NumPy: put a "
    "smooth or straight-through function in its place (sigmoid, softmax, x + (f(x) - x).detach())",
    "unmoved": "Look why the optimizer does not move them: steps in proportion to the weights themselves, as those "
    "of LARS and LAMB, never leave zero; begin these with other values, or leave the proportion out there",
}


def _who(wiring: Wiring) -> str:
    parts = [
        f"{named(group.names)} {'is' if len(group.names) == 1 else 'are'} "
        + _WHY[group.reason].format(ends=_ends(wiring))
        for group in wiring.left_out
    ]
    return f"{100 * wiring.share:.3g} % of the parameters are not trained: " + "; ".join(parts)


def _advice(wiring: Wiring) -> str:
    reasons = [group.reason for group in wiring.left_out]
    if reasons == ["rate"] and wiring.scheduled:
        return (
            "If the schedule has brought the learning rate to 0, let it end later or restart it; if its warm-up "
            "begins there, call scheduler.step() after each step."
        )
    return "; ".join(_CURES[reason].format(ends=_ends(wiring)) for reason in reasons) + "."


def _ends(wiring: Wiring) -> str:
    return " and ".join(f"`{name}`" for name in wiring.ends)


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


CHECKS = (rate_of_zero, frozen_parameters, precision_stall, stale_second_moment, carried_away)
