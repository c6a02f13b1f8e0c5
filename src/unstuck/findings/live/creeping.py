"""What the record of a live run says of steps that are too small to get anywhere."""

from unstuck.findings.live.glance import FALLS_SHORT
from unstuck.findings.live.logged import MOST_LOST, SURE, leads_down, leads_on, precision_stall, step_share
from unstuck.findings.phrases import confidence, estimated, figure
from unstuck.findings.progress import NEGLIGIBLE
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

# Steps that make up the beginning, see _BEGINNING in watching/losses/stalls.py.
BEGINNING = 16

# A rate that is no more than this share of its first one is worth a word.
SPENT = 0.1

_NO_PROMISE = ", and do not even promise to lower the loss by 1 %."
_RAISE = "Raise the learning rate, tenfold and more."


def creeping(recent: Recent, _look: Look | None) -> Finding | None:
    """From the start the steps have led down, and nowhere: they cannot have moved the loss, however noisy it is.

    Of a run that has come down first the record does not say whether longer steps would lead further, or bounce.
    """
    if (still := motionless(recent)) is not None:
        return still
    overshoot, share, descent, steps = recent.overshoot, recent.step_share, recent.descent, _way(recent)
    if steps is None or not share or descent is None:
        return None
    # What a clipped gradient promises is nothing of what the loss has fallen.
    if recent.clipped or recent.until * descent > NEGLIGIBLE * recent.scale:
        return None
    if overshoot is None:
        return _adrift(recent, steps)
    left = -overshoot.value * descent  # what one more such step gains on other batches, to first order
    if not leads_down(recent) or left / share < NEGLIGIBLE * recent.scale:
        return None
    return _hardly_moved(
        recent,
        steps,
        (estimated("overshoot", overshoot),),
        f"{_NO_PROMISE} The steps do lead down: where one ends, the loss of another batch still falls along it, "
        f"{figure(-overshoot.value)} times as steeply as its own fell where it began.",
        _RAISE,
    )


def hardly_moved(recent: Recent) -> str:
    """Say that the steps cannot have done anything yet, where nothing shows what longer ones would do."""
    steps, descent = _way(recent), recent.descent
    if (
        steps is None
        or descent is None
        or recent.clipped
        or recent.until * descent > NEGLIGIBLE * recent.scale
    ):
        return ""
    return (
        f"the weights have hardly moved: all {recent.until:,} steps together come to no more than "
        f"{100 * steps:.2g} % of their length{_NO_PROMISE.rstrip('.')}; unless the loss began where it can end, the "
        "learning rate is too low, its warm-up too long, or the gradient next to nothing"
    )


CLIP_LESS = "to a higher bound, and with a GradScaler after scaler.unscale_(optimizer) only."


def _way(recent: Recent) -> float | None:
    """How far all steps from the start would have gone one way, of the length of the weights; if that is no way."""
    if recent.since > BEGINNING or not recent.step_share:
        return None
    steps = recent.until * recent.step_share
    # So many times as far would not be beyond the scale of the weights.
    return None if FALLS_SHORT * steps > 1.0 else steps


def _hardly_moved(
    recent: Recent, steps: float, evidence: tuple[Evidence, ...], seen: str, advice: str
) -> Finding:
    """All steps together are but `steps` of the length of the weights; `seen` goes on from there."""
    return Finding(
        Cause.STEP_TOO_SMALL,
        min(confidence(1.0 / steps, FALLS_SHORT), SURE),
        (*step_share(recent), *evidence),
        f"The weights have hardly moved: all {recent.until:,} steps together come to no more than "
        f"{100 * steps:.2g} % of their length{seen}",
        advice,
    )


def cut_short(recent: Recent, _look: Look | None) -> Finding | None:
    """The loss stands still from the start, and clipping leaves next to nothing of the gradients."""
    steps = _way(recent)
    if steps is None or not recent.clipped or not leads_down(recent):
        return None
    return _hardly_moved(
        recent,
        steps,
        (),
        ". The steps do lead down where they end, but all gradients that they are made from have the very same "
        f"length, {recent.gradient_norm:.2g}, as clipping makes it.",
        f"Raise the learning rate, or clip less: {CLIP_LESS}",
    )


def _adrift(recent: Recent, steps: float) -> Finding | None:
    """Where steps hardly lead down, as when most of one is its rounding, the gradient may have much left.

    That successive ones surely have a part in common is no noise; and all were taken at one place, as it were.
    """
    signal = recent.signal
    if precision_stall(recent, None) is not None:
        return None  # they may be long enough where weights are kept with more digits
    if signal is None or not leads_on(recent):
        return None
    return _hardly_moved(
        recent,
        steps,
        (estimated("signal", signal),),
        f"{_NO_PROMISE} The gradient does lead down: successive batches agree on it.{spent(recent)}",
        _RAISE,
    )


def spent(recent: Recent) -> str:
    """Say that the learning rate is a small part of what it was, if it is."""
    rate, first = recent.rate, recent.first_rate
    if rate == first == 0.0:
        return " The learning rate has been 0 at every step."
    if rate is None or not first or rate > SPENT * first:
        return ""
    now = "nothing" if rate == 0.0 else f"{rate:.2g}"
    return f" The learning rate has come down to {now}, from {first:.2g}."


def motionless(recent: Recent) -> Finding | None:
    """Most weights are not changed by a step, in single precision, though the gradient has something to give.

    Where the others do move, it is the gradient of most that is next to nothing, as behind saturated units.
    """
    lost, reach, share = recent.unchanged, recent.reach, recent.step_share
    if recent.piled:
        return None  # a sum of gradients of several places is none of the loss
    if recent.narrow or lost is None or lost <= MOST_LOST or reach is None or share is None:
        return None
    if reach < NEGLIGIBLE * recent.scale or FALLS_SHORT * recent.until * share > 1.0:
        return None
    return Finding(
        Cause.STEP_TOO_SMALL,
        min(0.5 + 0.5 * lost, SURE),
        (Evidence("unchanged_share", lost), *step_share(recent)),
        f"The gradient is not zero, and yet {100 * lost:.3g} % of the parameters that have one stay as they are at a "
        f"step: the learning rate is zero, or so small that what it adds is rounded away.{spent(recent)}",
        "Raise the learning rate, or is its schedule at an end, or has its warmup not begun?",
    )
