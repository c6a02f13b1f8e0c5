"""Blocks that answers in a terminal are made of."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unstuck.report.facts import Fact


def headline(question: str, answer: str, standing: str, reading: Sequence[str]) -> RenderableType:
    """Frame the question, its answer in bold, how things stand, and how to read it."""
    body = [safe(answer, "bold"), safe(standing), Text(), *(safe(sentence, "dim") for sentence in reading)]
    title = Text(f" {question} ", style="bold blue")
    return Panel(Group(*body), title=title, title_align="left", border_style="blue", padding=(1, 2))


def facts(rows: Sequence[Fact]) -> RenderableType:
    """List facts."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", min_width=21)
    grid.add_column()
    for row in rows:
        meaning = safe(f"  {row.meaning}" if row.meaning else "", "dim")
        grid.add_row(safe(row.label), safe(row.value).append_text(meaning))
    return indented(grid)


def table(first: str, *others: str) -> Table:
    """Begin a table without lines; the last column, if it has no name, is for words."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    made.add_column(first, no_wrap=True)
    for other in others:
        made.add_column(other, justify="left" if other == others[-1] and not other else "right")
    return made


def section(title: str) -> RenderableType:
    """Begin a section."""
    return Text(f"\n{title}", style="bold")


def line(text: str) -> RenderableType:
    """Write one line."""
    return indented(safe(text))


def indented(block: RenderableType) -> RenderableType:
    """Set it in, below the title of its section."""
    return Padding(block, (0, 0, 0, 2))


def safe(text: str, style: str = "") -> Text:
    """Text taken as it is, never as markup, without anything a terminal would obey."""
    return Text("".join(c if c.isprintable() else " " for c in text), style=style)
