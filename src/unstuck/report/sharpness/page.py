"""How sharp a place is, for people, in a browser: one page that needs nothing but itself."""

import base64
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unstuck.landscape.records import Survey
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.numbers import significant
from unstuck.report.sharpness import facts
from unstuck.report.sharpness.document import to_json
from unstuck.report.sharpness.figures import FIGURES
from unstuck.report.sharpness.words import CAPTIONS, READING
from unstuck.report.sheet import digest, environment, plotted, source


def to_html(survey: Survey) -> str:
    """Write the whole page. It loads nothing: the figures, their library and the data are inside."""
    plotly, draw = get_plotlyjs(), source("page.js")
    document = to_json(survey)
    return (
        environment()
        .get_template("sharpness.html.j2")
        .render(
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
            style=Markup(source("page.css")),  # noqa: S704 - our own file
            plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
            draw=Markup(draw),  # noqa: S704 - our own file
            hashes=[digest(plotly), digest(draw)],
            figures=_figures(survey),
            document=document,
            download=base64.b64encode(document.encode()).decode(),
        )
    )


def _figures(survey: Survey) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for name, draw in FIGURES.items() if survey.profiles else ():
        title, plot = plotted(draw(survey))
        shown.append({"name": name, "title": title, "caption": CAPTIONS[name], "plot": plot})
    return shown
