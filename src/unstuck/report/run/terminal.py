"""A recorded run for people, in a terminal."""

from collections.abc import Iterable, Sequence
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unstuck.report.facts import Fact
from unstuck.report.numbers import count, seconds
from unstuck.report.plainly import in_ascii
from unstuck.report.run import standing
from unstuck.report.run.chart import KINDS, Chart
from unstuck.report.run.numbers import present
from unstuck.report.terminal import STYLES
from unstuck.report.text import as_text
from unstuck.watching.files.recorded import Event, Recorded

# Events that are listed, the last ones of more; the page and the document have them all.
_MOST_EVENTS = 12

# Columns from which on three things stand side by side.
_WIDE = 72


def render(recorded: Recorded, *, ascii_only: bool = False) -> RenderableType:
    """Lay a run out for `rich.print`; it adapts to the width and to NO_COLOR."""
    return _Terminal(recorded, ascii_only=ascii_only).whole()


def to_text(recorded: Recorded, width: int = 100, *, ascii_only: bool = False) -> str:
    """Write a run as plain text of that width, without any terminal code."""
    text = as_text(render(recorded, ascii_only=ascii_only), width)
    return in_ascii(text) if ascii_only else text  # what was cut short to fit has an ellipsis by then


class _Terminal:
    """Lays out one run, in the characters that there are."""

    def __init__(self, recorded: Recorded, *, ascii_only: bool) -> None:
        self._recorded = recorded
        self._ascii = ascii_only
        self._overflow: Literal["crop", "ellipsis"] = "crop" if ascii_only else "ellipsis"

    def whole(self) -> RenderableType:
        blocks: list[RenderableType] = [self._headline()]
        several = len(self._recorded.optimizers) > 1
        for course in self._recorded.optimizers:
            if several:
                blocks.append(self._section(standing.heading(course)))
                blocks.append(self._line(standing.standing(self._recorded, course).title))
            told = self._recorded.told(course.number)
            blocks += [Text(), Chart(course, told, ascii_only=self._ascii)]
            blocks += self._events("What was found", told)
            blocks += [self._section("How it stands"), self._facts(present(course))]
        blocks += self._events("Notes", self._rest(), dim=True)
        return Group(*blocks)

    def _headline(self) -> RenderableType:
        recorded = self._recorded
        now = standing.worst(recorded)
        style = STYLES[now.tone]
        title = Text(f" {now.title} ", style=f"bold {style}")
        body: list[RenderableType] = [self._text(standing.what(recorded), "bold")]
        if len(recorded.optimizers) == 1:
            body.append(self._text(standing.subject(recorded.optimizers[0])))
        body.append(self._text(standing.state(recorded)))
        body += [
            self._text(line, "dim") for line in (standing.began(recorded), standing.others(recorded)) if line
        ]
        if now.meaning:
            body += [Text(), self._text(now.meaning)]
        for reason in now.reasons:
            name = self._text(reason.name, f"bold {STYLES[reason.tone]}")
            name.append_text(self._text(f" · {reason.sureness}" if reason.sureness else ""))
            body += [Text(), name, self._text(reason.explanation or reason.meaning)]
            if reason.todo:
                body.append(
                    Text("What to do: ", style=f"bold {style}").append_text(
                        self._text(reason.todo, "not bold")
                    )
                )
        border = box.ASCII if self._ascii else box.ROUNDED
        return Panel(
            Group(*body), title=title, title_align="left", border_style=style, padding=(1, 2), box=border
        )

    def _events(self, title: str, events: Sequence[Event], *, dim: bool = False) -> list[RenderableType]:
        if not events:
            return []
        shown = list(enumerate(zip(events, standing.listed(events), strict=True), 1))[-_MOST_EVENTS:]
        table = Table.grid(padding=(0, 2, 0, 0))
        for justify in ("right", "left", "right"):
            table.add_column(justify=justify, no_wrap=True, overflow=self._overflow)
        table.add_column(overflow="fold")
        for number, (event, said) in shown:
            style = KINDS.get(event.kind, "")
            what = self._text(said, "dim" if dim else "")
            number_ = "" if dim else str(number)
            where = f"step {event.step:,}", seconds(event.time)
            table.add_row(
                Text(number_, style=f"bold {style}"), *(Text(one, style="dim") for one in where), what
            )
        blocks = [self._section(title)]
        if len(shown) < len(events):
            left = count(len(events) - len(shown), "earlier one")
            blocks.append(self._line(f"{left} before these: --html or --json has all", "dim"))
        return [*blocks, Padding(table, (0, 0, 0, 2))]

    def _rest(self) -> tuple[Event, ...]:
        """Notes and errors, and whatever a later version may write."""
        return tuple(
            event for event in self._recorded.events if event.kind not in {"stall", "finding", "moving"}
        )

    def _facts(self, rows: Iterable[Fact]) -> RenderableType:
        cells = [(self._text(row.label), self._text(row.value), self._text(row.meaning)) for row in rows]
        return Padding(_Facts(cells), (0, 0, 0, 2))

    def _section(self, title: str) -> RenderableType:
        return Group(Text(), self._text(title, "bold"))

    def _line(self, text: str, style: str = "") -> RenderableType:
        return Padding(self._text(text, style), (0, 0, 0, 2))

    def _text(self, text: str, style: str = "") -> Text:
        """Text taken as it is, never as markup, without anything a terminal would obey."""
        shown = "".join(c if c.isprintable() else " " for c in text)
        if self._ascii:
            shown = in_ascii(shown)
        return Text(shown, style=style)


class _Facts:
    """Label, value and meaning side by side, or where that is too narrow the meaning after the value."""

    def __init__(self, cells: Sequence[tuple[Text, Text, Text]]) -> None:
        self._cells = cells

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Table]:
        """Lay them out."""
        del console
        wide = options.max_width >= _WIDE
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", min_width=20, overflow="fold")
        for _ in range(1 + wide):
            grid.add_column(overflow="fold")
        for label, value, meaning in self._cells:
            meaning.stylize("dim")
            rest = (value, meaning) if wide else (Text.assemble(value, "  ", meaning),)
            grid.add_row(label, *rest)
        yield grid
