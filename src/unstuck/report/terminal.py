"""A verdict for people, in a terminal."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unstuck.findings.records import Verdict
from unstuck.report import costs, eigenvalues, facts, headline, tried
from unstuck.report.facts import Fact, Way, listed
from unstuck.report.laid import indented, safe, section
from unstuck.report.text import as_text
from unstuck.report.words import Tone

STYLES: dict[Tone, str] = {"good": "green", "settled": "blue", "act": "red", "unsure": "yellow"}
BAR = 10
FULL_BAR_AT_LEAST = 0.01  # a bar is never full for less than 1 % of the loss: small gains look small


def render(verdict: Verdict) -> RenderableType:
    """Lay a verdict out for `rich.print`; it adapts to the width and to NO_COLOR."""
    blocks = [_headline(verdict), *_place(verdict)]
    blocks += [
        *_remedies(verdict),
        *_ways(verdict),
        *_curvature(verdict),
        *_others(verdict),
        *_small(verdict),
    ]
    return Group(*blocks)


def to_text(verdict: Verdict, width: int = 100) -> str:
    """Write a verdict as plain text of that width, without any terminal code."""
    return as_text(render(verdict), width)


def _headline(verdict: Verdict) -> RenderableType:
    head = headline.headline(verdict)
    style = STYLES[head.tone]
    title = Text(f" {head.title} ", style=f"bold {style}")
    if head.sureness:
        title.append(f"· {head.sureness} ", style=style)
    body = [safe(head.meaning, "bold")]
    if head.explanation:
        body.append(safe(head.explanation))
    todo = Table.grid(padding=(0, 1))
    todo.add_row(Text("What to do:", style=f"bold {style}", no_wrap=True), safe(head.todo))
    if head.proved:
        todo.add_row(Text("Proved:", style=f"bold {style}", no_wrap=True), safe(head.proved))
    return Panel(
        Group(*body, Text(), todo), title=title, title_align="left", border_style=style, padding=(1, 2)
    )


def _place(verdict: Verdict) -> list[RenderableType]:
    title = "Where the run is" if verdict.measured.non_finite is None else "Where it appears"
    return [section(title), _line(facts.subject_line(verdict)), _facts(facts.place(verdict))]


def _ways(verdict: Verdict) -> list[RenderableType]:
    rows = facts.ways(verdict)
    if not rows:
        return []
    full = max(FULL_BAR_AT_LEAST, *(way.share for way in rows))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("")
    table.add_column("% of the loss", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("of present", justify="right", no_wrap=True)
    for way in rows:
        table.add_row(safe(way.label), way.gain, _bar(way, full), way.step, way.multiple)
    blocks = [section("Where can the next decrease come from?"), indented(table)]
    if any(_cells(way.curvature, full) for way in rows):
        legend = Text.assemble(
            "  ", ("█", "blue"), " owed to the slope  ", ("▒", "yellow"), " to negative curvature"
        )
        blocks.append(legend)
    return blocks


def _bar(way: Way, full: float) -> Text:
    if way.rises:
        return Text("rises", style="dim")
    slope, curvature = _cells(way.slope, full), _cells(way.curvature, full)
    if slope + curvature == 0:
        return Text("▏", style="dim")
    return Text.assemble(("█" * slope, "blue"), ("▒" * curvature, "yellow"))


def _cells(share: float, full: float) -> int:
    return round(BAR * share / full)


def _curvature(verdict: Verdict) -> list[RenderableType]:
    if verdict.measured.non_finite is not None:
        return []
    spectrum, found = verdict.measured.spectrum, eigenvalues.eigenvalue_facts(verdict)
    if spectrum is None:
        met = [_facts(found)] if found else []
        return [section("Curvature"), _line(eigenvalues.curvature_gap(verdict)), *met]
    return [section("Curvature"), _facts(found), _line(eigenvalues.spectrum_sentence(spectrum), "dim")]


def _others(verdict: Verdict) -> list[RenderableType]:
    main = headline.main_finding(verdict)
    blocks: list[RenderableType] = []
    if main is not None and main.evidence:
        blocks += [section("What the verdict rests on"), _facts(facts.evidence(main))]
    others = headline.others(verdict)
    if others:
        blocks.append(section(headline.others_title(verdict)))
    for other in others:
        title = Text.assemble((other.title, "bold"), f" · {other.sureness}")
        blocks += [
            indented(title),
            _line(f"{other.meaning} {other.explanation}".strip()),
            _facts(other.evidence),
        ]
        blocks += [_line(f"What to do: {other.todo}")] if other.todo else []
    return blocks


def _remedies(verdict: Verdict) -> list[RenderableType]:
    if verdict.trials is None:
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("")
    table.add_column("gain over going on", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("change")
    for row in tried.proved(verdict):
        style = "bold green" if row.helps else ""
        table.add_row(safe(row.name, style), row.gain, safe(row.outcome, style), safe(row.change, "dim"))
    blocks: list[RenderableType] = [section("What was tried from here"), indented(table)]
    if rest := tried.given_up(verdict):
        blocks.append(_line(f"Given up on the way: {rest}.", "dim"))
    if (best := tried.best(verdict)) is not None:
        blocks.append(_line(f"To change, for {best.name}:"))
        blocks.append(Padding(_code("\n".join(best.code)), (0, 0, 0, 4)))
    return blocks


def _small(verdict: Verdict) -> list[RenderableType]:
    rows = [Fact("sample", facts.sample_line(verdict))]
    division = verdict.measured.division
    rows += [Fact("processes", facts.division_line(division))] if division else []
    rows += [Fact("trials", tried.trials_line(verdict.trials))] if verdict.trials else []
    rows += listed("left out", facts.left_out(verdict)) + listed("note", verdict.notes)
    return [section("How it was measured"), _facts(tuple(rows)), _line(costs.cost_line(verdict))] + (
        [_line(most, "dim")] if (most := costs.dearest(verdict)) else []
    )


def _facts(rows: tuple[Fact, ...]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", min_width=20, max_width=34)
    grid.add_column()
    for row in rows:
        meaning = safe(f"  {row.meaning}" if row.meaning else "", "dim")
        grid.add_row(safe(row.label), safe(row.value).append_text(meaning))
    return indented(grid)


def _line(text: str, style: str = "") -> RenderableType:
    return indented(safe(text, style))


def _code(text: str) -> Text:
    return Text("".join(c if c.isprintable() or c == "\n" else " " for c in text), style="cyan")
