"""Parameters that are not trained: a rate of 0, frozen, cut off, or handed to no optimizer."""

import math

from unstuck.findings.phrases import MOST, confidence, estimated, named, percent, share
from unstuck.findings.progress import NEGLIGIBLE, best_change, creeps, going_on, improves
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.measurements.records import Measurements
from unstuck.measurements.records.updates import Wiring

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


CHECKS = (rate_of_zero, frozen_parameters)
