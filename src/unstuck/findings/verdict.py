"""All findings together: which cause is the one, and what a reader must know to trust it."""

import math
from collections.abc import Sequence
from dataclasses import replace

from unstuck.findings import (
    critical,
    data,
    generalization,
    health,
    layers,
    left_out,
    order,
    steps,
    updates,
)
from unstuck.findings.finite import non_finite
from unstuck.findings.phrases import named, of_what, percent
from unstuck.findings.point import classify
from unstuck.findings.progress import undoes
from unstuck.findings.records import Cause, Finding, Point, Verdict
from unstuck.findings.suspected import suspected
from unstuck.measurements.records import Cost, Measurements, Subject

CHECKS = (
    *left_out.CHECKS,
    *updates.CHECKS,
    *data.CHECKS,
    *layers.CHECKS,
    *order.CHECKS,
    *generalization.CHECKS,
    *critical.CHECKS,
    *steps.CHECKS,
    *health.CHECKS,
)

# Below this no cause is named: the evidence does not favour it over all others together.
NAMED = 0.5

# Percentages are told of what they are of where that is so many times the loss.
CLEARLY_MORE = 1.5

# A cause further up brings about those further down, and its removal removes them too: a loss that does not fit
# the outputs looks like a minimum, dead units like a plateau, updates lost to rounding like steps that are too
# small. Where validation lies far above training, other steps would only lower the latter. Those of one row are told
# apart by confidence.
EXPLAINS: tuple[frozenset[Cause], ...] = (
    frozenset({Cause.NON_FINITE}),
    frozenset({Cause.MISMATCHED_LOSS}),
    frozenset({Cause.FROZEN_PARAMETERS, Cause.UNINFORMATIVE_LABELS}),
    frozenset({Cause.DEAD_UNITS, Cause.SATURATED_UNITS}),
    frozenset({Cause.VANISHING_GRADIENT}),
    frozenset({Cause.GENERALIZATION_GAP}),
    frozenset({Cause.STALE_SECOND_MOMENT, Cause.PRECISION_STALL}),
    frozenset({Cause.UNSHUFFLED_DATA}),
    frozenset({Cause.SADDLE_POINT, Cause.LOCAL_MAXIMUM, Cause.LOCAL_MINIMUM, Cause.PLATEAU})
    | {
        Cause.STEP_TOO_LARGE,
        Cause.STEP_TOO_SMALL,
        Cause.ILL_CONDITIONED,
        Cause.GRADIENT_NOISE,
        Cause.HEALTHY,
    },
)

# Whether layers hold a run up is asked of other steps, too: if those alone get it moving, it is not the layers.
_TOLD_BY_STEPS = {Cause.DEAD_UNITS, Cause.SATURATED_UNITS, Cause.VANISHING_GRADIENT}

# What tells of such parameters itself.
_TELL_OF_UNITS = {*_TOLD_BY_STEPS, Cause.FROZEN_PARAMETERS}

# What units die of or are driven into saturation by, and will be again.
_HARMED, _HARMS = {Cause.DEAD_UNITS, Cause.SATURATED_UNITS}, {Cause.UNSHUFFLED_DATA, Cause.STEP_TOO_LARGE}

# How sure a cause of the steps is where units are copies of each other and no curvature was asked for yet.
CONFINED = 0.6

# Outputs that change for a tenth with what other rows of the batch hold are worth a note.
FOLLOWING = 0.9

# Some inputs are left out by the way, as by strides, or have no say on one batch, as under a maximum; most examples
# have one.
UNSEEN, UNHEEDED = 0.2, 0.5

# The past is worth a note when the loss has stood still for a fifth of the record, the rate has fallen a hundredfold,
# the gradient was once thirty times as long, or the validation loss has risen by a twentieth.
STILL, RATE_SPENT, PEAK, RISE = 0.2, 0.01, 30.0, 0.05


def settled(verdict: Verdict) -> bool:
    """Whether the curvature could not change the verdict: the cause explains whatever kind of point it finds."""
    return any(verdict.cause in causes for causes in EXPLAINS[:-1])


def explained(verdict: Verdict) -> bool:
    """Whether steps of another size could not change the verdict either: its cause is not told by what they gain."""
    chosen = verdict.cause is Cause.FROZEN_PARAMETERS and left_out.by_choice(verdict.measured)
    return settled(verdict) and not chosen and verdict.cause not in _TOLD_BY_STEPS


def conclude(measured: Measurements, cost: Cost) -> Verdict:
    """Judge what was measured."""
    point = classify(measured)
    if measured.non_finite:
        return _verdict(measured, cost, point, (non_finite(measured.non_finite),))
    found = [_finite(finding) for check in CHECKS if (finding := check(point, measured))]
    if measured.alike and measured.spectrum is None:
        found = [_unless_confined(finding) for finding in found]
    if not found and not measured.complete and (one := suspected(measured)):
        found = [one]
    findings = tuple(_surest(sorted(found, key=rank)))
    return _verdict(measured, cost, point, findings)


