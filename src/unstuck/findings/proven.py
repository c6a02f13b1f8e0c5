"""What the trials add to a verdict: which remedies help, and which of several causes matters most."""

import math
from collections.abc import Sequence
from dataclasses import replace

from unstuck.findings import left_out, updates
from unstuck.findings.followed import BY_TRIAL, found_to_fall, kept_healthy, worth_changing
from unstuck.findings.noise import mostly_signal
from unstuck.findings.progress import ABOUT_EQUAL, MUCH, creeps
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Remedy, Verdict
from unstuck.findings.steps import thrown_out
from unstuck.findings.verdict import EXPLAINS, NAMED, first_named, rank
from unstuck.measurements.records import Measurements
from unstuck.measurements.records.trials import Trial, Trials

# A gain within this of nothing is none for practical purposes, however sure: a loss lower by less than a hundredth is
# not what somebody stuck is looking for.
LEAST_GAIN = 0.01

# A loss that has no lower bound can fall by any multiple of itself; beyond its own size more is not better.
ALL_OF_IT = 1.0

# What changes nothing but the steps says what was wrong with them, where measurements leave that open: no surer than
# `BY_TRIAL`, since something else may have been wrong, too, and these steps have outrun it.
TOLD = {
    "larger-step": Cause.STEP_TOO_SMALL,
    "smaller-step": Cause.STEP_TOO_LARGE,
    "refresh": Cause.STALE_SECOND_MOMENT,
    "per-parameter-scale": Cause.ILL_CONDITIONED,
    "quasi-newton": Cause.ILL_CONDITIONED,
    "momentum": Cause.ILL_CONDITIONED,
}

# What one rate does, these do too: they tell only where it does not.
_CORRECT_MORE = frozenset({"per-parameter-scale", "quasi-newton", "momentum"})

# What takes the cause itself away, and nothing else. Where that surely makes no difference the cause is not what
# holds the run up, or not alone: of trainings of strangers it was so with one of eighty whose cause was named rightly
# and with one of eleven where it was not. The odds of the cause are divided by as much.
CURES = {
    "refresh": Cause.STALE_SECOND_MOMENT,
    "master-weights": Cause.PRECISION_STALL,
    "shuffle": Cause.UNSHUFFLED_DATA,
    "unfreeze": Cause.FROZEN_PARAMETERS,
    "revive": Cause.DEAD_UNITS,
    "larger-step": Cause.STEP_TOO_SMALL,
    "smaller-step": Cause.STEP_TOO_LARGE,
}
CONTRADICTED = 7.0

# What is plain to see, whatever it costs, by the name of what takes it away.
_SIGNS = (
    ("unfreeze", left_out.unlisted_sign),
    ("refresh", updates.stale_sign),
    ("master-weights", updates.rounding_sign),
)

# What a sure sign of something else may be behind: nothing that was named, or steps of the wrong size.
_OF_SIZE = frozenset({None, Cause.STEP_TOO_SMALL, Cause.STEP_TOO_LARGE})


def least_gain(measured: Measurements) -> float:
    """The smallest gain worth having, as a share of the loss: of what lies above its floor, if it has one."""
    loss = abs(measured.loss.value)
    return LEAST_GAIN * min(measured.scale / loss, 1.0) if loss > 0.0 else LEAST_GAIN


def worth_trying(verdict: Verdict) -> bool:
    """Whether any remedy is worth a trial: not where nothing is to be cured, or no change of the training could.

    That a run which creeps is in good health is less plain, and held to it by trials. Of a loss without a floor,
    lower is no better.
    """
    outputs = verdict.measured.outputs
    if verdict.cause is Cause.MISMATCHED_LOSS and outputs is not None and outputs.misfit == "unbounded":
        return False
    if verdict.cause is Cause.HEALTHY:
        return creeps(verdict.measured)
    return verdict.cause is not Cause.UNINFORMATIVE_LABELS


