"""Batch sizes for people, in a browser: one page that needs nothing but itself."""

from typing import Any

from unstuck.batch.records import Sizing
from unstuck.report.batch import words
from unstuck.report.batch.document import to_json
from unstuck.report.batch.figures import CAPTIONS, FIGURES
from unstuck.report.sheet import page, shown


def to_html(sizing: Sizing) -> str:
    """Write the whole page."""
    return page(
        "batch.html.j2",
        _figures(sizing),
        document=to_json(sizing),
        styles=["run.css"],
        head=words.headline(sizing),
        subject=f"{sizing.present} examples in a batch, {sizing.optimizer or 'no optimizer'}",
        interrupted=sizing.interrupted,
        tables=_tables(sizing),
        facts=words.facts(sizing),
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
    drawn = {name: draw(sizing) for name, draw in FIGURES.items()}
    return [shown(name, figure, CAPTIONS[name]) for name, figure in drawn.items() if figure is not None]
