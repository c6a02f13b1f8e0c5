"""The vocabulary that people read: one name and one meaning for each cause, kind and route."""

from dataclasses import dataclass
from typing import Literal

from unstuck.findings.records import Cause, Kind
from unstuck.measurements.records import Arm

Tone = Literal["good", "settled", "act", "unsure"]


@dataclass(frozen=True)
class Word:
    """How one thing is spoken of.

    Attributes:
        name: Two or three words, as in a heading.
        meaning: One sentence without a formula.
        todo: What is usually done about it; a finding's own advice goes before it.
        tone: How it is coloured.
    """

    name: str
    meaning: str
    todo: str
    tone: Tone


UNSURE = Word(
    "Not sure",
    "What was measured does not settle why the loss has stopped.",
    "Give it more: a larger budget, a larger sample of the data, or both.",
    "unsure",
)

DO_WHAT_IS_PROVED = (
    "Do what was proved. To learn the cause as well, give it a larger budget or a larger sample."
)

LESS_DECAY = "Let the weights decay less."

CAUSES: dict[Cause, Word] = {
    Cause.HEALTHY: Word(
        "Healthy",
        "The loss is still falling, at a pace that leads somewhere.",
        "Go on training.",
        "good",
    ),
    Cause.SADDLE_POINT: Word(
        "Saddle point",
        "There is a way down along negative curvature, which the gradient does not take.",
        "Step along the direction of negative curvature, then go on as before.",
        "act",
    ),
    Cause.LOCAL_MINIMUM: Word(
        "Local minimum",
        "Neither the slope nor the curvature leads down from here, and there is nothing else to follow.",
        "If this loss is not good enough, change the model, the data or the start; more steps will not help.",
        "settled",
    ),
    Cause.LOCAL_MAXIMUM: Word(
        "Local maximum",
        "The gradient has vanished at the top of a hill: every way is down.",
        "Step away in any direction; check that the sign of the loss is right.",
        "act",
    ),
    Cause.PLATEAU: Word(
        "Plateau",
        "There is nothing here to descend along: neither the slope nor the curvature leads anywhere.",
        "Restart from another initialisation, or change what makes the surface flat.",
        "act",
    ),
    Cause.STEP_TOO_LARGE: Word(
        "Step too large",
        "There is a way down, but each step jumps across the valley and bounces between its walls.",
        "Lower the learning rate.",
        "act",
    ),
    Cause.STEP_TOO_SMALL: Word(
        "Step too small",
        "There is a way down, but the steps are so short that the run creeps.",
        "Raise the learning rate.",
        "act",
    ),
    Cause.ILL_CONDITIONED: Word(
        "Ill-conditioned",
        "One learning rate cannot serve both the steep directions and the flat ones.",
        "Give each parameter its own rate (Adam, RMSProp), normalise, or use a curvature-corrected step.",
        "act",
    ),
    Cause.GRADIENT_NOISE: Word(
        "Gradient noise",
        "The noise of the batches undoes what each step gains.",
        "Use larger batches, lower the learning rate, or average the weights.",
        "act",
    ),
    Cause.VANISHING_GRADIENT: Word(
        "Vanishing gradient",
        "The early layers get next to no gradient.",
        "Change the activation, the initialisation or the normalisation, or add skip connections.",
        "act",
    ),
    Cause.DEAD_UNITS: Word(
        "Dead units",
        "Units put out zero on all the data, so they cannot learn.",
        "Re-initialise them, use a leaky activation, or lower the learning rate.",
        "act",
    ),
    Cause.SATURATED_UNITS: Word(
        "Saturated units",
        "Units sit where their activation is flat, so next to no gradient passes through them.",
        "Scale inputs or weights down, or change the activation.",
        "act",
    ),
    Cause.STALE_SECOND_MOMENT: Word(
        "Stale second moment",
        "The optimizer's memory of past gradients no longer describes the present ones.",
        "Reset the optimizer's state, or use warm-up and a shorter memory.",
        "act",
    ),
    Cause.PRECISION_STALL: Word(
        "Precision stall",
        "The updates are smaller than the rounding of the weights, so they are lost.",
        "Keep a float32 copy of the weights, or use stochastic rounding.",
        "act",
    ),
    Cause.NON_FINITE: Word(
        "Not a finite number",
        "NaN or infinity has got into the data, the loss, the gradient or the parameters.",
        "Go back to the last finite checkpoint and mend the place that is named below.",
        "act",
    ),
    Cause.FROZEN_PARAMETERS: Word(
        "Frozen parameters",
        "Something that should be trained is frozen, detached, or unknown to the optimizer.",
        "Unfreeze it and hand it to the optimizer.",
        "act",
    ),
    Cause.MISMATCHED_LOSS: Word(
        "Mismatched loss",
        "The loss does not fit what it is given: by construction it cannot go lower, or lower is no better.",
        "Hand the loss what it expects (for cross-entropy: logits, not probabilities).",
        "act",
    ),
    Cause.UNINFORMATIVE_LABELS: Word(
        "Uninformative labels",
        "The inputs tell nothing of what they are paired with.",
        "Check how inputs and labels are paired.",
        "act",
    ),
    Cause.UNSHUFFLED_DATA: Word(
        "Unshuffled data",
        "The order of the data carries structure, so the batches pull in different directions.",
        "Shuffle the data anew each epoch.",
        "act",
    ),
    Cause.GENERALIZATION_GAP: Word(
        "Generalization gap",
        "The training loss improves and the validation loss does not.",
        "Regularise, get more data, or look for a flatter minimum.",
        "act",
    ),
}

