"""Every remedy there is, and which of them are worth trying on a given run."""

from collections.abc import Sequence

from unstuck.findings.left_out import unlisted_sign
from unstuck.findings.records import Cause
from unstuck.remedies import (
    activations,
    averaging,
    batches,
    inputs,
    outputs,
    points,
    precision,
    regularising,
    rules,
    steps,
    units,
    wiring,
)
from unstuck.remedies.treatment import Propose, Situation, Treatment

PROPOSED: tuple[Propose, ...] = (
    batches.skip,
    outputs.fit_outputs,
    wiring.unfreeze,
    wiring.reconnect,
    regularising.less_decay,
    precision.master_weights,
    rules.refresh,
    units.revive,
    units.desaturate,
    batches.shuffle,
    points.leave_saddle,
    points.break_symmetry,
    points.offset_outputs,
    steps.smaller_step,
    steps.larger_step,
    rules.quasi_newton,
    rules.per_parameter_scale,
    rules.momentum,
    inputs.scale_inputs,
    batches.larger_batch,
    averaging.average,
    steps.decay,
    steps.warm_up,
    batches.clip,
    batches.smaller_batch,
    units.begin_anew,
    regularising.weight_decay,
    regularising.stop,
    activations.rectify,
)

NAMES = (
    "average", "begin-anew", "break-symmetry", "clip", "decay", "desaturate", "escape", "fit-outputs",
    "larger-batch", "larger-step", "less-decay", "master-weights", "momentum", "offset-outputs",
    "per-parameter-scale", "quasi-newton", "reconnect", "rectify", "refresh", "revive", "scale-inputs", "shuffle",
    "skip", "smaller-batch", "smaller-step", "stop", "unfreeze", "warm-up", "weight-decay",
)  # fmt: skip

# What is tried whatever was found: a diagnosis may be wrong, and these are what people would try by hand.
ALWAYS = frozenset({"smaller-step", "larger-step", "per-parameter-scale", "refresh", "less-decay"})

# Of these, what changes the steps and leaves all else as it is, so that another remedy can go with it.
STEPS = frozenset({"smaller-step", "larger-step", "per-parameter-scale"})

# More would each get too little of the time.
MOST = 10


def proposed(known: Situation) -> list[Treatment]:
    """Every remedy that has a place on this run, in all its variants."""
    return [treatment for propose in PROPOSED for treatment in propose(known)]


def choose(known: Situation) -> list[Treatment]:
    """Propose what treats the causes found, the first cause's first, and then what is tried always."""
    every = proposed(known)
    wanted: list[Treatment] = []
    causes = [finding.cause for finding in known.findings]
    if causes[:1] == [Cause.HEALTHY]:  # what would get it there sooner is what helps in a valley
        causes[0] = Cause.ILL_CONDITIONED
    for cause in causes:
        wanted += _by_turns([treatment for treatment in every if cause in treatment.treats])
    always = {*ALWAYS, "unfreeze"} if unlisted_sign(known.measured) else ALWAYS
    wanted += [treatment for treatment in every if treatment.name in always]
    return _distinct(wanted)[:MOST]


def _by_turns(treatments: Sequence[Treatment]) -> list[Treatment]:
    """One of each name first, then the second variants: there may not be the time for all."""
    names = [treatment.name for treatment in treatments]
    turns = [names[:place].count(name) for place, name in enumerate(names)]
    return [
        treatment for _, treatment in sorted(zip(turns, treatments, strict=True), key=lambda pair: pair[0])
    ]


def _distinct(treatments: Sequence[Treatment]) -> list[Treatment]:
    return list({(each.name, each.change): each for each in treatments}.values())
