"""The spectrum for people, in a terminal."""

import math

from rich.console import Group, RenderableType

from unstuck.landscape.bends import Bending, Spread
from unstuck.report import laid
from unstuck.report.facts import Fact, listed
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.spectrum import facts
from unstuck.report.spectrum.words import LAYERS, READING, TITLES
from unstuck.report.text import as_text

_WIDTH = 30  # of the longest bar, in characters


def render(bending: Bending) -> RenderableType:
    """Lay it out for `rich.print`; it adapts to the width and to NO_COLOR."""
    blocks: list[RenderableType] = [
        laid.headline(
            "How does the loss bend here?", facts.headline(bending), facts.standing(bending), READING
        ),
        laid.section("Where the weights are"),
        laid.line(subject_line(bending.subject)),
        laid.facts(facts.place(bending)),
    ]
    for spread in bending.spreads:
        blocks += [laid.section(TITLES[spread.name]), laid.facts(facts.facts(bending, spread)), laid.line("")]
        blocks += [_histogram(spread), laid.line(""), _pairs(spread)]
    if bending.blocks:
        blocks += [laid.section(LAYERS), _blocks(bending)]
    measured = [Fact("sample", facts.sample_line(bending)), Fact("cost", cost_line(bending.cost))]
    measured += listed("left out", facts.left_out(bending))
    return Group(*blocks, laid.section("How it was measured"), laid.facts(measured))


def to_text(bending: Bending, width: int = 100) -> str:
    """Write it as plain text of that width, without any terminal code."""
    return as_text(render(bending), width)


def _histogram(spread: Spread) -> RenderableType:
    """Bars as long as the logarithm of one more than the number, since one eigenvalue counts among thousands."""
    rows = facts.histogram(spread)
    longest = max((number for _, _, number in rows), default=0.0)
    table = laid.table("between", "eigenvalues", "")
    table.columns[-1].header = "(bars on a log scale)"
    for interval, number, value in rows:
        bar = round(_WIDTH * math.log1p(value) / math.log1p(longest)) if longest else 0
        table.add_row(laid.safe(interval), laid.safe(number), "#" * max(bar, 1))
    return laid.indented(table)


def _blocks(bending: Bending) -> RenderableType:
    table = laid.table("", "parameters", "lowest", "highest", "trace", "")
    for row in facts.blocks(bending):
        cells = (row.parameters, row.lowest, row.highest, row.trace, row.remark)
        table.add_row(laid.safe(row.name), *map(laid.safe, cells))
    return laid.indented(table)


def _pairs(spread: Spread) -> RenderableType:
    table = laid.table("", "lowest", "highest")
    for pair in facts.pairs(spread):
        table.add_row(str(pair.number), laid.safe(pair.lowest), laid.safe(pair.highest))
    return laid.indented(table)
