"""Units of a live run that sit where their slope is nil, and recurrences through which no gradient comes back."""

from unstuck.findings.layers import BYPASS, FLAT_LAYER
from unstuck.findings.live.logged import BEGIN_ANEW, DEAD, UNSEEN, faded, mismatched_loss
from unstuck.findings.live.strides import REPLACES
from unstuck.findings.phrases import figure, named
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

# A loss above this share of where it began has learnt little. And how sure it is that what is far back matters.
LEARNT, IN_TIME = 0.5, 0.5

# A gradient that has come down to this share of what it was beside that of the last layer has gone.
SHRUNK = 0.1

# What is smaller is rounded to zero in single precision.
_LEAST = 1e-45


def saturated_units(recent: Recent, look: Look | None) -> Finding | None:
    """Nearly all that a tanh or a sigmoid gives, to weights or to the loss, sits where its slope is nil."""
    flat = [
        (name, share)
        for name, share in (look or recent.glimpse).flat
        if share >= FLAT_LAYER and not _bypassed(name, recent)
    ]
    if not flat:
        return _saturated_outputs(recent, look)
    share = max(share for _, share in flat)
    came = any(_driven_there(name, recent) for name, _ in flat)
    return Finding(
        Cause.SATURATED_UNITS,
        min(share, UNSEEN if came else DEAD),
        (Evidence("flat_share", share),),
        f"{100 * share:.3g} % of the values of the units after {named([name for name, _ in flat])} sit where the "
        "slope is below a hundredth of its largest. There a change of the weights changes nothing in the loss."
        + (
            " The steps have made the weights before them what they are, not the initialisation."
            if came
            else ""
        ),
        f"{BEGIN_ANEW}; if it comes again, scale the inputs to mean 0 and variance 1, or normalise."
        if came
        else "Scale the inputs to mean 0 and variance 1 and the weights of these layers down, or normalise.",
    )


def _driven_there(name: str, recent: Recent) -> bool:
    """Whether the steps have made the weights before units, and with them have taken the gradient from these.

    At once, so that it had gone at the first sample already, or since: then it has shrunk there beside that of the
    last layer. Units that are flat from the start, by their inputs, never had any.
    """
    if name not in recent.driven:
        return False
    now, then = dict(recent.depths), dict(recent.first_depths)
    if name not in now or name not in then or recent.depths[-1][0] == name:
        return False
    last = recent.depths[-1][0]
    at_once = recent.first_share is not None and recent.first_share >= REPLACES
    return at_once or now[name] * then.get(last, 0.0) < SHRUNK * then[name] * now[last]


def _saturated_outputs(recent: Recent, look: Look | None) -> Finding | None:
    """Outputs that have learnt sit there as well, and should."""
    flat = [(name, share) for name, share in (look or recent.glimpse).flat_outputs if share >= FLAT_LAYER]
    if mismatched_loss(recent, look) is not None:
        return None  # a loss that asks for more than they can give has driven them there
    if not flat or recent.began is None or recent.level < LEARNT * recent.began:
        return None
    return Finding(
        Cause.SATURATED_UNITS,
        min(flat[0][1], DEAD),
        (Evidence("flat_share", flat[0][1]),),
        f"{100 * flat[0][1]:.3g} % of the outputs after {named([name for name, _ in flat])} sit where the slope of "
        "their tanh or sigmoid is below a hundredth of its largest, right or wrong: no gradient comes through.",
        "Scale the inputs to mean 0 and variance 1 and the last weights and biases down; or give the loss the "
        "raw outputs (as binary_cross_entropy_with_logits takes them), where it has a slope everywhere.",
    )


def _bypassed(name: str, recent: Recent) -> bool:
    """Whether the gradient reaches what lies before a layer on another way, see findings/layers.py."""
    sizes = dict(recent.depths)
    earlier = [*sizes.values()][: [*sizes].index(name)] if name in sizes else []
    return max(earlier, default=0.0) > BYPASS * sizes.get(name, 0.0)


def vanishing_in_time(recent: Recent, look: Look | None) -> Finding | None:
    """Of a loss that has not come down far, next to nothing gets back to the first steps of a recurrence.

    One that has come down has learnt from the last of them, which may have been all that there was to learn.
    """
    if recent.began is None or recent.level < LEARNT * recent.began:
        return None
    seen = (look or recent.glimpse).unrolled
    lost = [
        (name, times, left)
        for name, times, sizes in seen
        if (left := faded([max(size, _LEAST) for size in sizes])) is not None
    ]
    if not lost:
        return None
    name, times, left = min(lost, key=lambda one: one[2])
    return Finding(
        Cause.VANISHING_GRADIENT,
        IN_TIME,
        (Evidence("gradient_left", left),),
        f"`{name}` is applied {times} times, one after the other, and on its way back from the last quarter of them "
        f"to the first the gradient shrinks {figure(1.0 / left)} times. What the loss depends on that far back is "
        "not learnt; if nothing is, this is no harm.",
        "Use gates that begin open (a GRU, or an LSTM whose forget gates have a bias of one and more), orthogonal "
        "recurrent weights, attention, or shorter sequences.",
    )
