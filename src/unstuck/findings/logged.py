"""What the record of a live run says by itself, without a look at its graph."""

import math
from collections.abc import Sequence
from itertools import pairwise

from unstuck.findings.glance import FALLS_SHORT, NEGLIGIBLE, critical
from unstuck.findings.phrases import MOST, confidence, estimated, figure, named
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

# More than half of the parameters that have a gradient stay as they are: most of the update is lost.
MOST_LOST = 0.5

# A decade, see STALE in findings/updates.py.
STALE = 10.0

# See VANISHED in findings/layers.py; and little by little means over four parts of the network at least.
VANISHED, PLACES = 1e-3, 4

# How sure it is that units are dead where a layer gets no gradient: a mask or a product with zero does the same.
DEAD = 0.8

# And that layers of zeros are why: what is pruned or masked looks the same, and is meant.
ZEROS = 0.8

# Steps that make up the beginning, see _BEGINNING in watching/stalls.py.
BEGINNING = 16

# Stands for the names of all parameters of an optimizer where the model that they belong to is not there.
ORPHANS = ("*",)

# A loss that rose to so many times its beginning before it was infinite was driven there by its steps.
GROWN = 1e3

# A rate that is no more than this share of its first one is worth a word.
SPENT = 0.1

# And that a scale is stale where no look has seen yet whether the gradient is small since it is at a minimum.
UNSEEN = 0.6

# Nothing is claimed from a live run with more confidence than this: no remedy has been tried.
SURE = 0.9


def non_finite(recent: Recent, _look: Look | None) -> Finding | None:
    """The loss or the gradient is no number any more."""
    if recent.not_finite is None:
        return None
    began, last = recent.began, recent.level
    grown = (
        f" Before that it had risen to {last:.3g}, from {began:.3g}."
        if began and last > GROWN * began > 0.0
        else ""
    )
    return Finding(
        Cause.NON_FINITE,
        MOST,
        (Evidence("step", float(recent.not_finite)),),
        f"At step {recent.not_finite} the {recent.broken} was NaN or infinite for the first time. "
        + (
            "It has been so ever since, at every scale: the GradScaler makes no step any more, and the weights stay "
            "as they are."
            if recent.broken == "gradient"
            else "What follows from such a number is no number either."
        )
        + grown,
        "The steps are too large: lower the learning rate, tenfold and more, and warm it up; clip the gradient."
        if grown
        else "`unstuck diagnose` names the first operation that gives one: bring it the model and the batch.",
    )


LOGITS = (
    "Give cross_entropy and its like the raw outputs (logits) of the last layer, nll_loss and ctc_loss the "
    "log_softmax of them, and use probabilities for predictions only."
)


ONE_BY_ONE = "Give both the same shape: outputs.squeeze(1), or targets.unsqueeze(1)."


WITHIN = "Leave out the last activation, or scale the targets to what it can give."


def mismatched_loss(recent: Recent, look: Look | None) -> Finding | None:
    """The graph shows that the loss normalises what has been normalised already, lacks a logarithm, or is bounded."""
    if beyond := (look or recent.glimpse).beyond:
        return Finding(Cause.MISMATCHED_LOSS, SURE, (), f"{beyond}.", WITHIN)
    if recent.crossed:
        return Finding(
            Cause.MISMATCHED_LOSS,
            SURE,
            (),
            f"{recent.crossed}. The best that can be given then is the same for every example.",
            ONE_BY_ONE,
        )
    if not recent.twice:
        return None
    return Finding(
        Cause.MISMATCHED_LOSS,
        SURE,
        (),
        f"{recent.twice}. So bounded, the outputs cannot bring the loss to where it could be, whatever the weights, "
        "and hardly have a slope where they are sure.",
        LOGITS,
    )


def dead_units(recent: Recent, _look: Look | None) -> Finding | None:
    """No gradient at all comes to a layer, and the weights behind it are not zero."""
    if not recent.silent:
        return None
    return Finding(
        Cause.DEAD_UNITS,
        DEAD,
        (Evidence("silent_layers", float(len(recent.silent))),),
        f"Not the least gradient comes to {named(recent.silent)}, at any step that was looked at: the units behind "
        "give nothing on any example, as ReLUs do when their inputs are all negative. No step can wake them up.",
        "Initialise these layers anew with biases of zero, then go on with a smaller learning rate, or with leaky "
        "units (LeakyReLU, ELU) or normalisation before them.",
    )


