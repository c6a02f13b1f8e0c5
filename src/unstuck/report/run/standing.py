"""How a run stands, in words: whether the loss still falls, why not, and how the run itself ended."""

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from json import JSONDecodeError, loads
from typing import Any

from unstuck.estimate import weighted_mean
from unstuck.findings.live.steps import THROWN
from unstuck.findings.records import Cause
from unstuck.report.numbers import count, probability, seconds
from unstuck.report.words import Tone, cause_word
from unstuck.watching.files.recorded import Course, Event, Recorded
from unstuck.watching.losses.blocks import MOST
from unstuck.watching.losses.heights import stays_above
from unstuck.watching.losses.lows import stood_lower
from unstuck.watching.losses.stalls import FIRST_LOOK

# Fewer samples have no spread, see FEWEST in watching/recent.py.
_FEWEST = 4

# Marks nearer to each other than this share of the axis are drawn as one.
_TOGETHER = 0.025

_DAY = 86_400.0


# What notes are about that somebody should know of though the loss falls: parameters that are not trained, outputs
# that are normalised twice or by themselves, gradients that pile up, weights that have hardly moved.
_HINDERING = {"left_out", "twice", "crossed", "alone", "twin", "piled", "erased", "hardly"}


@dataclass(frozen=True)
class Reason:
    """One finding about why the loss stands still; `cause` is its word in the vocabulary."""

    cause: str
    name: str
    sureness: str
    meaning: str
    explanation: str
    todo: str
    tone: Tone


@dataclass(frozen=True)
class Standing:
    """Whether the loss of one optimizer still falls."""

    title: str
    meaning: str
    tone: Tone
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Mark:
    """Events at one place of the step axis, by their numbers in the list; `kind` is that of the most telling one."""

    step: int
    first: int
    last: int
    kind: str
    events: tuple[Event, ...]

    @property
    def label(self) -> str:
        """The numbers of its events."""
        return f"{self.first}" if self.first == self.last else f"{self.first}\u2013{self.last}"


def standing(recorded: Recorded, course: Course) -> Standing:
    """Say how the loss of one optimizer stands at the end of the record."""
    since = recorded.stalled_since(course.number)
    found = _findings(recorded, course)
    reasons = tuple(_reason(event) for event in found if event.document.get("cause") is not None)
    if any(event.document.get("cause") == Cause.NON_FINITE.value for event in found):
        if not any(part.missing for part in course.curve):
            return Standing("No step is made any more", "The gradient is not a number.", "act", reasons)
        return Standing("The loss is not a number", "Nothing is learnt any more.", "act", reasons)
    if since is not None:
        if _stall(recorded, course).document.get("done"):
            return Standing("Nothing left to gain", said(_stall(recorded, course)), "settled", ())
        why = "" if reasons else _why(recorded, found)
        return Standing(f"The loss has stood still since step {since:,}", why, "act", reasons)
    if reasons:  # what the steps say by themselves, however noisy the loss is
        return Standing(reasons[0].name, "", "act", reasons)
    return _without_stall(recorded, course)


def _without_stall(recorded: Recorded, course: Course) -> Standing:
    if all(part.mean is None for part in course.curve):
        meaning = "Before its steps no backward pass of a single, finite number was seen."
        return Standing("The loss is not known", meaning, "unsure", ())
    if course.steps < FIRST_LOOK:
        meaning = f"A stall is looked for from step {FIRST_LOOK} on."
        return Standing("Too early to tell", meaning, "unsure", ())
    if _is_high(course):
        meaning = (
            "Not one of the last half of its steps had a loss as low as the first, and mostly it is more than twice "
            "that. Unless it is the loss of something else by now, as in games and with rewards, the steps are too "
            "large: lower the learning rate, about tenfold, or warm it up."
        )
        return Standing("The loss stays above where it began", meaning, "unsure", ())
    meaning = "Nothing says that the loss has stopped improving."
    # Of several losses, as in games, none need fall.
    if (lower := _lower(course) if len(recorded.optimizers) == 1 else None) is not None:
        meaning = (
            f"It is not sure whether the loss still improves: around step {lower[0]:,} it stood lower, at "
            f"{lower[1]:.4g}. Unless it has become the loss of something else since, steps may have led away."
        )
    if noted := _noted(recorded, course):
        return Standing(
            "No stall", f"{meaning} {'And' if lower else 'But'} {noted[0].lower()}{noted[1:]}.", "unsure", ()
        )
    return Standing("No stall", meaning, "good" if lower is None else "unsure", ())


