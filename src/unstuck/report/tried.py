"""What a report says of the remedies that were tried."""

import math
from dataclasses import dataclass

from unstuck.findings.records import Remedy, Verdict
from unstuck.measurements.records.trials import Trial, Trials
from unstuck.report.numbers import count, percent, seconds, significant

HELPS, HARMS, OPEN, NOTHING = "helps", "makes it worse", "not resolved", "makes no difference"
INFINITE = "thrown out"

# A gain of so many times the loss, which only one without a lower bound allows, has no digits worth reading.
ENORMOUS = 10.0

# Where less than this is worth having, as near a floor of the loss, a tenth of a percent says nothing.
FINE = 0.001


@dataclass(frozen=True)
class Tried:
    """One remedy, ready to print.

    Attributes:
        gain: Over going on, with its interval; what was given up says why instead.
        outcome: In a word or two.
        setup: What it cost before its first step, in gradients of one batch; "" for nothing.
        helps: Whether it is proved to help.
    """

    name: str
    change: str
    gain: str
    outcome: str
    setup: str
    helps: bool


def tried(verdict: Verdict) -> tuple[Tried, ...]:
    """One row for each remedy that came to the proof, the best first, then those given up on the way."""
    trials = verdict.trials
    return tuple(_row(trial, trials.least) for trial in trials.tried) if trials else ()


def proved(verdict: Verdict) -> tuple[Tried, ...]:
    """Those that came to the proof."""
    trials = verdict.trials
    return (
        tuple(_row(trial, trials.least) for trial in trials.tried if trial.gain is not None) if trials else ()
    )


def given_up(verdict: Verdict) -> str:
    """Name those that did not come to the proof, in one line."""
    trials = verdict.trials
    names = dict.fromkeys(trial.name for trial in trials.tried if trial.gain is None) if trials else {}
    there = {trial.name for trial in trials.tried if trial.gain is not None} if trials else set[str]()
    return ", ".join(name for name in names if name not in there)


def best(verdict: Verdict) -> Remedy | None:
    """The best remedy that is proved to help."""
    return next((remedy for remedy in verdict.remedies if remedy.helps), None)


def in_words(remedy: Remedy) -> str:
    """Say in one line what a remedy gained."""
    share = (_whole if remedy.gain >= FINE else percent)(min(remedy.gain, 1.0))
    return f"{remedy.name} ({remedy.change}) ends {share} below going on, at the same cost."


def trials_line(trials: Trials) -> str:
    """How the remedies were tried, in one sentence."""
    orders = count(trials.orders, "order")
    held = "all the data" if trials.whole else f"{count(trials.batches, 'held batch', 'held batches')}"
    held = "the validation data" if trials.by_validation else held
    return (
        f"Each went on from this very state for {trials.horizon:.0f} gradient evaluations of a batch, its own cost "
        f"included, on the same batches as going on, in {orders}; the loss is that of {held}. All intervals hold at "
        f"once with {percent(trials.level)}. The trials took {trials.gradients:,.0f} gradients of the sample, "
        f"{seconds(trials.seconds)}."
    )


def outcome(trial: Trial, least: float) -> str:
    """What came out, in a word or two."""
    if trial.low is None or trial.high is None:
        return trial.given_up
    if trial.low > 0.0:
        return HELPS if trial.high >= least else NOTHING
    if trial.high < 0.0:
        return HARMS if trial.low <= -least else NOTHING
    return OPEN if max(-trial.low, trial.high) > least else NOTHING


def _row(trial: Trial, least: float) -> Tried:
    return Tried(
        name=trial.name,
        change=trial.change,
        gain=_gain(trial, least),
        outcome=outcome(trial, least),
        setup=significant(trial.setup) if trial.setup else "",
        helps=trial.low is not None and trial.low > 0.0 and outcome(trial, least) == HELPS,
    )


def _gain(trial: Trial, least: float) -> str:
    if trial.gain is None or trial.low is None or trial.high is None:
        return ""
    if not math.isfinite(trial.gain.value):
        return INFINITE
    if not math.isfinite(trial.low):
        return f"{percent(trial.gain.value)} (unknown)"
    shown = _whole if least >= FINE else percent
    return f"{shown(trial.gain.value)} ({shown(trial.low)} to {shown(trial.high)})"


def _whole(share: float) -> str:
    """A gain is worth a tenth of a percent at most."""
    return f"{100.0 * share:,.1f} %" if abs(share) < ENORMOUS else percent(share)