def zero_layers(recent: Recent, _look: Look | None) -> Finding | None:
    """Two layers of zeros or more keep the gradient from each other: the loss depends on their product alone.

    Where a product of several factors that are all zero stands still, its gradient and, from the third factor on, its
    curvature vanish; yet changing all of them at once changes the loss, up or down: a saddle point.
    """
    if len(recent.zeros) < 2:  # noqa: PLR2004  # a single one may be masked, or wait for its input
        return None
    return Finding(
        Cause.SADDLE_POINT,
        ZEROS,
        (Evidence("zero_layers", float(len(recent.zeros))),),
        f"All weights of {named(recent.zeros)} are exactly zero, and so is every gradient that they have had: layers "
        "of zeros keep the gradient from each other. This is a saddle point, and no gradient leads away from it.",
        "Initialise these layers at random, as PyTorch does by itself; only the last one of a branch may begin at "
        "zero.",
    )


def no_slope(recent: Recent, _look: Look | None) -> Finding | None:
    """Every gradient is exactly zero: on no batch does the loss depend on the weights."""
    if recent.gradient_norm != 0.0 or recent.erased or recent.stepped or recent.narrow or recent.zeros:
        return None
    return Finding(
        Cause.PLATEAU,
        SURE,
        (Evidence("gradient_norm", 0.0),),
        "Every gradient that was looked at is exactly zero: whatever the weights are nearby, the loss is the same, "
        "and no step changes anything.",
        "Look at what the loss is made of: a reward that never comes, a margin that is always kept, a mask that "
        "leaves nothing, outputs that are clamped, or units that are all dead.",
    )


def precision_stall(recent: Recent, _look: Look | None) -> Finding | None:
    """Most parameters that have a gradient are not changed by a step, and are kept with few digits.

    In single precision a step that changes nothing is too small to matter, rounded or not.
    """
    if not recent.narrow or recent.unchanged is None or recent.unchanged <= MOST_LOST:
        return None
    return Finding(
        Cause.PRECISION_STALL,
        min(0.5 + 0.5 * recent.unchanged, SURE),
        (Evidence("unchanged_share", recent.unchanged), *step_share(recent)),
        f"{100 * recent.unchanged:.3g} % of the parameters that have a gradient stay as they are at a step: what it "
        "would add is less than half of the last digit they are kept with.",
        "Keep float32 master weights (torch.autocast instead of model.half() or .bfloat16()); or are the steps too "
        "small?",
    )


def vanishing_gradient(recent: Recent, _look: Look | None) -> Finding | None:
    """From the last layer to the first the relative gradient falls to less than a thousandth."""
    layers = [(name, size) for name, size in recent.depths if size > 0.0]
    if len(layers) < PLACES:
        return None
    # The strongest of each quarter: inside a block of attention, say, some layers always get far less than others.
    cuts = [round(number * len(layers) / PLACES) for number in range(PLACES + 1)]
    left = faded([max(size for _, size in layers[low:high]) for low, high in pairwise(cuts)])
    if left is None:
        return None
    first, last = recent.depths[0][0], recent.depths[-1][0]
    return Finding(
        Cause.VANISHING_GRADIENT,
        min(confidence(-math.log10(left), -math.log10(VANISHED)), SURE),
        (Evidence("gradient_left", left),),
        f"On its way back from `{last}` to `{first}` the gradient shrinks {figure(1.0 / left)} times, relative to "
        f"the weights. So `{first}` is hardly told by the loss how to change.",
        "Use ReLU-like units with He initialisation, normalisation layers or residual connections.",
    )


def faded(sizes: Sequence[float]) -> float | None:
    """What is left of a gradient from the last place to the first, where it is lost little by little and nearly all.

    No one place takes more than half of it, in decades.
    """
    if min(sizes) <= 0.0:
        return None
    left = sizes[0] / sizes[-1]
    steepest = min(before / after for before, after in pairwise(sizes))
    return None if left > VANISHED or steepest < math.sqrt(left) else left


