"""How sharp a place is, for people, in a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unstuck.landscape.records import Survey
from unstuck.report.facts import Fact
from unstuck.report.numbers import significant
from unstuck.report.sharpness import facts
from unstuck.report.sharpness.words import READING
from unstuck.report.text import as_text


def render(survey: Survey) -> RenderableType:
    """Lay a survey out for `rich.print`; it adapts to the width and to NO_COLOR."""
    blocks: list[RenderableType] = [
        _headline(survey),
        _section("Where the weights are"),
        _line(facts.subject_line(survey)),
        _facts(facts.place(survey)),
    ]
    if survey.measures:
        blocks += [_section("Sharpness"), _measures(survey)]
    if survey.profiles:
        blocks += [_section("Along directions"), _directions(survey)]
    measured = [Fact("sample", facts.sample_line(survey)), Fact("cost", facts.cost_line(survey))]
    measured += [
        Fact("left out" if index == 0 else "", line) for index, line in enumerate(facts.left_out(survey))
    ]
    return Group(*blocks, _section("How it was measured"), _facts(measured))


def to_text(survey: Survey, width: int = 100) -> str:
    """Write a survey as plain text of that width, without any terminal code."""
    return as_text(render(survey), width)


def _headline(survey: Survey) -> RenderableType:
    body: list[RenderableType] = [
        _text(facts.headline(survey), "bold"),
        _text(facts.standing(survey)),
        Text(),
        *(_text(sentence, "dim") for sentence in READING),
    ]
    title = Text(" How sharp is it here? ", style="bold blue")
    return Panel(Group(*body), title=title, title_align="left", border_style="blue", padding=(1, 2))


def _measures(survey: Survey) -> RenderableType:
    table = _table("", "", "slope's share", "if rescaled", "")
    for row in facts.rows(survey):
        table.add_row(
            _text(row.label), _text(row.value), row.slope, _text(row.scale), _text(row.meaning, "dim")
        )
    return Padding(table, (0, 0, 0, 2))


def _directions(survey: Survey) -> RenderableType:
    table = _table("direction", "bend", f"distance to a rise of {significant(survey.rise)}")
    for label, curvature, width in facts.directions(survey):
        table.add_row(_text(label), curvature, width)
    return Padding(table, (0, 0, 0, 2))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="left" if other == others[-1] and not other else "right")
    return table


def _facts(rows: Sequence[Fact]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", min_width=21)
    grid.add_column()
    for row in rows:
        meaning = _text(f"  {row.meaning}" if row.meaning else "", "dim")
        grid.add_row(_text(row.label), _text(row.value).append_text(meaning))
    return Padding(grid, (0, 0, 0, 2))


def _section(title: str) -> RenderableType:
    return Text(f"\n{title}", style="bold")


def _line(text: str) -> RenderableType:
    return Padding(_text(text), (0, 0, 0, 2))


def _text(text: str, style: str = "") -> Text:
    """Text taken as it is, never as markup, without anything a terminal would obey."""
    return Text("".join(c if c.isprintable() else " " for c in text), style=style)