def worst(recorded: Recorded) -> Standing:
    """How the run stands: as that of its optimizers that stands worst."""
    order: tuple[Tone, ...] = ("act", "unsure", "settled", "good")
    return min(
        (standing(recorded, course) for course in recorded.optimizers),
        key=lambda one: order.index(one.tone),
    )


def state(recorded: Recorded) -> str:
    """How the run itself ended, or that it goes on."""
    steps, took = f"{recorded.steps:,}", seconds(recorded.seconds)
    last = f"the last row is from {clock(recorded.begun + recorded.seconds)}"
    if recorded.state == "running":
        return f"running: step {steps} after {took}; {last}"
    if recorded.state == "killed":
        return f"was killed, or left by os._exit, after step {steps}, {took} after its start; {last}"
    if recorded.state == "elsewhere":
        return f"was running on {recorded.detail} at step {steps}; {last}, whether it goes on can be seen only there"
    if recorded.state == "stopped":
        why = "Ctrl-C" if recorded.detail == "KeyboardInterrupt" else recorded.detail
        return f"ended{f' by {why}' if why else ''} after {count(recorded.steps, 'step')} in {took}"
    return f"finished: {count(recorded.steps, 'step')} in {took}"


def what(recorded: Recorded) -> str:
    """What was run: the script with its arguments."""
    arguments: Any = ()
    with suppress(JSONDecodeError):
        arguments = loads(recorded.about.get("arguments", "[]"))
    words = [str(word) for word in arguments] if isinstance(arguments, list) else []
    return " ".join([recorded.about.get("script") or "a run", *map(shlex.quote, words)])


def began(recorded: Recorded) -> str:
    """When, and where it was written down."""
    when = f"begun at {clock(recorded.begun)}, " if recorded.begun else ""
    return f"{when}recorded in {recorded.path}"


def others(recorded: Recorded) -> str:
    """Which optimizers are not shown, that the folder holds other runs, and how to see them; empty if all are."""
    if not recorded.others:
        return _besides(recorded)
    runs = f"{count(1 + len(recorded.others), 'run')} in {recorded.path.parent}"
    newest = f"the newest of {runs}; the one before it: unstuck show {shlex.quote(str(recorded.others[0]))}"
    return f"{_besides(recorded)}; {newest}" if recorded.optimizers_left_out else newest


def _besides(recorded: Recorded) -> str:
    more = recorded.optimizers_left_out
    return f"{count(more, 'more optimizer')}, of no more steps, not shown" if more else ""


def subject(course: Course) -> str:
    """Which optimizer moves what: "SGD on DigitNet, 25,610 parameters"."""
    model = f" on {course.model}" if course.model else ""
    size = f", {count(course.parameters, 'parameter')}" if course.parameters else ""
    return f"{course.name}{model}{size}"


def heading(course: Course) -> str:
    """What one of several optimizers is called."""
    return f"Optimizer {course.number}: {subject(course)}"


def clock(epoch: float) -> str:
    """The time of day here; with the date if it is not today's."""
    when = time.localtime(epoch)
    today = time.localtime()[:3] == when[:3] or abs(time.time() - epoch) < _DAY / 4
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", when)


def marks(events: Sequence[Event], first: int, last: int) -> tuple[Mark, ...]:
    """Put what is near to each other on the step axis together; numbers are places in the list, from 1."""
    groups: list[list[tuple[int, Event]]] = []
    for number, event in enumerate(events, 1):
        near = groups and event.step - groups[-1][0][1].step <= _TOGETHER * (last - first)
        if near:
            groups[-1].append((number, event))
        else:
            groups.append([(number, event)])
    return tuple(
        Mark(
            step=max(group[0][1].step, 1),
            first=group[0][0],
            last=group[-1][0],
            kind=_telling([event.kind for _, event in group]),
            events=tuple(event for _, event in group),
        )
        for group in groups
    )


def stalled(events: Sequence[Event], last: int) -> tuple[tuple[int, int], ...]:
    """From which step to which the loss stood still."""
    found: list[tuple[int, int]] = []
    begun: int | None = None
    for event in events:
        since = event.document.get("since")
        step = since if isinstance(since, int) else event.step
        if event.kind == "stall" and begun is None:
            begun = step
        elif event.kind == "moving" and begun is not None:
            found.append((begun, max(step, begun)))
            begun = None
    return tuple(found) if begun is None else (*found, (begun, last))


def said(event: Event) -> str:
    """What an event says; of a finding, with the name that the reports use."""
    if event.kind == "finding" and event.document.get("cause") is not None:
        reason = _reason(event)
        rest = f" What to do: {reason.todo}" if reason.todo else ""
        return f"{reason.name} ({reason.sureness}): {reason.explanation or reason.meaning}{rest}"
    return event.message[:1].upper() + event.message[1:]


