"""Batch sizes for people, in a browser: one page that needs nothing but itself."""

import base64
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unstuck.batch.records import Sizing
from unstuck.report.batch import words
from unstuck.report.batch.document import to_json
from unstuck.report.batch.figures import CAPTIONS, FIGURES
from unstuck.report.sheet import digest, environment, plotted, source


def to_html(sizing: Sizing) -> str:
    """Write the whole page. It loads nothing: the figures, their library and the data are inside."""
    plotly, draw = get_plotlyjs(), source("page.js")
    document = to_json(sizing)
    return (
        environment()
        .get_template("batch.html.j2")
        .render(
            head=words.headline(sizing),
            subject=f"{sizing.present} examples in a batch, {sizing.optimizer or 'no optimizer'}",
            interrupted=sizing.interrupted,
            tables=_tables(sizing),
            facts=words.facts(sizing),
            style=Markup(source("page.css") + source("run.css")),  # noqa: S704 - our own files
            plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
            draw=Markup(draw),  # noqa: S704 - our own file
            hashes=[digest(plotly), digest(draw)],
            figures=_figures(sizing),
            download=base64.b64encode(document.encode()).decode(),
        )
    )


def _tables(sizing: Sizing) -> list[dict[str, Any]]:
    small, every = words.small_against_large(sizing), words.every_size(sizing)
    layers = words.every_layer(sizing)
    made = [
        {"title": "Small against large", "heads": ("", *small[0], ""), "rows": small[1]},
        {"title": "Every size", "heads": ("size", *every[0]), "rows": every[1]},
        {"title": "Noise by parameter tensor", "heads": ("", *layers[0]), "rows": layers[1]},
    ]
    return [table for table in made if table["rows"]]


def _figures(sizing: Sizing) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for name, draw in FIGURES.items():
        figure = draw(sizing)
        if figure is not None:
            title, plot = plotted(figure)
            shown.append({"name": name, "title": title, "caption": CAPTIONS[name], "plot": plot})
    return shown