def _verdict(measured: Measurements, cost: Cost, point: Point, findings: tuple[Finding, ...]) -> Verdict:
    cause, confidence = first_named(findings)
    return Verdict(
        cause=cause,
        confidence=confidence,
        point=point,
        findings=findings,
        remedies=(),
        measured=measured,
        cost=cost,
        notes=(
            *_notes(measured, cost),
            *_of_others(findings),
            *_of_left_out(measured, findings),
            *_of_untold(measured, findings),
            *_of_order(measured, findings),
        ),
    )


def _of_left_out(measured: Measurements, findings: Sequence[Finding]) -> list[str]:
    """What was frozen may be so by choice, as long as the run gets on; who did not choose would not come to know."""
    told = any(finding.cause is Cause.FROZEN_PARAMETERS for finding in findings)
    note = None if told else left_out.left_out(measured)
    return [] if note is None else [note]


def _of_untold(measured: Measurements, findings: Sequence[Finding]) -> list[str]:
    """Parameters that no example tells anything, as experts that are never chosen, beside others that hear."""
    parameters = measured.layers.parameters if measured.layers else ()
    untold = [each.name for each in parameters if each.gradient == 0.0]
    known = any(finding.cause in _TELL_OF_UNITS and finding.confidence >= NAMED for finding in findings)
    # What waits for a factor of zero, as an adapter's first one does, hears as soon as that has moved.
    opening = any(each.weight == 0.0 < each.gradient for each in parameters)
    if known or opening or not 0 < len(untold) < len(parameters):
        return []
    note = (
        f"No example of those looked at gives any gradient to {named(untold)}, out of {len(parameters)} tensors. "
        "Experts that no router chooses, branches behind closed gates and layers of dead units are so: if they "
        "are meant to learn, begin them anew, with what chooses among them."
    )
    return [note]


def _of_order(measured: Measurements, findings: Sequence[Finding]) -> list[str]:
    """Batches of one class each are meant by nobody, whether or not shuffling them is seen to help at once."""
    told = any(finding.cause is Cause.UNSHUFFLED_DATA for finding in findings)
    note = None if told or measured.order is None else order.of_one_class(measured.order)
    return [] if note is None else [note]


def first_named(findings: Sequence[Finding]) -> tuple[Cause | None, float]:
    """The cause of the first finding and how sure it is; none where that is too unsure to be named."""
    if not findings or findings[0].confidence < NAMED:
        return None, 0.0
    return findings[0].cause, findings[0].confidence


def _finite(finding: Finding) -> Finding:
    """Leave out evidence that overflowed, as a gain does that is compared with no loss at all."""
    evidence = tuple(item for item in finding.evidence if math.isfinite(item.value))
    return replace(finding, evidence=evidence)


def _unless_confined(finding: Finding) -> Finding:
    """Where units are copies of each other, steps may be right and lead nowhere: only curvature could tell."""
    steps = finding.cause in EXPLAINS[-1] and finding.cause is not Cause.SADDLE_POINT
    return replace(finding, confidence=min(finding.confidence, CONFINED)) if steps else finding


def rank(finding: Finding) -> tuple[bool, int, float]:
    """What is too unsure to be named comes last; then what explains the others first; then the surer one."""
    row = next(number for number, causes in enumerate(EXPLAINS) if finding.cause in causes)
    return finding.confidence < NAMED, row, -finding.confidence


def _surest(ranked: list[Finding]) -> list[Finding]:
    """Of two makes of one cause the surer one is told."""
    kept: dict[Cause, Finding] = {}
    for finding in ranked:
        kept.setdefault(finding.cause, finding)
    return list(kept.values())


def _notes(measured: Measurements, cost: Cost) -> list[str]:
    notes = _of_subject(measured.subject)
    if measured.scale > CLEARLY_MORE * abs(measured.loss.value):
        notes.append(
            f"Percentages of the loss are of {measured.scale:.3g}, since it lies too near to zero to compare with."
        )
    if measured.outputs and (room := measured.outputs.room) is not None:
        floor = measured.loss.value - measured.penalty - room
        notes.append(
            f"No outputs whatever bring the loss below about {floor:.4g}, as where targets are smoothed or soft: "
            f"percentages of the loss are of the {measured.scale:.3g} above that, but those of trials of all of it."
        )
    if measured.sample.stochastic:
        notes.append("The loss is random (dropout or the like); it was replayed with fixed seeds.")
    if cost.engine == "differences":
        notes.append(
            "The loss cannot be differentiated twice; Hessian-vector products are central differences, "
            "good to the relative error that is stated as noise."
        )
    if measured.spectrum and measured.spectrum.exact:
        notes.append("The model is small: all eigenvalues were computed from the Hessian itself.")
    notes += _of_places(measured) + _of_sight(measured) + _of_decay(measured)
    notes += _remembered(measured)
    if not measured.complete:
        notes.append("Not every question was answered before the time was over: give a larger budget.")
    return notes