def with_trials(verdict: Verdict, trials: Trials) -> Verdict:
    """Add what was tried: the remedies, the best first, and the findings in the order of what their removal gains.

    Where nothing was named, the cause is what has a sure sign and whose cure surely gains several times more; or what
    a change of the steps alone cures that surely sheds half of the loss. A run in good health is left alone but for
    what would shed half of its loss as well.
    """
    verdict = kept_healthy(verdict, trials)
    if verdict.cause is Cause.HEALTHY and not any(worth_changing(trial) for trial in trials.tried):
        return replace(verdict, notes=(*verdict.notes, _left_alone(trials)))
    borne_out = _borne_out(verdict, trials)
    if found := borne_out or _told(verdict, trials.tried):
        findings = (found, *verdict.findings)
        verdict = replace(verdict, cause=found.cause, confidence=found.confidence, findings=findings)
    verdict = found_to_fall(_doubted(verdict, trials), trials)
    trials = replace(trials, tried=_ranked(trials.tried, verdict.cause, alone=borne_out is not None))
    remedies = tuple(
        remedy for trial in trials.tried if (remedy := as_remedy(trial, trials.least)) is not None
    )
    ordered = _leapt_out(_reordered(verdict.findings, remedies), remedies)
    notes = [*verdict.notes, *_notes(verdict, trials, remedies)]
    if not ordered:
        return replace(verdict, remedies=remedies, trials=trials, notes=tuple(notes))
    first = ordered[0]
    if first.cause is not verdict.findings[0].cause:
        notes.append(f"By the trials the removal of {first.cause} gains most; it is therefore named first.")
        verdict = replace(verdict, cause=first.cause, confidence=first.confidence)
    return replace(
        verdict,
        findings=ordered,
        remedies=remedies,
        trials=trials,
        notes=tuple(notes),
    )


def _leapt_out(findings: tuple[Finding, ...], remedies: Sequence[Remedy]) -> tuple[Finding, ...]:
    """Where the bottom of a valley is named and something helps all the same, it leads out of that valley: say so."""
    if not findings or findings[0].cause is not Cause.LOCAL_MINIMUM or not any(r.helps for r in remedies):
        return findings
    first = findings[0]
    advice = (
        "Do what was proved, if that is to be had: it does not lead down from here, but over what surrounds this "
        "place, to another where the loss is lower. Or change the model, the data or the starting point."
    )
    return (replace(first, advice=advice), *findings[1:])


def _borne_out(verdict: Verdict, trials: Trials) -> Finding | None:
    """What has a sure sign, where a short walk left its harm open and its cure, followed further, gains far more.

    Steps that it makes too small or too large are its doing, though steps of another size may gain as much.
    """
    measured = verdict.measured
    if verdict.cause not in _OF_SIZE:
        return None
    for name, sign in _SIGNS:
        trial, words = trials.named(name), sign(measured)
        if trial and trial.gain and words and _multiplies(trial, trials):
            return Finding(
                CURES[name],
                BY_TRIAL,
                (Evidence("trial_gain", trial.gain.value, trial.gain.stderr),),
                f"{words} The first few steps left open what that does, and the trials settle it: with "
                f"{trial.change} the run ends {100.0 * trial.gain.value:.0f} % below going on.",
                f"Do what was proved: {trial.change}.",
            )
    return None


def _multiplies(trial: Trial, trials: Trials) -> bool:
    """Whether the loss surely falls several times as far as it does by going on, and by what is worth having."""
    curves = [curve for curve in trials.going_on if curve.losses]
    if trial.low is None or trial.low <= trials.least or trials.by_validation or not curves:
        return False
    end = math.fsum(curve.end for curve in curves)
    own = math.fsum(curve.losses[0] for curve in curves) - end
    return trial.low * abs(end) > (updates.GAINS_MORE - 1.0) * max(own, 0.0)


