"""How sharp a place is, for people, in a terminal."""

from rich.console import Group, RenderableType

from unstuck.landscape.records import Survey
from unstuck.report import laid
from unstuck.report.facts import Fact, listed
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.numbers import significant
from unstuck.report.sharpness import facts
from unstuck.report.sharpness.words import READING
from unstuck.report.text import as_text


def render(survey: Survey) -> RenderableType:
    """Lay a survey out for `rich.print`; it adapts to the width and to NO_COLOR."""
    blocks: list[RenderableType] = [
        laid.headline("How sharp is it here?", facts.headline(survey), facts.standing(survey), READING),
        laid.section("Where the weights are"),
        laid.line(subject_line(survey.subject)),
        laid.facts(facts.place(survey)),
    ]
    if survey.measures:
        blocks += [laid.section("Sharpness"), _measures(survey)]
    if survey.profiles:
        blocks += [laid.section("Along directions"), _directions(survey)]
    measured = [Fact("sample", facts.sample_line(survey)), Fact("cost", cost_line(survey.cost))]
    measured += listed("interpolated", facts.interpolated(survey))
    measured += listed("left out", facts.left_out(survey))
    return Group(*blocks, laid.section("How it was measured"), laid.facts(measured))


def to_text(survey: Survey, width: int = 100) -> str:
    """Write a survey as plain text of that width, without any terminal code."""
    return as_text(render(survey), width)


def _measures(survey: Survey) -> RenderableType:
    table = laid.table("", "", "slope's share", "if rescaled", "")
    for row in facts.rows(survey):
        meaning = laid.safe(row.meaning, "dim")
        table.add_row(laid.safe(row.label), laid.safe(row.value), row.slope, laid.safe(row.scale), meaning)
    return laid.indented(table)


def _directions(survey: Survey) -> RenderableType:
    table = laid.table("direction", "bend", f"distance to a rise of {significant(survey.rise)}")
    for label, curvature, width in facts.directions(survey):
        table.add_row(laid.safe(label), curvature, width)
    return laid.indented(table)
