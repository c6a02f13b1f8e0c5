"""The spectrum for people, in a browser: one page that needs nothing but itself."""

import base64
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unstuck.landscape.bends import Bending
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.sheet import digest, environment, plotted, source
from unstuck.report.spectrum import facts
from unstuck.report.spectrum.document import to_json
from unstuck.report.spectrum.figures import figure
from unstuck.report.spectrum.words import CAPTIONS, READING


def to_html(bending: Bending) -> str:
    """Write the whole page. It loads nothing: the figures, their library and the data are inside."""
    plotly, draw = get_plotlyjs(), source("page.js")
    document, spreads, layers = to_json(bending), _spreads(bending), _layers(bending)
    return (
        environment()
        .get_template("spectrum.html.j2")
        .render(
            subject=subject_line(bending.subject),
            model=bending.subject.model,
            headline=facts.headline(bending),
            standing=facts.standing(bending),
            reading=READING,
            place=facts.place(bending),
            spreads=spreads,
            layers=layers,
            blocks=facts.blocks(bending),
            sample=facts.sample_line(bending),
            cost=cost_line(bending.cost),
            left_out=facts.left_out(bending),
            style=Markup(source("page.css") + source("turning.css")),  # noqa: S704 - our own files
            plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
            draw=Markup(draw),  # noqa: S704 - our own file
            hashes=[digest(plotly), digest(draw)],
            figures=[*spreads, *layers],
            document=document,
            download=base64.b64encode(document.encode()).decode(),
        )
    )


def _spreads(bending: Bending) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for spread in bending.spreads:
        title, plot = plotted(figure(bending, spread.name))
        shown.append(
            {
                "name": spread.name,
                "title": title,
                "caption": CAPTIONS[spread.name],
                "plot": plot,
                "facts": [vars(fact) for fact in facts.facts(bending, spread)],
                "pairs": [vars(pair) for pair in facts.pairs(spread)],
                "bins": [(interval, number) for interval, number, _ in facts.histogram(spread)],
            }
        )
    return shown


def _layers(bending: Bending) -> list[dict[str, Any]]:
    """The figure of single layers, where there is one."""
    if not bending.blocks:
        return []
    title, plot = plotted(figure(bending, "blocks"))
    return [{"name": "blocks", "title": title, "caption": CAPTIONS["blocks"], "plot": plot}]