def _of_others(findings: tuple[Finding, ...]) -> list[str]:
    """What the first cause may itself have come from."""
    named = [finding.cause for finding in findings if finding.confidence >= NAMED]
    harms = [cause for cause in named if cause in _HARMS]
    if not harms or named[0] not in _HARMED:
        return []
    found = ", ".join(harms)
    return [
        f"The units may owe their state to what was also found ({found}): mend that first, or new ones follow."
    ]


def _of_subject(subject: Subject) -> list[str]:
    notes: list[str] = []
    if subject.mode == "eval":
        notes.append("The model was handed in in eval mode and measured so; call model.train() if it trains.")
    if subject.hooked:
        notes.append(
            f"{subject.hooked} parameter tensors have gradient hooks (register_hook), which are not called here: "
            "where they change gradients, the run's own steps are others. To clip, there is Training(clip=...)."
        )
    if subject.decay:
        notes.append("Weight decay counts as part of the loss, but not of what going on and remedies gain.")
    return notes


def _of_places(measured: Measurements) -> list[str]:
    """Rows of a batch may be meant to see each other; who does not mean it would not come to know."""
    mixing = measured.mixing
    if mixing is None or not mixing.own.surely_below(FOLLOWING) or data.misses(mixing):
        return []
    others = 100.0 * (1.0 - mixing.own.value)
    note = (
        f"When two rows of a batch trade places, {others:.2g} % of what changes in the outputs is in those of other "
        "rows. So it should be if rows are steps of one sequence or nodes of one graph; if they are examples by "
        "themselves, look for a view in the place of a permute, or a missing batch_first=True."
    )
    return [note]


def _of_sight(measured: Measurements) -> list[str]:
    """What outputs do not depend on cannot be learnt from, and who cut it off by mistake would not come to know."""
    found = measured.sight
    if found is None:
        return []
    notes: list[str] = []
    if found.unseen > UNSEEN * found.numbers:
        notes.append(
            f"No output depends on {found.unseen:,} of the {found.numbers:,} numbers of an input that differ among "
            "examples. If they are meant to be seen, look for a slice, an index or a mask that cuts them off."
        )
    if found.unheeded > UNHEEDED * found.examples:
        notes.append(
            f"No output depends on {found.unheeded:,} of the {found.examples:,} examples of a batch. "
            f"{_unheeded_for(measured)}"
        )
    return notes


def _unheeded_for(measured: Measurements) -> str:
    """Why examples do not arrive: units that are silent on them, or else what only the code can tell."""
    within = [each for each in measured.layers.activations if not each.output] if measured.layers else []
    worst = max(within, key=lambda each: each.silent, default=None)
    if worst is not None and worst.silent > UNHEEDED:
        return (
            f"All {worst.units:,} {worst.op} units after `{worst.name}` are flat on {100 * worst.silent:.3g} % of "
            "the examples, and let nothing of them through."
        )
    return (
        "Look for an index that takes one example where it is meant to take one step of each, and for an inverted "
        "mask."
    )


def _of_decay(measured: Measurements) -> list[str]:
    """Decay is no cause by a word of its own, and yet may be what holds a run back."""
    found = measured.forgetting
    if found is None or not undoes(measured):
        return []
    note = (
        f"Weight decay takes {100.0 * found.share:.2g} % of each weight at each step: without it the next "
        f"{found.steps} steps would gain {percent(found.fresh_gain, measured)} of {of_what(measured)}, where they "
        f"gain {percent(found.present_gain, measured)}. Let the weights decay less."
    )
    return [note]


def _remembered(measured: Measurements) -> list[str]:
    """What the recorded history adds."""
    past = measured.past
    if past is None:
        return []
    notes: list[str] = []
    if past.not_finite is not None:
        notes.append(
            f"On record the loss or its gradient were NaN or Inf first at step {past.not_finite:.0f}."
        )
    if past.improved is None:
        notes.append(f"On record the loss has not fallen from step {past.first:.0f} to {past.last:.0f}.")
    elif past.last - past.improved > STILL * (past.last - past.first):
        notes.append(f"On record the loss has not fallen since step {past.improved:.0f} of {past.last:.0f}.")
    if past.rate_share is not None and past.rate_share < RATE_SPENT:
        notes.append(f"On record the learning rate has come down to {past.rate_share:.1g} of its largest.")
    if past.gradient_peak is not None and past.gradient_peak > PEAK:
        notes.append(
            f"On record the gradient was once {past.gradient_peak:.0f} times as long as it is of late."
        )
    if past.validation_rise is not None and past.validation_best is not None and past.validation_rise > RISE:
        notes.append(
            f"On record the validation loss was lowest at step {past.validation_best:.0f} and is "
            f"{100 * past.validation_rise:.0f} % above that now."
        )
    return notes
