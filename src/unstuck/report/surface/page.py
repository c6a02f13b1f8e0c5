"""The loss around a point, for people, in a browser: one page that needs nothing but itself."""

from typing import Any

from unstuck.landscape.pictures import View
from unstuck.report.lines import cost_line, subject_line
from unstuck.report.sheet import page, shown
from unstuck.report.surface import facts
from unstuck.report.surface.document import to_json
from unstuck.report.surface.figures import available, figure
from unstuck.report.surface.words import CAPTIONS, PLANES, reading


def to_html(view: View) -> str:
    """Write the whole page."""
    return page(
        "surface.html.j2",
        [_figure(view, name) for name in available(view)],
        document=to_json(view),
        styles=["turning.css"],
        scripts=["turning.js"],
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
    )


def _figure(view: View, name: str) -> dict[str, Any]:
    made = shown(name, figure(view, name), _caption(name))
    return {**made, "turned": "scene" in made["plot"]["layout"]}


def _caption(name: str) -> str:
    """What the picture is, where it comes first, and how to read it."""
    return f"{PLANES[name].meaning} {CAPTIONS[name]}" if name in PLANES else CAPTIONS[name]