def _left_alone(trials: Trials) -> str:
    tried = len({trial.name for trial in trials.tried})
    return (
        f"Since it falls slowly, the run was followed on {len(trials.going_on)} orders of its batches, and {tried} "
        f"remedies beside it, for {trials.seconds:.2g} s: none surely sheds half of its loss."
    )


def _told(verdict: Verdict, tried: Sequence[Trial]) -> Finding | None:
    creeps_on = verdict.cause is Cause.HEALTHY
    if not (verdict.cause is None or creeps_on) or verdict.point.kind is not Kind.NOT_CRITICAL:
        return None
    leading = _leading(tried)
    one = [trial for trial in leading if trial.name not in _CORRECT_MORE] or leading
    cause, first = _cured(one, verdict.measured), max(one, key=lambda trial: trial.low or 0.0, default=None)
    if creeps_on and cause is not Cause.ILL_CONDITIONED:
        return None  # one rate or another is a matter of taste
    if cause is None or first is None or first.gain is None or first.low is None or first.low <= MUCH:
        return None
    others = ", ".join(sorted({trial.name for trial in tried} - {trial.name for trial in leading}))
    return Finding(
        cause,
        BY_TRIAL,
        (Evidence("trial_gain", first.gain.value, first.gain.stderr),),
        f"{'The run creeps' if creeps_on else 'The measurements left the cause open'}, and the trials "
        f"{'say why' if creeps_on else 'settle it'}: with {first.change} the run ends "
        f"{100.0 * first.gain.value:.0f} % below going on. Nothing else that was tried comes near "
        f"({others or 'there was nothing else'}).",
        f"Do what was proved: {first.change}.",
    )


def _cured(one: Sequence[Trial], measured: Measurements) -> Cause | None:
    """What all of these cure, where it can be told from what they cure as well."""
    causes = {TOLD.get(trial.name) for trial in one}
    if len(causes) != 1 or (cause := causes.pop()) is None:
        return None
    if cause is Cause.STEP_TOO_LARGE and not mostly_signal(measured):
        return None  # shorter steps cure noise as well
    if cause is Cause.ILL_CONDITIONED and not thrown_out(measured):
        return None  # a rate higher than those that were tried might do as much
    return cause


def _doubted(verdict: Verdict, trials: Trials) -> Verdict:
    """Be less sure of what was taken away on copies and surely made no difference worth having."""
    best: dict[Cause, float] = {}
    for trial in trials.tried:
        if trial.high is not None and (cause := CURES.get(trial.name)):
            best[cause] = max(trial.high, best.get(cause, -math.inf))
    kept = {
        finding.cause for finding in verdict.findings if best.get(finding.cause, math.inf) >= trials.least
    }
    if verdict.measured.wiring and verdict.measured.wiring.standing:
        kept.add(Cause.STEP_TOO_SMALL)  # at a rate of 0 no trial is called for to know that nothing moves
    findings = tuple(
        finding if finding.cause in kept else replace(finding, confidence=_divided(finding.confidence))
        for finding in verdict.findings
    )
    if findings == verdict.findings:
        return verdict
    findings = tuple(sorted(findings, key=rank))
    cause, confidence = first_named(findings)
    gone = sorted({finding.cause for finding in findings} - kept)
    note = f"On copies {', '.join(gone)} was taken away, and that gained nothing: it is less sure for that."
    return replace(
        verdict,
        cause=cause,
        confidence=confidence,
        findings=findings,
        notes=(*verdict.notes, note),
    )


def _divided(confidence: float) -> float:
    """Divide the odds."""
    return confidence / (confidence + CONTRADICTED * (1.0 - confidence))


def _ranked(tried: Sequence[Trial], cause: Cause | None, *, alone: bool) -> tuple[Trial, ...]:
    """Proved to help before others, the larger gain first; of about equal gains what treats the cause comes first.

    So does the cure that alone has borne the cause out, whatever steps gain that would have to be kept up without it.
    """
    ranked = sorted(tried, key=_place)
    leading = [trial for trial in ranked if CURES.get(trial.name) is cause] if alone else _leading(ranked)
    treating = [trial for trial in leading if cause in trial.causes]
    if not treating:
        return tuple(ranked)
    first = _plainest(treating)
    return (first, *(trial for trial in ranked if trial is not first))


