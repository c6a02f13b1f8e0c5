"""What the record of a live run says by itself, without a look at its graph."""

import math
from collections.abc import Sequence
from itertools import pairwise

from unstuck.findings.layers import FLAT_LAYER
from unstuck.findings.live.glance import FALLS_SHORT, critical
from unstuck.findings.phrases import MOST, confidence, figure, named
from unstuck.findings.progress import NEGLIGIBLE
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

# A loss that rose to so many times its beginning before it was infinite was driven there by its steps.
GROWN = 1e3

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
        f"At step {recent.not_finite:,} the {recent.broken} was NaN or infinite for the first time. "
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


BEGIN_ANEW = "Begin anew with a lower learning rate, tenfold and more, and warm it up"

LOGITS = (
    "Give cross_entropy and its like the raw outputs (logits) of the last layer, nll_loss and ctc_loss the "
    "log_softmax of them, and use probabilities for predictions only."
)


ONE_BY_ONE = "Give both the same shape: outputs.squeeze(1), or targets.unsqueeze(1)."


BOTH_CLASSES = (
    "Give cross_entropy an output for each class, also where there are two; or a single output and "
    "binary_cross_entropy_with_logits."
)


WITHIN = "Leave out the last activation, or scale the targets to what it can give."


def mismatched_loss(recent: Recent, look: Look | None) -> Finding | None:
    """The graph shows that the loss normalises twice or over one class, lacks a logarithm, or is bounded."""
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
    if recent.alone:
        return Finding(
            Cause.MISMATCHED_LOSS,
            SURE,
            (),
            f"{recent.alone}. So it says the same of every output, and that part of the loss teaches nothing.",
            BOTH_CLASSES,
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


def dead_units(recent: Recent, look: Look | None) -> Finding | None:
    """No gradient at all comes to a layer, and the weights behind it are not zero.

    Nor does it where a tanh or a sigmoid lies so far out that rounding leaves it no slope: these are saturated.
    """
    silent = _unexplained(recent.silent, (look or recent.glimpse).flat)
    if not silent:
        return None
    came = all(_had_gradient(name, recent) for name in silent)
    when = "any more, as it did at the first steps" if came else "at any step that was looked at"
    whose = "The steps have brought them there, and none" if came else "No step"
    return Finding(
        Cause.DEAD_UNITS,
        DEAD,
        (Evidence("silent_layers", float(len(silent))),),
        f"Not the least gradient comes to {named(silent)}, {when}: the units behind "
        "give nothing on any example, as ReLUs do when their inputs are all negative, or always the same, as a tanh "
        f"or a sigmoid far out. {whose} can wake them up.",
        f"{BEGIN_ANEW}; if it comes again, use leaky units (LeakyReLU, ELU) or normalise before them."
        if came
        else "Initialise these layers anew with biases of zero, then go on with a smaller learning rate, or with "
        "leaky units (LeakyReLU, ELU) or normalisation before them.",
    )


def _had_gradient(name: str, recent: Recent) -> bool:
    return dict(recent.first_depths).get(name, 0.0) > 0.0


def cut_off(recent: Recent) -> Finding | None:
    """Layers are dead from the first one on: whatever the inputs are, those after them get the same."""
    first = recent.depths[0][0] if recent.depths else None
    return dead_units(recent, None) if first in recent.silent else None


def _unexplained(silent: Sequence[str], flat: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """Layers without any gradient but those that have units without a slope after them."""
    saturated = {name for name, share in flat if share >= FLAT_LAYER}
    last = max((place for place, name in enumerate(silent) if name in saturated), default=-1)
    return tuple(silent[last + 1 :])


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
        f"All weights of {named(recent.zeros)} that are trained are exactly zero, and so is every gradient that they "
        "have had: layers of zeros keep the gradient from each other. This is a saddle point, and no gradient leads "
        "away from it.",
        "Initialise these layers at random, as PyTorch does by itself; only the last one of a branch may begin at "
        "zero.",
    )


def no_slope(recent: Recent, _look: Look | None) -> Finding | None:
    """Every gradient is exactly zero: on no batch does the loss depend on the weights."""
    if recent.gradient_norm != 0.0 or recent.erased or recent.stepped or recent.narrow or recent.zeros:
        return None
    if recent.alone:
        return None
    if any(_had_gradient(name, recent) for name, _ in recent.first_depths):
        return _driven_flat()
    return Finding(
        Cause.PLATEAU,
        SURE,
        (Evidence("gradient_norm", 0.0),),
        "Every gradient that was looked at is exactly zero: whatever the weights are nearby, the loss is the same, "
        "and no step changes anything.",
        "Look at what the loss is made of: a reward that never comes, a margin that is always kept, a mask that "
        "leaves nothing, outputs that are clamped, or units that are all dead.",
    )


def _driven_flat() -> Finding:
    """What the steps have made, they may make again from anywhere: the plateau is not all there is to it."""
    return Finding(
        Cause.PLATEAU,
        UNSEEN,
        (Evidence("gradient_norm", 0.0),),
        "Gradients are exactly zero, and at the first steps they were not: the steps have led to where the loss is "
        "the same whatever the weights are nearby, and none changes anything any more.",
        f"{BEGIN_ANEW}; if it comes again, look at what the loss is made of: margins that are kept, outputs that are "
        "clamped or saturated, or units that are all dead.",
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
    left = _faded_in(recent.depths)
    if left is None:
        return None
    first, last = recent.depths[0][0], recent.depths[-1][0]
    came = bool(recent.first_depths) and _faded_in(recent.first_depths) is None
    return Finding(
        Cause.VANISHING_GRADIENT,
        min(confidence(-math.log10(left), -math.log10(VANISHED)), UNSEEN if came else SURE),
        (Evidence("gradient_left", left),),
        f"On its way back from `{last}` to `{first}` the gradient shrinks {figure(1.0 / left)} times, relative to "
        f"the weights. So `{first}` is hardly told by the loss how to change."
        + (" At the first steps it did not: they have brought the network there." if came else ""),
        f"{BEGIN_ANEW}; if it comes again, normalise."
        if came
        else "Use ReLU-like units with He initialisation, normalisation layers or residual connections.",
    )


def _faded_in(depths: Sequence[tuple[str, float]]) -> float | None:
    """What is left of a gradient from the last layers to the first."""
    layers = [size for _, size in depths if size > 0.0]
    if len(layers) < PLACES:
        return None
    # The strongest of each quarter: inside a block of attention, say, some layers always get far less than others.
    cuts = [round(number * len(layers) / PLACES) for number in range(PLACES + 1)]
    return faded([max(layers[low:high]) for low, high in pairwise(cuts)])


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
    # Nor of one that comes to nothing by itself: its steps promise no more than that.
    if recent.ahead is not None and recent.ahead < NEGLIGIBLE * recent.scale:
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
        if _could_not_move(recent):
            return False
        # One twice as long is surely better, and one that many times as long not surely worse.
        slope = recent.lately
        return slope is None or not (
            slope.surely_below(-0.5, sigmas=2.0) and not slope.surely_above(1.0 / STALE - 1.0, sigmas=2.0)
        )
    if look.update is None:
        return False
    slope, curvature = look.update.slope, look.update.curvature
    return slope.margin(2.0) - slope.value < STALE * curvature.value


def _could_not_move(recent: Recent) -> bool:
    """Whether all steps since then are no way for the weights, along a gradient that leads on."""
    share = recent.step_share
    moved = math.inf if share is None else (recent.until - recent.since) * share
    return FALLS_SHORT * moved < 1.0 and leads_on(recent)


def leads_on(recent: Recent) -> bool:
    """Whether successive batches agree on a gradient that has something to give: what they share is no noise."""
    signal, norm, reach = recent.signal, recent.gradient_norm, recent.reach
    if signal is None or not norm or reach is None or not signal.surely_above(0.0):
        return False
    return math.sqrt(signal.value) * reach / norm >= NEGLIGIBLE * recent.scale


def leads_down(recent: Recent) -> bool:
    """Whether the loss surely still falls along a step where it ends: it may rise, but no step throws it up."""
    return recent.overshoot is not None and recent.overshoot.surely_below(0.0, sigmas=2.0)


def step_share(recent: Recent) -> tuple[Evidence, ...]:
    """Length of a step over that of the weights, as evidence."""
    return () if recent.step_share is None else (Evidence("step_share", recent.step_share),)