def listed(events: Sequence[Event]) -> list[str]:
    """What each event says, one under the other; a finding that was given in the same words before is but named."""
    first: dict[str, Event] = {}
    texts: list[str] = []
    for event in events:
        text = said(event)
        before = first.setdefault(text, event)
        again = before is not event and event.document.get("cause") is not None
        texts.append(f"{_reason(event).name}, as at step {before.step:,}" if again else text)
    return texts


def _noted(recorded: Recorded, course: Course) -> str:
    """What was noted that holds the run up, though its loss falls."""
    notes = [
        event for event in recorded.events if event.kind == "note" and _HINDERING & event.document.keys()
    ]
    return next((event.message for event in notes if event.optimizer == course.number), "")


def _is_high(course: Course) -> bool:
    half = [part for part in course.curve if part.first > course.steps / 2 and part.low is not None]
    began = course.curve[0].low
    if began is None or not half:
        return False
    above = sum(part.count for part in half if part.mean is not None and part.mean > THROWN * began)
    lowest = min(part.low for part in half if part.low is not None)
    high = stays_above(began, lowest, above / sum(part.count for part in half))
    ends = [sample.overshoot for sample in course.samples if sample.overshoot is not None]
    # Where steps still lead down at their ends, they are not what has thrown it up.
    return high and not (
        len(ends) >= _FEWEST and weighted_mean(ends, [1.0] * len(ends)).surely_below(0.0, sigmas=2.0)
    )


def _lower(course: Course) -> tuple[int, float] | None:
    """Around which step the loss surely stood lower than at the end, and where."""
    known = [part for part in course.curve if part.mean is not None]
    width = -(-len(known) // MOST)
    blocks = [known[first : first + width] for first in range(0, len(known), width)]
    total = [sum(part.count for part in block) for block in blocks]
    means = [
        sum((part.mean or 0.0) * part.count for part in block) / count
        for block, count in zip(blocks, total, strict=True)
    ]
    found = stood_lower(means)
    return None if found is None else (blocks[int(found[0])][0].first, found[1])


def _telling(kinds: Sequence[str]) -> str:
    return next((kind for kind in ("finding", "stall") if kind in kinds), kinds[0])


def _findings(recorded: Recorded, course: Course) -> list[Event]:
    """What was found since the loss last moved again; that something is no number holds for good.

    What is known before the loss surely stands still is not said a second time when it does.
    """
    told = recorded.told(course.number)
    last = max((index for index, event in enumerate(told) if event.kind == "moving"), default=-1)
    broken = [event for event in told if event.document.get("cause") == Cause.NON_FINITE.value]
    recent = [event for event in told[last + 1 :] if event.kind == "finding" and event not in broken]
    return broken[:1] + _newest(_that_holds(recorded, recent))


def _that_holds(recorded: Recorded, found: Sequence[Event]) -> list[Event]:
    """Findings but those that were taken back since."""
    back = [event for event in recorded.events if event.kind == "note" and "withdrawn" in event.document]
    return [one for one in found if not any(_takes_back(event, one) for event in back)]


def _takes_back(event: Event, one: Event) -> bool:
    gone: Any = event.document["withdrawn"]
    return one.optimizer == event.optimizer and one.step < event.step and one.document.get("cause") in gone


def _newest(found: Sequence[Event]) -> list[Event]:
    """Those that were concluded together last."""
    return [event for event in found if event.step == found[-1].step]


def _stall(recorded: Recorded, course: Course) -> Event:
    """The last one."""
    return [event for event in recorded.told(course.number) if event.kind == "stall"][-1]


def _why(recorded: Recorded, found: Sequence[Event]) -> str:
    """What is said of a loss that stands still where no cause is named."""
    if found:
        return said(found[-1])
    if recorded.state == "running":
        return "Why is being looked into."
    return "The run ended before it was found out why."


def _reason(event: Event) -> Reason:
    document: Mapping[str, Any] = event.document
    try:
        word = cause_word(Cause(document["cause"]))
    except ValueError:  # a word of a later version
        return Reason(str(document["cause"]), str(document["cause"]), "", "", event.message, "", "unsure")
    sure = document.get("confidence")
    return Reason(
        cause=str(document["cause"]),
        name=word.name,
        sureness=f"{probability(round(sure, 2))} sure"
        if isinstance(sure, float)
        else "how sure is not known",
        meaning=word.meaning,
        explanation=str(document.get("explanation") or ""),
        todo=str(document.get("advice") or word.todo),
        tone=word.tone,
    )
