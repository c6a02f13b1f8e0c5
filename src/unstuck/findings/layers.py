"""What the layers do to the gradient: it vanishes with depth or time, units are dead, units are saturated."""

import math
from collections.abc import Sequence
from itertools import pairwise

from unstuck.findings.phrases import MOST, figure
from unstuck.findings.progress import going_on, improves
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.measurements.records import Layers, Measurements
from unstuck.measurements.records.layers import Activation, Inputs

# A thousandth: what the last layer learns in a step takes the first one a thousand. A deep tanh network in good
# health loses a factor of 3 to 10, plain ones at PyTorch's default initialisation 0.4 to 0.6 a layer.
VANISHED = 1e-3

# With depth or time a gradient vanishes little by little: no one place takes more than half of it, in decades.
# Where one does, something else is wrong there.
ONE_PLACE = 0.5

# The fewest places at which "little by little" means something.
PLACES = 4

# Near this ratio single precision comes to its end, and what has worn off so far may read as 0 before it.
UNDERFLOW = 1e-30

# A layer of which so many units are dead lets nothing through that the next could use.
DEAD_LAYER = 0.95

# Healthy ReLU networks have 10 to 35 % dead units in a layer (measured on digits, trained and not).
DEAD_NET = 0.5

# A unit that fires on one example in ten is silent on 30 with a probability of 4 %: only then call it dead, unless
# there are no more examples.
SEEN = 30

# Where more than half of the numbers that arrive are 0, at several layers one behind the other, and units are not
# dead, what went through the layers has worn off until the numbers came to their end.
WORN = 0.5

# Of a layer's values so many are flat: by root mean square a quarter of the gradient is left (measured).
FLAT_LAYER = 0.8

# Healthy tanh networks have up to a third of their values flat after training. A unit is saturated if it is
# flat on 99 % of the examples; a layer, if most of its units are.
SATURATED_LAYER = 0.5

# Gates are there to be open or shut; but not nearly all of them, always.
CLOSED = 0.95

# Another rate, or the whole gradient, that takes a fifth of the loss within a few passes shows that units learn.
MOVES = 0.2

# A run that has learnt little and gains less than this while it is watched does not get on: the last layers alone
# gain that much behind others that get no gradient.
GETS_ON = 0.02

# Steps so many times longer leap out of anything, and show nothing.
LEAP = 1000.0

# What lies before a layer gets this many times its gradient only if there is another way.
BYPASS = 10.0

# Outputs block when most of the error they are told of is where they cannot answer ...
BLOCKED = 0.5

# ... and a relative change of their inputs would change the loss by less than a tenth of itself. Under
# cross-entropy it changes by about as much as the loss, however extreme the probabilities are.
POWERLESS = 0.1

# A model that avoids nine tenths of the loss of one that does not see its inputs has learnt, whatever its units.
LEARNT = 0.9

# Outputs that know nothing of the inputs give the loss of their mean, up to the rounding of that.
NOTHING = 1e-5

# How sure it is where it cannot be said how much the model has learnt.
UNKNOWN = 0.8


def vanishing_gradient(_point: Point, measured: Measurements) -> Finding | None:
    """The gradient falls to less than a thousandth on its way back through the layers, or through the steps."""
    layers = _stuck(measured)
    if layers is None or _saturated(layers) or _dead(layers):
        return None
    if _unheard(layers):
        return _forgotten(layers) if _worn_off(layers) else None
    through = [(_collapse(_rising([place.gradient for place in layers.depths])), "")]
    through += [(_collapse(_rising(place.steps)), place.name) for place in layers.depths if place.steps]
    left, recurrent = min(through)
    if left > VANISHED:
        return None
    last, first = layers.depths[-1].name, layers.depths[0].name
    way, effect, cure = _through_time(recurrent) if recurrent else _through_depth(last, first)
    return Finding(
        Cause.VANISHING_GRADIENT,
        # In decades: a tenth of the threshold is surer, but not ten times.
        _sure(0.5 + 0.5 * (1.0 - math.log10(VANISHED) / math.log10(max(left, 1e-300))), layers),
        (Evidence("gradient_left", left), *_learned(layers)),
        f"On its way back {way}, the gradient shrinks {figure(1.0 / max(left, 1e-300))} times, a little at each. "
        f"{effect}",
        cure,
    )


