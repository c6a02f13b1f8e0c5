"""A recorded run for people, in a browser: one page that needs nothing but itself."""

from dataclasses import dataclass
from typing import Any

from unstuck.report.facts import Fact
from unstuck.report.numbers import seconds, significant
from unstuck.report.run import standing
from unstuck.report.run.captions import caption
from unstuck.report.run.document import to_json
from unstuck.report.run.figures import FIGURES
from unstuck.report.run.numbers import present
from unstuck.report.sheet import page, shown
from unstuck.watching.files.recorded import Course, Event, ParameterGroup, Recorded

# Events that are listed openly, the last ones of more; those before them can be unfolded.
_MANY = 12

# What the styles know the kinds of events by.
_MARKS = {"stall": "is-stall", "finding": "is-finding", "moving": "is-moving"}


@dataclass(frozen=True)
class _Row:
    """One event, ready to print; its number is the one on the curve."""

    number: int
    step: str
    time: str
    mark: str
    said: str


@dataclass(frozen=True)
class _Part:
    """What the page says of one optimizer."""

    title: str
    standing: standing.Standing
    events: tuple[_Row, ...]
    figures: tuple[dict[str, Any], ...]
    facts: tuple[Fact, ...]
    groups: tuple[tuple[str, ...], ...]


def to_html(recorded: Recorded) -> str:
    """Write the whole page."""
    parts = [_part(recorded, course) for course in recorded.optimizers]
    return page(
        "run.html.j2",
        [figure for part in parts for figure in part.figures],
        document=to_json(recorded),
        styles=["run.css"],
        head=standing.worst(recorded),
        what=standing.what(recorded),
        subject=standing.subject(recorded.optimizers[0]) if len(parts) == 1 else "",
        state=standing.state(recorded),
        running=recorded.state == "running",
        began=standing.began(recorded),
        others=standing.others(recorded),
        about=_about(recorded),
        parts=parts,
        notes=_rows([event for event in recorded.events if event.kind not in {"stall", "finding", "moving"}]),
        many=_MANY,
        left_out=recorded.left_out,
    )


def _part(recorded: Recorded, course: Course) -> _Part:
    return _Part(
        title=standing.heading(course) if len(recorded.optimizers) > 1 else "",
        standing=standing.standing(recorded, course),
        events=_rows(recorded.told(course.number)),
        figures=_figures(recorded, course),
        facts=present(course),
        groups=tuple(map(_group, course.groups)),
    )


def _figures(recorded: Recorded, course: Course) -> tuple[dict[str, Any], ...]:
    drawn = {name: draw(recorded, course) for name, draw in FIGURES.items()}
    return tuple(
        shown(f"{name}-{course.number}", figure, caption(name, recorded, course))
        for name, figure in drawn.items()
        if figure is not None
    )


def _rows(events: tuple[Event, ...] | list[Event]) -> tuple[_Row, ...]:
    return tuple(
        _Row(
            number,
            f"{event.step:,}",
            seconds(event.time),
            _MARKS.get(event.kind, "is-note"),
            said,
        )
        for number, (event, said) in enumerate(zip(events, standing.listed(events), strict=True), 1)
    )


def _group(group: ParameterGroup) -> tuple[str, ...]:
    rate = group.rates[-1] if group.rates else None
    numbers = (rate, group.gradient_norm, group.ratio)
    return (str(group.number), *("" if one is None else significant(one) for one in numbers))


def _about(recorded: Recorded) -> tuple[Fact, ...]:
    """Everything else that the file says of the run."""
    return tuple(
        Fact(key, value)
        for key, value in recorded.about.items()
        if key not in {"script", "arguments", "epoch", "state"}
    )
