"""What no optimizer can help with: outputs that do not fit the loss, labels that do not depend on the inputs."""

from collections.abc import Callable
from dataclasses import replace

from unstuck.findings import left_out, updates
from unstuck.findings.phrases import MOST, estimated
from unstuck.findings.progress import improves
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.measurements.records import Measurements
from unstuck.measurements.records.labels import ALIKE, Labels
from unstuck.measurements.records.mixing import Mixing
from unstuck.measurements.records.outputs import Outputs

# What no parameters can remove is the reason of a stall where it is most of what other outputs could remove.
MOSTLY = 0.5

# Where scores are bound by their temperature the floor may be meant, and is what stops the run once it is reached.
NEARLY = 0.9

# Where the criterion squashes its inputs itself, squashing them before is always a mistake. With two classes,
# the floor of softmax in softmax (log(1 + 1/e) = 0.31) is 0.45 of the loss at chance (log 2 = 0.69).
MISTAKEN = 0.25

# Labels count as independent of the inputs unless a test says otherwise at this level, corrected for all tests.
INDEPENDENT = 0.05

# And if a correlation of left-out labels and predictions of 0.3, nine hundredths of the variance, is ruled out.
WEAK = 0.3

# How sure that is: when the model as it is was asked about data it has not seen; when only a copy of it was;
# and when the model fits the labels all the same, which it might owe to a rule that no test came upon.
SEEN, CHANCE, MEMORISED = 0.95, 0.9, 0.8

# A parity of bits or a sum modulo a prime looks random to every test but its own, as long as it is not learnt.
RULES = 0.6

# And where the optimizer is known to keep the run from learning, that it is not learnt says nothing.
UNLEARNT = 0.45

# How sure it is that a loss is indifferent to inputs, as two searches for its floor say.
INDIFFERENT = 0.9

# Where rows of a batch are steps of one sequence or nodes of one graph, what is compared with their targets changes
# by nine tenths and more of what changes most (measured on recurrent networks and attention, trained and not).
MISSED, ROUTED = 2.0 / 3.0, 0.97

# These apply a softmax or a sigmoid themselves.
SQUASHING = {
    "cross_entropy": "softmax",
    "binary_cross_entropy_with_logits": "sigmoid",
    "multilabel_soft_margin_loss": "sigmoid",
}


# Why outputs do not reach their targets, and what else helps than to leave them free.
_CANNOT, _RESCALE = "which cannot take the values that the targets have", "scale the targets into its range"
_ASKS = {"poisson_nll_loss": "and `poisson_nll_loss` takes them for the logarithms of rates"}
_OR_ELSE = {"poisson_nll_loss": "pass log_input=False"}


def mismatched_loss(_point: Point, measured: Measurements) -> Finding | None:
    """No values of the last layer's outputs bring the loss near what the criterion could reach."""
    outputs = measured.outputs
    if outputs is None:
        return None
    # A temperature is a matter of choice, as long as the loss falls with it.
    if outputs.misfit == "cosines" and outputs.share > NEARLY and not improves(measured):
        return _cosines(outputs)
    return mismatch(outputs)


def mismatch(outputs: Outputs) -> Finding | None:
    """Judge the floors, and what the criterion was given."""
    if outputs.misfit in _OF_KINDS:
        return _OF_KINDS[outputs.misfit](outputs)
    if outputs.misfit and outputs.criterion in ("nll_loss", "kl_div"):
        return _not_logarithms(outputs)
    squashed = outputs.criterion in SQUASHING
    if outputs.misfit == "cosines" or outputs.share < (MISTAKEN if squashed else MOSTLY):
        return None
    return _squashed_twice(outputs) if squashed else _out_of_range(outputs)


def _floors(outputs: Outputs) -> tuple[Evidence, ...]:
    floors = (("floor", outputs.built), ("free_floor", outputs.free), ("present_loss", outputs.loss))
    named = tuple(Evidence(name, value) for name, value in floors if value is not None)
    return (*named, Evidence("out_of_reach", outputs.share)) if outputs.built is not None else named


def _ends(outputs: Outputs) -> str:
    return ", ".join(f"`{name}`" for name in outputs.ends)


def _squashed_twice(outputs: Outputs) -> Finding:
    own = SQUASHING[outputs.criterion]
    through = f"already went through {_ends(outputs)}" if outputs.ends else "are probabilities already"
    return Finding(
        Cause.MISMATCHED_LOSS,
        MOST,
        _floors(outputs),
        f"`{outputs.criterion}` applies a {own} itself, and the numbers it is given {through}. So bounded, they "
        f"cannot bring the loss below {outputs.built:.4g}, whatever the weights, where free outputs reach "
        f"{outputs.free:.2g}; it is {outputs.loss:.4g} now.",
        f"Give `{outputs.criterion}` the raw outputs (logits) of the last layer: take "
        f"{_ends(outputs) or 'the normalisation'} out of the training's path and use it for predictions only.",
    )


