"""The loss around a point, for people, in a browser: one page that needs nothing but itself."""

import base64
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unstuck.landscape.pictures import View
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.sheet import digest, environment, plotted, source
from unstuck.report.surface import facts
from unstuck.report.surface.document import to_json
from unstuck.report.surface.figures import available, figure
from unstuck.report.surface.words import CAPTIONS, PLANES, reading


def to_html(view: View) -> str:
    """Write the whole page. It loads nothing: the figures, their library and the data are inside."""
    scripts = [get_plotlyjs(), source("page.js"), source("turning.js")]
    document = to_json(view)
    return (
        environment()
        .get_template("surface.html.j2")
        .render(
            subject=subject_line(view.subject),
            model=view.subject.model,
            headline=facts.headline(view),
            standing=facts.standing(view),
            reading=reading(view.subject.parameters),
            place=facts.place(view),
            rows=facts.rows(view),
            sample=facts.sample_line(view),
            cost=cost_line(view.cost),
            interpolated=facts.interpolated(view),
            left_out=facts.left_out(view),
            style=Markup(source("page.css") + source("turning.css")),  # noqa: S704 - our own files
            scripts=[Markup(script) for script in scripts],  # noqa: S704 - Plotly's own file, and ours
            hashes=[digest(script) for script in scripts],
            figures=_figures(view),
            document=document,
            download=base64.b64encode(document.encode()).decode(),
        )
    )


def _figures(view: View) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for name in available(view):
        title, plot = plotted(figure(view, name))
        turned = "scene" in plot["layout"]
        shown.append(
            {"name": name, "title": title, "caption": _caption(name), "turned": turned, "plot": plot}
        )
    return shown


def _caption(name: str) -> str:
    """What the picture is, where it comes first, and how to read it."""
    return f"{PLANES[name].meaning} {CAPTIONS[name]}" if name in PLANES else CAPTIONS[name]