def _plainest(treating: Sequence[Trial]) -> Trial:
    """The first one, or what is a part of it and gains as much: the rest of it is not called for."""
    first = treating[0]
    parts = (
        part
        for part in treating[1:]
        if part.gain
        and first.gain
        and set(part.code) < set(first.code)
        and part.gain.value >= first.gain.value - LEAST_GAIN
    )
    return next(parts, first)


def _leading(tried: Sequence[Trial]) -> list[Trial]:
    """Those that are proved to help, and about as much as the best one."""
    gains = [(trial, trial.gain.value) for trial in tried if trial.gain is not None and trial.helps]
    best = max((gain for _, gain in gains), default=0.0)
    return [trial for trial, gain in gains if gain >= ABOUT_EQUAL * min(best, ALL_OF_IT)]


def _place(trial: Trial) -> tuple[int, float]:
    """What is proved to help, then what was proved not to, then what was given up; the better first."""
    if trial.gain is None:
        return 2, trial.curves[0].end
    return 0 if trial.helps else 1, -trial.gain.value


def as_remedy(trial: Trial, least: float) -> Remedy | None:
    """What a trial shows of a remedy; None where it was not proved, or surely makes no difference worth having."""
    if trial.gain is None or trial.low is None or trial.high is None:
        return None
    if trial.low > -least and trial.high < least:
        return None
    if trial.gain.value == 0.0 and math.isinf(trial.high):  # both were thrown out
        return None
    return Remedy(
        name=trial.name,
        change=trial.change,
        gain=trial.gain.value,
        low=trial.low,
        high=trial.high,
        code=trial.code,
        treats=tuple(Cause(word) for word in trial.causes),
    )


def _reordered(findings: tuple[Finding, ...], remedies: Sequence[Remedy]) -> tuple[Finding, ...]:
    """Put the finding first whose removal surely gains more than that of the first one, if it does not explain it."""
    if not findings or findings[0].confidence < NAMED:
        return findings
    first = findings[0]
    own = [remedy for remedy in remedies if first.cause in remedy.treats]
    best = max((remedy.high for remedy in own), default=0.0)
    row = next(causes for causes in EXPLAINS if first.cause in causes)
    for finding in findings[1:]:
        if finding.confidence < NAMED or finding.cause not in row or finding.cause is Cause.HEALTHY:
            continue
        rival = [r for r in remedies if finding.cause in r.treats and first.cause not in r.treats and r.helps]
        if rival and max(remedy.low for remedy in rival) > max(best, 0.0):
            return (finding, *(other for other in findings if other is not finding))
    return findings


def _notes(verdict: Verdict, trials: Trials, remedies: Sequence[Remedy]) -> list[str]:
    notes: list[str] = []
    proved = [trial for trial in trials.tried if trial.gain is not None]
    if not proved:
        return ["No remedy came to the proof before the time was over: give a larger budget."]
    unresolved = [remedy.name for remedy in remedies if remedy.low <= 0.0 and remedy.high >= trials.least]
    if not any(remedy.helps for remedy in remedies):
        notes.append(
            f"None of the {len(trials.tried)} remedies tried is proved to help: what {', '.join(unresolved)} would "
            "gain is lost in what the ends of the run scatter by."
            if unresolved
            else f"None of the {len(trials.tried)} remedies tried gains anything worth having."
        )
    addressing = [trial for trial in proved if verdict.cause in trial.causes and trial.name not in unresolved]
    if addressing and not any(r.helps and verdict.cause in r.treats for r in remedies):
        names = ", ".join(trial.name for trial in addressing)
        notes.append(f"What treats {verdict.cause} was tried ({names}) and did not help within the trial.")
    return notes
