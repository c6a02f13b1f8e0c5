"""The spectrum for people, in a browser: one page that needs nothing but itself."""

from typing import Any

from unstuck.landscape.bends import Bending
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.sheet import page, shown
from unstuck.report.spectrum import facts
from unstuck.report.spectrum.document import to_json
from unstuck.report.spectrum.figures import figure
from unstuck.report.spectrum.words import CAPTIONS, READING


def to_html(bending: Bending) -> str:
    """Write the whole page."""
    spreads, layers = _spreads(bending), _layers(bending)
    return page(
        "spectrum.html.j2",
        [*spreads, *layers],
        document=to_json(bending),
        styles=["turning.css"],
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
    )


def _spreads(bending: Bending) -> list[dict[str, Any]]:
    return [
        shown(
            spread.name,
            figure(bending, spread.name),
            CAPTIONS[spread.name],
            facts=[vars(fact) for fact in facts.facts(bending, spread)],
            pairs=[vars(pair) for pair in facts.pairs(spread)],
            bins=[(interval, number) for interval, number, _ in facts.histogram(spread)],
        )
        for spread in bending.spreads
    ]


def _layers(bending: Bending) -> list[dict[str, Any]]:
    """The figure of single layers, where there is one."""
    return [shown("blocks", figure(bending, "blocks"), CAPTIONS["blocks"])] if bending.blocks else []
