"""The run followed further, on several orders of its batches: does that bear out what one continuation spoke for?"""

from collections.abc import Sequence, Set
from dataclasses import replace

from unstuck.estimate import Estimate, weighted_mean
from unstuck.findings.health import UNTRIED
from unstuck.findings.phrases import of_what, percent
from unstuck.findings.progress import HEALTHY_PACE, HEALTHY_PASS, MUCH, NEGLIGIBLE, SIGMAS, ahead
from unstuck.findings.records import Cause, Evidence, Finding, Verdict
from unstuck.findings.verdict import first_named
from unstuck.measurements.records.trials import Curve, Trial, Trials

# What was not measured by itself, but shown by trials, is no surer than this.
BY_TRIAL = 0.8

# What says that the run, as it is, does not get the loss down.
_LEADS_NOWHERE = frozenset({Cause.STEP_TOO_LARGE, Cause.GRADIENT_NOISE, Cause.ILL_CONDITIONED})

# Orders that a run is followed on, and looks on each, of which fewer say nothing about where it goes.
FEW, LOOKS = 4, 5


def worth_changing(trial: Trial) -> bool:
    """Whether a run in good health is told of a remedy: it is left alone for less than half of its loss."""
    return trial.low is not None and trial.low > MUCH


def kept_healthy(verdict: Verdict, trials: Trials) -> Verdict:
    """Hold a run that is called healthy to it: not at all, or less surely, where it does not fall on all orders."""
    if verdict.cause is not Cause.HEALTHY or not (curves := _courses(trials)):
        return verdict
    gain, measured = _fallen(curves), verdict.measured
    passes = trials.horizon / measured.sample.batches
    # Of a part of the data a pass is not known.
    least = min(HEALTHY_PACE * trials.horizon, HEALTHY_PASS * passes) if trials.whole else 0.0
    if gain.surely_below(least * measured.scale):
        return _without(verdict, {Cause.HEALTHY})
    better = next((trial for trial in trials.tried if worth_changing(trial)), None)
    if better is None and gain.surely_above(0.0, sigmas=SIGMAS):
        return verdict
    first = verdict.findings[0]
    further = (
        f"But followed on {len(curves)} orders of its batches it does not surely fall."
        if better is None
        else "But what was proved sheds more than half of what that leaves."
    )
    doubted = replace(
        first,
        confidence=min(first.confidence, UNTRIED),
        explanation=f"The run is not stuck: {ahead(measured)} {further}",
        advice=f"Go on, or get there far sooner: {better.change}." if better else first.advice,
    )
    return replace(verdict, confidence=doubted.confidence, findings=(doubted, *verdict.findings[1:]))


def found_to_fall(verdict: Verdict, trials: Trials) -> Verdict:
    """Take back that the steps lead nowhere where the run falls on all orders, and nothing that was tried gains more.

    A single continuation may have met a bounce, or be too short for what momentum swings about to die away.
    """
    if verdict.cause not in _LEADS_NOWHERE or not (curves := _courses(trials)):
        return verdict
    gain, measured = _fallen(curves), verdict.measured
    # Coming down from a peak alone is no progress: what the middle was at must be left behind, too.
    later = _over_orders([curve.losses[len(curve.losses) // 2] - curve.end for curve in curves])
    falls = gain.surely_above(NEGLIGIBLE * measured.scale)
    falls = falls and later.surely_above(0.5 * trials.horizon * HEALTHY_PACE * measured.scale, sigmas=SIGMAS)
    if not falls or any(_worth_having(trial, trials.least) for trial in trials.tried):
        return verdict
    found = Finding(
        Cause.HEALTHY,
        BY_TRIAL,
        (Evidence("gain_per_step", gain.value / measured.scale / trials.horizon),),
        f"The run is not stuck: followed for {trials.horizon:.0f} gradients on each of {len(curves)} orders of the "
        f"batches it gained {percent(gain, measured)} of {of_what(measured)}, and nothing that was tried surely "
        "gains more.",
        "Go on.",
    )
    verdict = _without(verdict, _LEADS_NOWHERE)
    return replace(
        verdict, cause=found.cause, confidence=found.confidence, findings=(found, *verdict.findings)
    )


def _courses(trials: Trials) -> list[Curve]:
    """The run on each order, if those are enough to say where it goes."""
    curves = [curve for curve in trials.going_on if len(curve.losses) >= LOOKS]
    return [] if trials.by_validation or len(curves) < FEW else curves


def _fallen(curves: Sequence[Curve]) -> Estimate:
    return _over_orders([curve.losses[0] - curve.end for curve in curves])


def _over_orders(values: Sequence[float]) -> Estimate:
    return weighted_mean(values, [1.0] * len(values))


def _worth_having(trial: Trial, least: float) -> bool:
    return trial.helps and trial.gain is not None and trial.gain.value >= least


def _without(verdict: Verdict, refuted: Set[Cause]) -> Verdict:
    findings = tuple(finding for finding in verdict.findings if finding.cause not in refuted)
    cause, confidence = first_named(findings)
    note = (
        f"A first continuation spoke for {verdict.cause}; followed further in the trials, the run does not bear "
        "it out."
    )
    return replace(
        verdict, cause=cause, confidence=confidence, findings=findings, notes=(*verdict.notes, note)
    )