def stale_second_moment(recent: Recent, look: Look | None) -> Finding | None:
    """The running mean of squares is a decade above the present gradients, which have something to give."""
    ratio = recent.sigma_ratio
    # Where the gradient has come to nothing, as at a minimum, no other scale would make anything of it.
    if recent.reach is not None and recent.reach < NEGLIGIBLE * recent.scale:
        return None
    if _long_enough(recent, look):
        return None
    if look is not None and critical(recent, look):
        return None
    # Where units have died the gradient is gone with them, and no other scale would bring it back.
    if ratio is None or ratio <= STALE or recent.silent:
        return None
    return Finding(
        Cause.STALE_SECOND_MOMENT,
        min(confidence(ratio, STALE), UNSEEN if look is None else SURE),
        (Evidence("sigma_ratio", ratio), *step_share(recent)),
        f"The optimizer divides its steps by a scale (sigma) that is {figure(ratio)} times the present gradient: "
        "it still remembers gradients that are long gone.",
        "Reset the optimizer's state, or let it forget faster (a smaller beta2 or alpha; RMSProp or Adam "
        "instead of Adagrad).",
    )


def _long_enough(recent: Recent, look: Look | None) -> bool:
    """Whether steps, as far as is known, are not so much too short as such a scale would make them.

    Then the best step along one is that many times longer, and its slope at its end nearly what it was.
    """
    if look is None:
        overshoot = recent.overshoot
        return (
            overshoot is None
            or not leads_down(recent)
            or overshoot.surely_above(1.0 / STALE - 1.0, sigmas=2.0)
        )
    if look.update is None:
        return False
    slope, curvature = look.update.slope, look.update.curvature
    return slope.margin(2.0) - slope.value < STALE * curvature.value


def leads_down(recent: Recent) -> bool:
    """Whether the loss surely still falls along a step where it ends: it may rise, but no step throws it up."""
    return recent.overshoot is not None and recent.overshoot.surely_below(0.0, sigmas=2.0)


def creeping(recent: Recent, _look: Look | None) -> Finding | None:
    """From the start the steps have led down, and nowhere: they cannot have moved the loss, however noisy it is.

    Of a run that has come down first the record does not say whether longer steps would lead further, or bounce.
    """
    if (still := motionless(recent)) is not None:
        return still
    overshoot, share, descent = recent.overshoot, recent.step_share, recent.descent
    if recent.since > BEGINNING or not share or descent is None:
        return None
    steps = recent.until * share  # of the weights' length, if they all went one way
    if (
        FALLS_SHORT * steps > 1.0  # so many times as far would not be beyond the scale of the weights
        or recent.until * descent > NEGLIGIBLE * recent.scale
    ):
        return None
    if overshoot is None:
        return _adrift(recent, steps)
    left = -overshoot.value * descent  # what one more such step gains on other batches, to first order
    if not leads_down(recent) or recent.clipped or left / share < NEGLIGIBLE * recent.scale:
        return _cut(recent, steps)
    return Finding(
        Cause.STEP_TOO_SMALL,
        min(confidence(1.0 / steps, FALLS_SHORT), SURE),
        (*step_share(recent), estimated("overshoot", overshoot)),
        f"The weights have hardly moved: all {recent.until:,} steps together come to no more than "
        f"{100 * steps:.2g} % of their length, and do not even promise to lower the loss by 1 %. The steps do lead "
        f"down: where one ends, the loss of another batch still falls along it, {figure(-overshoot.value)} times as "
        "steeply as its own fell where it began.",
        "Raise the learning rate, tenfold and more.",
    )


CLIP_LESS = "Clip to a higher bound, and with a GradScaler after scaler.unscale_(optimizer) only."


def _cut(recent: Recent, steps: float) -> Finding | None:
    """What a clipped gradient promises is nothing of what the loss's own would."""
    if not recent.clipped or not leads_down(recent):
        return None
    return Finding(
        Cause.STEP_TOO_SMALL,
        min(confidence(1.0 / steps, FALLS_SHORT), SURE),
        step_share(recent),
        f"The weights have hardly moved: all {recent.until:,} steps together come to no more than "
        f"{100 * steps:.2g} % of their length. The steps do lead down where they end, but all gradients that they "
        f"are made from have the very same length, {recent.gradient_norm:.2g}, as clipping makes it.",
        CLIP_LESS,
    )