def _forgotten(layers: Layers) -> Finding:
    """What goes forward has vanished, and so must what comes back."""
    last = _unheard(layers)[-1]
    quiet = [each for each in layers.inputs if each.silent > WORN]
    return Finding(
        Cause.VANISHING_GRADIENT,
        _sure(MOST, layers),
        (Evidence("silent_share", last.silent), *_learned(layers)),
        f"What goes forward shrinks from layer to layer until the numbers come to their end: from `{quiet[0].name}` "
        f"on more than half of what arrives at a layer is 0, at `{last.name}` {100 * last.silent:.3g} %. What comes "
        "back shrinks as much: no layer before is told how to change.",
        "Initialise the weights so that each layer passes on what it gets (He initialisation), or use normalisation "
        "layers or residual connections.",
    )


def _through_depth(last: str, first: str) -> tuple[str, str, str]:
    return (
        f"through the layers from `{last}` to `{first}`",
        f"So `{first}` is hardly told by the loss how to change, and what comes after it learns from its noise.",
        "Use ReLU-like units with He initialisation, normalisation layers or residual connections.",
    )


def _through_time(name: str) -> tuple[str, str, str]:
    return (
        f"through the time steps of `{name}`",
        "So the loss hardly tells how to treat the early steps, and what they hold is not learnt.",
        "Use an LSTM with a forget bias of 1, a GRU, attention, or the mean over all steps instead of the last.",
    )


def dead_units(_point: Point, measured: Measurements) -> Finding | None:
    """A layer is nearly all dead, or most units of the network are."""
    layers = measured.layers
    worst = _dead(layers) if layers else ()
    if layers and not worst and not _worn_off(layers) and (unheard := _unheard(layers)):
        return _silent_inputs(measured, layers, unheard)
    if layers is None or not worst or not _held(measured, layers, max(layer.dead for layer in worst)):
        return None
    rectifiers = _rectifiers(layers)
    units = sum(layer.units for layer in rectifiers)
    share = sum(layer.dead * layer.units for layer in rectifiers) / units
    most = max(layer.dead for layer in worst)
    named = ", ".join(f"{100 * layer.dead:.3g} % of those after `{layer.name}`" for layer in worst[:3])
    return Finding(
        Cause.DEAD_UNITS,
        _sure(MOST if most >= DEAD_LAYER else share, layers),
        (Evidence("dead_share", share), Evidence("dead_in_worst_layer", most), *_learned(layers)),
        f"{100 * share:.3g} % of the {units} {_ops(worst)} units give nothing on any of the {layers.examples} "
        f"examples seen: {named}. No gradient passes through them, so no step can wake them up.",
        "Bring what goes into the clamp back into its range: set anew the parameters that make it, or let it leak."
        if _clamped(worst)
        else "Initialise these layers anew with biases of zero, then go on with a smaller learning rate, or with "
        "leaky units (LeakyReLU, ELU) or normalisation before them.",
    )


def _clamped(layers: Sequence[Activation]) -> bool:
    """Whether it is bounds that were set by hand, as of a gate."""
    return all(layer.op.startswith("clamp") for layer in layers)


def _silent_inputs(measured: Measurements, layers: Layers, unheard: Sequence[Inputs]) -> Finding | None:
    """What no known nonlinearity makes: a threshold of one's own, a mask, a choice of the largest."""
    worst = max(unheard, key=lambda each: each.silent)
    if not _held(measured, layers, worst.silent):
        return None
    return Finding(
        Cause.DEAD_UNITS,
        _sure(MOST, layers),
        (Evidence("dead_in_worst_layer", worst.silent), *_learned(layers)),
        f"{100 * worst.silent:.3g} % of the {worst.features} inputs of `{worst.name}` are 0 on each of the "
        f"{layers.examples} examples seen, though what comes out of `{worst.source}` is not: what lies between the "
        "two lets nothing through.",
        f"See to what lies between `{worst.source}` and `{worst.name}`: lower its threshold, or scale what comes "
        "before it, or normalise that, until a part of the units answers to every example.",
    )


