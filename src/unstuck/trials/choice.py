"""Which remedy is made: the best that is proved, or the one that was asked for."""

from collections.abc import Sequence
from difflib import get_close_matches

from unstuck.errors import UnstuckError
from unstuck.findings.records import Cause, Verdict
from unstuck.remedies.catalogue import NAMES, STEPS, proposed
from unstuck.remedies.treatment import Situation, Treatment, together
from unstuck.training import Training


class TreatmentError(UnstuckError):
    """Nothing was changed: no remedy is proved to help, or it did not hold what it promised."""


def check_remedy(name: str | None) -> None:
    """Raise TreatmentError where there is no remedy of that name for any run."""
    if name is not None and name not in NAMES:
        near = get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(NAMES)}"
        msg = f"there is no remedy {name!r}: {hint}"
        raise TreatmentError(msg)


def chosen(known: Situation, verdict: Verdict, name: str | None) -> Treatment:
    """Give the remedy of that name, as it was tried if it was; by default the best that is proved to help.

    Raises:
        TreatmentError: There is none.
    """
    every = proposed(known)
    if name is None:
        return _proved(every, verdict)
    tried = [trial for trial in (verdict.trials.tried if verdict.trials else ()) if trial.name == name]
    wanted = [each for each in every if each.name == name]
    if not wanted:
        names = ", ".join(dict.fromkeys(each.name for each in every))
        msg = f"there is no remedy {name!r} for this run: choose one of {names}"
        raise TreatmentError(msg)
    return next((each for each in wanted if tried and each.change == tried[0].change), wanted[0])


def check_optimizer(training: Training) -> None:
    """Raise TreatmentError where there is no optimizer that a remedy could be tried with."""
    if training.optimizer is None:
        msg = "nothing was changed: no remedy can be made without `optimizer`: pass the one of the run to Training"
        raise TreatmentError(msg)


def _proved(every: Sequence[Treatment], verdict: Verdict) -> Treatment:
    """The best that is proved and can be made in place, by itself or together with other steps."""
    helping = [(remedy.name, remedy.change) for remedy in verdict.remedies if remedy.helps]
    steps = [each for each in every if each.name in STEPS]
    pairs = [together(each, step) for each in every for step in steps if each is not step]
    ready = [each for each in (*every, *pairs) if each.in_place and (each.name, each.change) in helping]
    if ready:
        return min(ready, key=lambda each: helping.index((each.name, each.change)))
    if helping:
        msg = f"nothing was changed: {helping[0][0]} is a change of your code; make it, then train on"
        raise TreatmentError(msg)
    if verdict.cause is Cause.HEALTHY:
        why = "the run is healthy"
    else:
        why = "no remedy was tried" if verdict.trials is None else "no remedy is proved to help"
    msg = f"nothing was changed: {why}; name a remedy by `remedy` to apply it all the same"
    raise TreatmentError(msg)


def passed_over(verdict: Verdict, taken: Treatment) -> str | None:
    """What surely gained more than what was made, and cannot be made in place."""
    made = next((each for each in verdict.remedies if each.change == taken.change), None)
    best = max((each for each in verdict.remedies if each.helps), key=lambda each: each.gain, default=None)
    if made is None or best is None or best.low <= made.high:
        return None
    gains = f"{100 * best.gain:.1f} % against {100 * made.gain:.1f} %"
    return f"in its trial {best.name} gained more, {gains}: {best.change}"