KINDS: dict[Kind, tuple[str, str]] = {
    Kind.SADDLE: (
        "a saddle point",
        "the gradient leads no further, but there is a way down along negative curvature",
    ),
    Kind.MINIMUM: ("a local minimum", "the gradient has vanished and the loss rises in every direction"),
    Kind.DEGENERATE_MINIMUM: (
        "a degenerate minimum",
        "the gradient has vanished, no direction leads down, and some are flat",
    ),
    Kind.MAXIMUM: ("a local maximum", "the gradient has vanished and the loss falls in every direction"),
    Kind.PLATEAU: ("a plateau", "neither gradient nor curvature leads anywhere"),
    Kind.GRADIENT_FLAT: (
        "a gradient-flat place",
        "the gradient has not vanished, but no curvature acts along it and it leads nowhere",
    ),
    Kind.NOT_CRITICAL: ("not a critical point", "the gradient still leads down"),
    Kind.UNDECIDED: ("undecided", "what was measured does not settle what kind of point this is"),
}

ROUTES: dict[str, str] = {
    "now": "the optimizer's next step",
    "full": "the same on the whole gradient",
    "ahead": "the optimizer's next steps",
    "gradient": "along the gradient",
    "krylov": "curvature-corrected (Krylov)",
    "curvature": "along negative curvature",
    "escape": "escape, then descend",
    "shake": "a small random move, then descend",
    "control": "descend without either",
}

ARMS: dict[str, str] = {
    "going on": "going on as before",
    "whole": "each step on the gradient of all the sample",
}

EXCLUDED: dict[str, str] = {
    "frozen": "frozen",
    "unlisted": "not in the optimizer",
    "unregistered": "not registered as parameters",
    "rate": "at a rate of 0",
    "unreached": "cut off from the loss",
    "stepped": "behind a step function",
    "severed": "cut off from the loss for good",
    "unmoved": "not moved by the optimizer",
    "unused": "not used by the loss",
}

MEASUREMENTS: dict[str, str] = {
    "division": "how the processes share the work",
    "non_finite": "looking for NaN and Inf",
    "noise": "the gradient and its noise",
    "products": "preparing for Hessian-vector products",
    "gradient": "along the gradient",
    "krylov": "curvature-corrected steps",
    "steps": "the optimizer's own steps",
    "continuations": "going on",
    "second_moment": "the optimizer's second moment",
    "momentum": "the optimizer's momentum",
    "forgetting": "what weight decay undoes",
    "stability": "how steep a curvature the steps bear",
    "wiring": "which parameters are trained",
    "precision": "what rounding leaves",
    "outputs": "whether outputs fit the loss",
    "mixing": "whether outputs follow their examples",
    "sight": "which inputs the outputs depend on",
    "layers": "activations and gradients by layer",
    "labels": "whether inputs predict the labels",
    "order": "the order of the data",
    "validation": "the loss on validation data",
    "past": "the recorded history",
    "spectrum": "eigenvalues",
    "curvature": "along negative curvature",
    "shake": "a small random move",
    "slices": "the loss along the eigenvectors",
    "other": "all the rest",
}

ENGINES: dict[str, str] = {
    "retained": "retained graph",
    "fresh": "fresh graph each time",
    "differences": "central differences",
    "checkpointed": "blocks computed again",
}


def cause_word(cause: Cause | None) -> Word:
    """How a cause is spoken of; None is "not sure"."""
    return UNSURE if cause is None else CAUSES[cause]


def kind_sentence(kind: Kind) -> str:
    """What kind of point it is and what that means, as one clause: "a saddle point: the gradient ..."."""
    return ": ".join(KINDS[kind])


def route_name(name: str, steps: int = 1) -> str:
    """What a route is called; one without a word of its own keeps its name."""
    said = ROUTES.get(name, name)
    return said.replace("next steps", f"next {steps} steps")


def arm_name(arm: Arm) -> str:
    """What a way of going on is called: "going on as before", "at 0.1 times the rate"."""
    if arm.name == "rate":
        return f"at {arm.factor:g} times the rate"
    return ARMS.get(arm.name, arm.name)


def measurement_name(name: str) -> str:
    """What a measurement is called."""
    return MEASUREMENTS.get(name, name.replace("_", " "))


def engine_name(name: str) -> str:
    """How Hessian-vector products were made; a mixture is joined by "+" and read part by part."""
    return ", ".join(ENGINES.get(part.strip(), part.strip()) for part in name.split("+"))