def saturated_units(_point: Point, measured: Measurements) -> Finding | None:
    """Nearly all values of a layer, or the outputs that are wrong, sit where the slope is nil."""
    layers = _stuck(measured)
    if layers is None:
        return None
    worst = _saturated(layers)
    if not worst:
        return None
    layer = max(worst, key=_flatness)
    outputs = [layer for layer in worst if layer.output]
    layer = outputs[0] if outputs else layer
    what = "outputs" if layer.output else "units"
    advice = (
        "Let the loss take the values before the sigmoid or softmax (BCEWithLogitsLoss, CrossEntropyLoss), and "
        "scale the weights of the last layer down."
        if layer.output
        else "Scale the inputs to mean 0 and variance 1 and the weights of these layers down, or normalise."
    )
    left = "" if layer.passed is None else f", and {100 * layer.passed:.2g} % of the gradient gets through"
    names = ", ".join(f"`{name}`" for name in list(dict.fromkeys(each.name for each in worst))[:3])
    return Finding(
        Cause.SATURATED_UNITS,
        _sure(min(MOST, _flatness(layer)), layers),
        (
            Evidence("flat_share", layer.flat),
            Evidence("saturated_share", layer.saturated),
            *([] if layer.passed is None else [Evidence("gradient_passed", layer.passed)]),
            *_learned(layers),
        ),
        f"{100 * layer.flat:.3g} % of the values of the {layer.op} {what} after {names} sit where the slope is "
        f"below a hundredth of its largest{left}. There a change of the weights changes nothing in the loss.",
        advice,
    )


def _held(measured: Measurements, layers: Layers, silent: float) -> bool:
    """Whether a layer of which this share is silent holds the run up.

    Behind one that is silent as a whole only constants are left to learn, however fast they are learnt now. And where
    all units of the network are dead, what other steps still gain is what little is left beside them.
    """
    blind = layers.learned is not None and abs(layers.learned) < NOTHING
    if blind and silent == 1.0:
        return True
    return _stuck(measured) is not None or (_all_dead(layers) and _unlearnt(measured) is not None)


def _stuck(measured: Measurements) -> Layers | None:
    """The layers of a run that does not get on, by other steps neither, and has not learnt what there is to learn."""
    return None if _moves(measured) else _unlearnt(measured)


def _unlearnt(measured: Measurements) -> Layers | None:
    """The layers of a run that does not get on and has not learnt what there is to learn."""
    layers = measured.layers
    if layers is None or _gets_on(measured):
        return None
    learned = layers.learned
    return layers if learned is None or learned < LEARNT else None


def _gets_on(measured: Measurements) -> bool:
    arm = going_on(measured)
    return improves(measured) and arm is not None and arm.gain.value > GETS_ON * measured.scale


def _moves(measured: Measurements) -> bool:
    """Whether other steps alone get the run moving: then it is not the layers that hold it.

    To what one output for all examples has a run comes down without any layer: only what lies below that counts.
    """
    found, line = measured.continuations, measured.route("gradient")
    gains = [arm.gain for arm in found.arms[1:] if arm.factor <= LEAP] if found else []
    if line is not None and (line.multiple is None or line.multiple <= LEAP):
        gains.append(line.gain)
    # It is for the layers to be proved: a gain that is sure, and most likely as large, acquits them.
    without = _without_layers(measured)
    return any(gain.surely_above(without) and gain.value - without > MOVES * measured.scale for gain in gains)


def _without_layers(measured: Measurements) -> float:
    """How far the loss lies above that of one output for all, of batches that are like each other."""
    outputs, order = measured.outputs, measured.order
    if outputs is None or outputs.blind is None or (order is not None and order.structure.suspicious):
        return 0.0
    return max(measured.loss.value - measured.penalty - outputs.blind, 0.0)


def _sure(confidence: float, layers: Layers) -> float:
    """The more the model has learnt, the less its layers can be to blame."""
    learned = layers.learned
    return min(confidence, MOST) * (UNKNOWN if learned is None else 1.0 - max(learned, 0.0))


def _learned(layers: Layers) -> tuple[Evidence, ...]:
    return () if layers.learned is None else (Evidence("learned_share", layers.learned),)


