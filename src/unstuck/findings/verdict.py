"""All findings together: which cause is the one, and what a reader must know to trust it."""

import math
from dataclasses import replace

from unstuck.findings import critical, steps, updates
from unstuck.findings.point import classify
from unstuck.findings.records import Finding, Verdict
from unstuck.measurements.records import Cost, Measurements

CHECKS = (*updates.CHECKS, *critical.CHECKS, *steps.CHECKS)

# Below this no cause is named: the evidence does not favour it over all others together.
NAMED = 0.5


def conclude(measured: Measurements, cost: Cost) -> Verdict:
    """Judge what was measured."""
    point = classify(measured)
    found = [_finite(finding) for check in CHECKS if (finding := check(point, measured))]
    findings = tuple(sorted(found, key=_confidence, reverse=True))
    first = findings[0] if findings and findings[0].confidence >= NAMED else None
    return Verdict(
        cause=first.cause if first else None,
        confidence=first.confidence if first else 0.0,
        point=point,
        findings=findings,
        remedies=(),
        measured=measured,
        cost=cost,
        notes=tuple(_notes(measured, cost)),
    )


def _finite(finding: Finding) -> Finding:
    """Leave out evidence that overflowed, as a gain does that is compared with no loss at all."""
    evidence = tuple(item for item in finding.evidence if math.isfinite(item.value))
    return replace(finding, evidence=evidence)


def _confidence(finding: Finding) -> float:
    return finding.confidence


def _notes(measured: Measurements, cost: Cost) -> list[str]:
    notes: list[str] = []
    subject, sample = measured.subject, measured.sample
    if subject.mode == "eval":
        notes.append("The model was handed in in eval mode and measured so; call model.train() if it trains.")
    if subject.decay:
        notes.append("The optimizer's weight decay counts as part of the loss.")
    if sample.stochastic:
        notes.append("The loss is random (dropout or the like); it was replayed with fixed seeds.")
    if cost.engine == "differences":
        notes.append(
            "The loss cannot be differentiated twice; Hessian-vector products are central differences, "
            "good to the relative error that is stated as noise."
        )
    if measured.spectrum and measured.spectrum.exact:
        notes.append("The model is small: all eigenvalues were computed from the Hessian itself.")
    if not measured.complete:
        notes.append("Not every question was answered before the time was over: give a larger budget.")
    return notes