def _out_of_range(outputs: Outputs) -> Finding:
    return Finding(
        Cause.MISMATCHED_LOSS,
        min(0.5 + 0.5 * outputs.share, MOST),
        _floors(outputs),
        f"The outputs end in {_ends(outputs)}, {_ASKS.get(outputs.criterion, _CANNOT)}. No weights "
        f"bring the loss below {outputs.built:.4g}, where free outputs reach {outputs.free:.2g}; it is "
        f"{outputs.loss:.4g} now.",
        f"Take {_ends(outputs)} off the end of the model, or {_OR_ELSE.get(outputs.criterion, _RESCALE)}.",
    )


def _broadcast(outputs: Outputs) -> Finding | None:
    if outputs.share < MOSTLY:
        return None
    given, target = (str(list(shape)) for shape in outputs.shapes)
    return Finding(
        Cause.MISMATCHED_LOSS,
        MOST,
        _floors(outputs),
        f"Outputs of shape {given} meet targets of shape {target} and are broadcast: every output is compared "
        f"with every target, so that the best one can do is the same output for all. The loss cannot go "
        f"below {outputs.built:.4g}, where equal shapes allow {outputs.free:.2g}; it is {outputs.loss:.4g} now.",
        "Give both the same shape: output.squeeze(-1), or target.unsqueeze(-1).",
    )


def _scrambled(outputs: Outputs) -> Finding:
    return Finding(
        Cause.MISMATCHED_LOSS,
        MOST,
        (Evidence("present_loss", outputs.loss),),
        f"What `{outputs.criterion}` takes for the scores of one place's classes are numbers of different places: a "
        "view or reshape keeps the numbers in the order in which they lie in memory, and that is not classes last. "
        "Each score is compared with the target of another place.",
        "Permute before the view: logits.permute(0, 2, 3, 1).reshape(-1, classes) of images, "
        "logits.transpose(1, 2) of sequences; or give the criterion (batch, classes, ...) as the layer puts it out.",
    )


def _cosines(outputs: Outputs) -> Finding:
    return Finding(
        Cause.MISMATCHED_LOSS,
        min(0.5 + 0.5 * outputs.share, MOST),
        _floors(outputs),
        f"`{outputs.criterion}` is given products of rows of fixed lengths, as cosines are, which cannot be large. "
        f"No weights bring the loss below {outputs.built:.4g}, where free scores reach {outputs.free:.2g}; on the "
        f"same batches it is {outputs.loss:.4g} now.",
        "Multiply the scores before the loss: divide cosines by a temperature of about 0.05 to 0.1, or learn their "
        "scale (logit_scale.exp() * cosines, with logit_scale a parameter that begins at log(10) or so).",
    )


def _not_logarithms(outputs: Outputs) -> Finding:
    probabilities = outputs.misfit == "probabilities"
    what = "probabilities" if probabilities else "numbers whose exponentials do not sum to one"
    then = (
        "It is then minus the probability of the target, which stops at -1 and has next to no slope where "
        "the model is wrong"
        if probabilities
        else "The loss is then no likelihood: it can fall without the predictions getting any better"
    )
    return Finding(
        Cause.MISMATCHED_LOSS,
        MOST,
        (Evidence("present_loss", outputs.loss), *([Evidence("floor", -1.0)] if probabilities else [])),
        f"`{outputs.criterion}` expects log-probabilities, and is given {what}. {then}.",
        "End the model in log_softmax over the classes (dim=1), or give raw outputs to cross_entropy.",
    )


def _constant(outputs: Outputs) -> Finding:
    return Finding(
        Cause.MISMATCHED_LOSS,
        MOST,
        (Evidence("present_loss", outputs.loss),),
        f"Whatever the last layer puts out, {_ends(outputs)} makes the same numbers of it, as a softmax over a "
        "single number does, which is always 1. So the loss does not depend on the model: no gradient comes back.",
        "Of one output per example take the sigmoid (or give it raw to BCEWithLogitsLoss); of several, apply "
        f"{_ends(outputs)} along the dimension of the classes, or leave it to cross_entropy.",
    )


def _unbounded(outputs: Outputs) -> Finding:
    return Finding(
        Cause.MISMATCHED_LOSS,
        MOST,
        (Evidence("present_loss", outputs.loss),),
        f"`{outputs.criterion}` takes targets between 0 and 1, and is given others. The loss then has no lower "
        "bound: it falls for ever as outputs grow, without the predictions getting any better.",
        "Bring the targets between 0 and 1: divide masks of 0 and 255 by 255, turn labels of -1 and 1 into 0 and 1.",
    )


