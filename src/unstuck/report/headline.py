"""The answer in words: which cause it is, what it means here, what to do, and what else was found."""

from dataclasses import dataclass

from unstuck.findings.progress import SIGMAS, ahead, going_on, undoes
from unstuck.findings.records import Cause, Finding, Verdict
from unstuck.report import tried
from unstuck.report.facts import Fact, evidence
from unstuck.report.numbers import probability
from unstuck.report.words import DO_WHAT_IS_PROVED, LESS_DECAY, UNSURE, Tone, cause_word, kind_sentence

STILL_FALLING = "Still falling"
FALLS_ALL_THE_SAME = (
    "Going on as before still lowers the training loss; that does not remove the cause named above."
)


@dataclass(frozen=True)
class Headline:
    """The answer in ten seconds: what it is, how sure, what it means here, what to do, and what is proved to help."""

    title: str
    sureness: str
    meaning: str
    explanation: str
    todo: str
    proved: str
    kind: str
    tone: Tone


@dataclass(frozen=True)
class Other:
    """A cause that holds besides the leading one; what is empty has nothing to say."""

    title: str
    sureness: str
    meaning: str
    explanation: str
    todo: str
    tone: Tone
    evidence: tuple[Fact, ...]


def headline(verdict: Verdict) -> Headline:
    """Say what the verdict is; a finding's own words go before the general ones."""
    word = cause_word(verdict.cause)
    finding, best = main_finding(verdict), tried.best(verdict)
    usual = _unnamed(verdict, proved=best is not None) if verdict.cause is None else word.todo
    return Headline(
        title=word.name,
        sureness="" if verdict.cause is None else f"{probability(round(verdict.confidence, 2))} sure",
        meaning=word.meaning,
        explanation=_unanswered(verdict) if finding is None else finding.explanation,
        todo=usual if finding is None or not finding.advice else finding.advice,
        proved="" if best is None else tried.in_words(best),
        kind=kind_sentence(verdict.point.kind),
        tone=word.tone,
    )


def main_finding(verdict: Verdict) -> Finding | None:
    """The finding that the verdict's cause rests on."""
    return next((finding for finding in verdict.findings if finding.cause == verdict.cause), None)


def others_title(verdict: Verdict) -> str:
    """What the other findings are, next to a cause or without one."""
    return "Also found" if verdict.cause is not None else "Possible, but not sure"


def others(verdict: Verdict) -> tuple[Other, ...]:
    """Every other cause that holds as well."""
    found = (finding for finding in verdict.findings if finding.cause != verdict.cause)
    return tuple(_other(finding, named=verdict.cause is not None) for finding in found)


def _other(finding: Finding, *, named: bool) -> Other:
    word = cause_word(finding.cause)
    beside = finding.cause is Cause.HEALTHY and named
    return Other(
        title=STILL_FALLING if beside else word.name,
        sureness=f"{probability(round(finding.confidence, 2))} sure",
        meaning=FALLS_ALL_THE_SAME if beside else word.meaning,
        # Beside another cause "no remedy is called for" would contradict it.
        explanation="" if beside else finding.explanation,
        todo="" if beside else finding.advice or word.todo,
        tone=word.tone,
        evidence=evidence(finding),
    )


def _unnamed(verdict: Verdict, *, proved: bool) -> str:
    if undoes(verdict.measured):
        return LESS_DECAY
    return DO_WHAT_IS_PROVED if proved else UNSURE.todo


def _may_fall(verdict: Verdict) -> bool:
    """Whether going on probably gains something, and trials that followed it further do not gainsay it."""
    arm, trials = going_on(verdict.measured), verdict.trials
    if arm is None or not arm.gain.surely_above(0.0, sigmas=SIGMAS):
        return False
    return trials is None or sum(curve.losses[0] - curve.end for curve in trials.going_on) > 0.0


def _unanswered(verdict: Verdict) -> str:
    if verdict.cause is not None:
        return ""
    if undoes(verdict.measured):
        return "No cause has a word for it: weight decay undoes what the steps learn. By how much stands at the end."
    if _may_fall(verdict):
        return (
            f"It may not have stopped at all: as far as one continuation can tell, {ahead(verdict.measured)}"
        )
    if not verdict.measured.complete:
        return "The measurement was cut short (budget or Ctrl-C) before every question was answered."
    if verdict.measured.omitted:
        return "Some of what would tell could not be measured; what was left out, and why, stands at the end."
    return "The measured numbers are too close to their errors, or speak for more than one cause."