def _rising(lengths: Sequence[float]) -> list[float]:
    """The largest gradient that anything up to each place gets: branches that need little do not count."""
    best: list[float] = []
    for length in lengths:
        best.append(max(length, best[-1]) if best else length)
    return best


def _collapse(rising: Sequence[float]) -> float:
    """What is left at the first place of the gradient at the last, if it is lost little by little; else 1."""
    felt = [length for length in rising if length > 0.0]
    if len(felt) < PLACES or not math.isfinite(felt[-1]):
        return 1.0
    decades = [math.log10(after) - math.log10(before) for before, after in pairwise(felt)]
    total = math.fsum(decades)
    if total <= 0.0 or max(decades) > ONE_PLACE * total:
        return 1.0
    # Zeros before that are cut off, not worn off, unless the numbers themselves have come to their end.
    underflow = felt[0] < UNDERFLOW * felt[-1]
    return felt[0] / felt[-1] if len(felt) == len(rising) or underflow else 1.0


def _rectifiers(layers: Layers) -> list[Activation]:
    # At the output a clamp is part of a loss, as of a hinge, and meant to be 0.
    return [
        layer
        for layer in layers.activations
        if layer.kind == "rectifier"
        and _enough(layer.seen, layers)
        and not (layer.output and layer.op != "relu")
    ]


def _dead(layers: Layers) -> list[Activation]:
    """The layers to be named for their dead units, the worst first."""
    found = _rectifiers(layers)
    worst = [layer for layer in found if layer.dead >= DEAD_LAYER and not _bypassed(layer.name, layers)]
    units = sum(layer.units for layer in found)
    if not worst and sum(layer.dead * layer.units for layer in found) >= DEAD_NET * max(units, 1):
        worst = [layer for layer in found if layer.dead >= DEAD_NET]
    return sorted(worst, key=lambda layer: -layer.dead)


def _all_dead(layers: Layers) -> bool:
    """Whether next to nothing but dead units is left in the whole network."""
    found = _rectifiers(layers)
    units = sum(layer.units for layer in found)
    return units > 0 and sum(layer.dead * layer.units for layer in found) >= DEAD_LAYER * units


def _unheard(layers: Layers) -> list[Inputs]:
    """The layers that nearly nothing of an earlier one arrives at."""
    few = not _enough(layers.examples, layers)
    silent = [each for each in layers.inputs if each.silent >= DEAD_LAYER]
    return [] if few else [each for each in silent if not _bypassed(each.source, layers)]


def _saturated(layers: Layers) -> list[Activation]:
    """The layers to be named for saturation, in the order of execution."""
    return [
        layer
        for layer in layers.activations
        if _enough(layer.seen, layers) and _is_saturated(layer) and not _bypassed(layer.name, layers)
    ]


def _enough(seen: int, layers: Layers) -> bool:
    return seen >= SEEN or layers.whole


def _worn_off(layers: Layers) -> bool:
    """Whether it is little by little that nothing arrives any more, and not for units that are dead."""
    quiet = [each for each in layers.inputs if each.silent > WORN]
    return len(quiet) >= PLACES and len(_unheard(layers)) < ONE_PLACE * len(quiet)


def _bypassed(name: str, layers: Layers) -> bool:
    """Whether the gradient reaches what lies before a layer on another way, as through a residual connection."""
    places = [place.name for place in layers.depths]
    if name not in places:
        return False
    own = places.index(name)
    before = max((place.gradient for place in layers.depths[:own]), default=0.0)
    return before > BYPASS * layers.depths[own].gradient


def _is_saturated(layer: Activation) -> bool:
    if layer.gate:
        return layer.saturated >= CLOSED
    if layer.kind != "bounded":
        return layer.saturated >= SATURATED_LAYER
    if layer.output:
        if layer.back is None or layer.leverage is None:
            return False
        return _flatness(layer) >= BLOCKED and layer.back >= BLOCKED and layer.leverage <= POWERLESS
    return layer.flat >= FLAT_LAYER or layer.saturated >= SATURATED_LAYER


def _flatness(layer: Activation) -> float:
    return max(layer.flat, layer.saturated)


def _ops(found: Sequence[Activation]) -> str:
    return "/".join(dict.fromkeys(layer.op for layer in found))


CHECKS = (vanishing_gradient, dead_units, saturated_units)