def _indifferent(outputs: Outputs) -> Finding:
    floors = (("floor", outputs.floor), ("constant_loss", outputs.blind), ("present_loss", outputs.loss))
    return Finding(
        Cause.MISMATCHED_LOSS,
        INDIFFERENT,
        tuple(Evidence(name, value) for name, value in floors if value is not None),
        f"One output for all examples reaches the lowest loss that any outputs reach, {outputs.floor:.4g}; on the "
        f"same batches it is {outputs.loss:.4g} now. So it asks nothing of the model that depends on its inputs.",
        "See what the loss makes of the targets: a hinge takes labels of -1 and 1 (2 * y - 1 makes them of 0 and 1), "
        "and weights, masks and ignore_index may leave one class alone.",
    )


_OF_KINDS: dict[str, Callable[[Outputs], Finding | None]] = {
    "broadcast": _broadcast,
    "scrambled": _scrambled,
    "constant": _constant,
    "unbounded": _unbounded,
    "indifferent": _indifferent,
}


def misrouted(_point: Point, measured: Measurements) -> Finding | None:
    """When examples trade places, other outputs change than those that are compared with their targets."""
    mixing = measured.mixing
    if mixing is None or not misses(mixing):
        return None
    return Finding(
        Cause.MISMATCHED_LOSS,
        ROUTED,
        (estimated("own_first", mixing.first), estimated("own_share", mixing.own)),
        f"Outputs are compared with the targets of other examples: when two of the {mixing.examples} examples of a "
        f"batch trade places, {100.0 * mixing.own.value:.2g} % of what changes is in the outputs that are compared "
        "with their targets, the rest in those of others. What an example shows does not arrive where its target is.",
        "Look for a view or reshape in the place of a permute or transpose, for a recurrent layer or attention that "
        "takes the first dimension for time (batch_first=True), and for targets that are flattened in another order "
        "than the outputs.",
    )


def misses(mixing: Mixing) -> bool:
    """Whether what examples show arrives elsewhere than where their targets are."""
    return mixing.first.surely_below(MISSED)


def uninformative_labels(point: Point, measured: Measurements) -> Finding | None:
    """Nothing predicts the labels, in tests that would have noticed even a weak dependence."""
    found = uninformative(measured.labels) if measured.labels else None
    if (
        found is None
        or found.confidence > RULES
        or not any(check(point, measured) for check in (*left_out.CHECKS, *updates.CHECKS))
    ):
        return found
    return replace(found, confidence=min(found.confidence, UNLEARNT))


def uninformative(labels: Labels) -> Finding | None:
    """Judge the tests of independence."""
    if ALIKE in labels.tests:
        return _alike(labels)
    asked = set(labels.tests) & {"trained copy", "validation"}
    if not asked or labels.p_value < INDEPENDENT or not labels.detectable < WEAK:
        return None
    if labels.directions > labels.examples:
        # A linear function fits any labels then, and tells nothing of examples that were left out.
        return None
    if not labels.dependence.surely_below(WEAK) or not labels.dependence.surely_above(-WEAK):
        return None
    sure = SEEN if "validation" in asked else MEMORISED if labels.memorised else CHANCE
    sure = min(sure, RULES) if labels.discrete else sure
    constant = () if labels.constant is None else (Evidence("constant_loss", labels.constant),)
    what, paired = "Nothing in the inputs predicts the label", "inputs and labels"
    if labels.pairs:
        what = "Of the two sides of a pair that the loss compares, neither tells anything of the other"
        paired = "the two sides"
    return Finding(
        Cause.UNINFORMATIVE_LABELS,
        sure,
        (
            estimated("dependence", labels.dependence),
            Evidence("p_value", labels.p_value),
            Evidence("detectable", labels.detectable),
            Evidence("present_loss", labels.loss),
            *constant,
        ),
        f"{what}: on examples that were left out, predictions correlate with it by {labels.dependence.value:.2g}, no "
        f"better than where it is permuted (p = {labels.p_value:.2g}; {labels.detectable:.2g} would have been "
        f"noticed). {_learnt(labels)}",
        f"Check how {paired} are paired: shuffled or sorted apart from each other, joined by the wrong key, or "
        "overwritten; look at a few examples by eye.",
    )


def _alike(labels: Labels) -> Finding:
    return Finding(
        Cause.UNINFORMATIVE_LABELS,
        MOST,
        (Evidence("present_loss", labels.loss),),
        f"All {labels.examples:,} inputs that were looked at are the same, and their labels are not: nothing tells "
        "the examples apart, and there is nothing to learn but the labels' average.",
        "Look at a few inputs as the model gets them: they were cast to integers, masked, scaled away, or "
        "overwritten.",
    )


def _learnt(labels: Labels) -> str:
    if labels.memorised:
        return "What the loss has fallen by is learnt by heart, and helps with no new example."
    if labels.pairs:
        return "So there is nothing to learn but each pair by heart."
    return "So there is nothing to learn but the labels' average, or each label by heart."


CHECKS = (mismatched_loss, misrouted, uninformative_labels)
