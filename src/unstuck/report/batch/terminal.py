"""Batch sizes for people, in a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unstuck.batch.records import Sizing
from unstuck.report.batch import words
from unstuck.report.laid import indented, section
from unstuck.report.terminal import STYLES
from unstuck.report.text import as_text


def render(sizing: Sizing) -> RenderableType:
    """Lay it out for `rich.print`; it adapts to the width and to NO_COLOR."""
    heads, rows = words.small_against_large(sizing)
    blocks: list[RenderableType] = [_headline(sizing)]
    if rows:
        blocks += [section("Small against large"), _table(("", *heads, ""), rows, notes=True)]
    heads, rows = words.every_size(sizing)
    if rows:
        blocks += [section("Every size"), _table(("size", *heads), rows, notes=False)]
    return Group(*blocks, section("What it rests on"), _facts(sizing))


def to_text(sizing: Sizing, width: int = 100) -> str:
    """Write it as plain text of that width, without any terminal code."""
    return as_text(render(sizing), width)


def _headline(sizing: Sizing) -> RenderableType:
    head = words.headline(sizing)
    style = STYLES[head.tone]
    body: list[RenderableType] = [Text(head.meaning)]
    if head.todo:
        body += [Text(), Text.assemble(("What to do: ", f"bold {style}"), head.todo)]
    title = Text(f" {head.title} ", style=f"bold {style}")
    return Panel(Group(*body), title=title, title_align="left", border_style=style, padding=(1, 2))


def _table(heads: Sequence[str], rows: Sequence[words.Row], *, notes: bool) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    for index, head in enumerate(heads):
        last = notes and index == len(heads) - 1
        table.add_column(head, justify="left" if index == 0 or last else "right", no_wrap=not last)
    for row in rows:
        cells = [Text(row.label), *map(Text, row.cells)]
        table.add_row(*cells, *([Text(row.note, style="dim")] if notes else []))
    return indented(table)


def _facts(sizing: Sizing) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", min_width=20, max_width=34)
    grid.add_column()
    for fact in words.facts(sizing):
        meaning = Text(f"  {fact.meaning}" if fact.meaning else "", style="dim")
        grid.add_row(Text(fact.label), Text(fact.value).append_text(meaning))
    return indented(grid)
