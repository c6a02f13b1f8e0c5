"""How sharp a place is, for people, in a browser: one page that needs nothing but itself."""

from typing import Any

from unstuck.landscape.records import Survey
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.numbers import significant
from unstuck.report.sharpness import facts
from unstuck.report.sharpness.document import to_json
from unstuck.report.sharpness.figures import FIGURES
from unstuck.report.sharpness.words import CAPTIONS, READING
from unstuck.report.sheet import page, shown


def to_html(survey: Survey) -> str:
    """Write the whole page."""
    return page(
        "sharpness.html.j2",
        _figures(survey),
        document=to_json(survey),
        subject=subject_line(survey.subject),
        model=survey.subject.model,
        headline=facts.headline(survey),
        standing=facts.standing(survey),
        reading=READING,
        place=facts.place(survey),
        rows=facts.rows(survey),
        directions=facts.directions(survey),
        rise=significant(survey.rise),
        sample=facts.sample_line(survey),
        cost=cost_line(survey.cost),
        interpolated=facts.interpolated(survey),
        left_out=facts.left_out(survey),
    )


def _figures(survey: Survey) -> list[dict[str, Any]]:
    if not survey.profiles:
        return []
    return [shown(name, draw(survey), CAPTIONS[name]) for name, draw in FIGURES.items()]