def _adrift(recent: Recent, steps: float) -> Finding | None:
    """Where steps hardly lead down, as when most of one is its rounding, the gradient may have much left.

    That successive ones surely have a part in common is no noise; and all were taken at one place, as it were.
    """
    signal, norm, reach = recent.signal, recent.gradient_norm, recent.reach
    if precision_stall(recent, None) is not None:
        return None  # they may be long enough where weights are kept with more digits
    if signal is None or not norm or reach is None or not signal.surely_above(0.0, sigmas=3.0):
        return None
    if math.sqrt(signal.value) * reach / norm < NEGLIGIBLE * recent.scale:
        return None
    return Finding(
        Cause.STEP_TOO_SMALL,
        min(confidence(1.0 / steps, FALLS_SHORT), SURE),
        (*step_share(recent), estimated("signal", signal)),
        f"The weights have hardly moved: all {recent.until:,} steps together come to no more than "
        f"{100 * steps:.2g} % of their length, and do not even promise to lower the loss by 1 %. The gradient does "
        f"lead down: successive batches agree on it.{spent(recent)}",
        "Raise the learning rate, tenfold and more.",
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


ERASED = (
    "gradients come with the backward pass, and are gone when the optimizer steps: zero_grad() is called between "
    "backward() and step(), or they are clipped to nothing"
)
BEFORE_BACKWARD = "Call optimizer.zero_grad() before loss.backward(), or after optimizer.step()."


def frozen_parameters(recent: Recent, _look: Look | None) -> Finding | None:
    """Parameters that should be trained are in no optimizer, or no gradient comes to them."""
    if recent.erased:
        return Finding(Cause.FROZEN_PARAMETERS, SURE, (), f"Nothing is trained: {ERASED}.", BEFORE_BACKWARD)
    left = untrained(recent)
    if not left:
        return None
    return Finding(
        Cause.FROZEN_PARAMETERS,
        max(0.5, min(recent.left_out, SURE)),
        (Evidence("excluded_share", recent.left_out),),
        f"{left}.",
        _rewired(recent),
    )


def _rewired(recent: Recent) -> str:
    if recent.unregistered:
        return (
            f"Make {named(recent.unregistered)} an nn.ModuleList or nn.ModuleDict (of parameters, an "
            "nn.ParameterList), so that parameters() gives them to the optimizer, and state_dict() keeps them."
        )
    if recent.stepped:
        return (
            f"Let gradients pass through {_ends(recent)} as if it were not there (straight-through: "
            "x + (f(x) - x).detach()), or use a smooth function in the training."
        )
    return (
        "Give the optimizer the parameters of this very model; between them and the loss, remove the .detach() or "
        "torch.no_grad(), or put something smooth in the place of a comparison or an argmax; or set "
        "requires_grad=False where it is meant."
    )


def _ends(recent: Recent) -> str:
    return " and ".join(f"`{name}`" for name in recent.ends)


def untrained(recent: Recent) -> str:
    """Say which parameters are not trained, and why; nothing if all are."""
    if recent.unreached == ORPHANS:
        return (
            "No gradient has ever come to any of the parameters that the optimizer has: they are not those that the "
            "loss depends on, but those of another model, or of a layer that has been replaced since"
        )
    parts = [
        f"{named(names)} {'is' if len(names) == 1 else 'are'} {why}"
        for names, why in (
            (recent.unlisted, "in no optimizer"),
            (recent.unreached, "cut off from the loss, so that no gradient comes to them"),
            (
                recent.stepped,
                f"behind {_ends(recent)}, whose derivative is zero, so that no gradient comes to them",
            ),
        )
        if names
    ]
    if not parts:
        return ""
    kept = (
        f" ({named(recent.unregistered)}: kept in a plain list or dictionary, the model does not know of them)"
        if recent.unregistered
        else ""
    )
    return (
        f"{100 * recent.left_out:.3g} % of the trainable parameters are not trained: {'; '.join(parts)}{kept}"
    )


def step_share(recent: Recent) -> tuple[Evidence, ...]:
    """Length of a step over that of the weights, as evidence."""
    return () if recent.step_share is None else (Evidence("step_share", recent.step_share),)
