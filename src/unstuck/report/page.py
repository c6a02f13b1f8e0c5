"""A verdict for people, in a browser: one page that needs nothing but itself, and a notebook's summary."""

import base64
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unstuck.findings.records import Verdict
from unstuck.report import costs, eigenvalues, facts, headline, tables, tried
from unstuck.report.captions import caption
from unstuck.report.document import to_json
from unstuck.report.figures import available, figure, telling
from unstuck.report.sheet import digest, environment, plotted, source

FULL_BAR_AT_LEAST = 0.01  # of the loss, as in the terminal: a gain of nothing must look like nothing


def to_html(verdict: Verdict) -> str:
    """Write the whole page. It loads nothing: the figures, their library and the data are inside."""
    plotly, draw = get_plotlyjs(), source("page.js")
    document = to_json(verdict)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            **_contents(verdict),
            style=Markup(source("page.css")),  # noqa: S704 - our own file
            plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
            draw=Markup(draw),  # noqa: S704 - our own file
            hashes=[digest(plotly), digest(draw)],
            figures=_figures(verdict),
            document=document,
            download=base64.b64encode(document.encode()).decode(),
        )
    )


def to_notebook(verdict: Verdict) -> str:
    """Write the summary that a notebook shows: what it is, what to do, where a decrease can come from."""
    return environment().get_template("notebook.html.j2").render(**_contents(verdict))


def _contents(verdict: Verdict) -> dict[str, Any]:
    rows = facts.ways(verdict)
    return {
        "verdict": verdict,
        "head": headline.headline(verdict),
        "subject": facts.subject_line(verdict),
        "others": headline.others(verdict),
        "others_title": headline.others_title(verdict),
        "place": facts.place(verdict),
        "rests_on": () if (main := headline.main_finding(verdict)) is None else facts.evidence(main),
        "ways": rows,
        "full": max(FULL_BAR_AT_LEAST, *(way.share for way in rows), 0.0),
        "groups": tables.groups(verdict),
        "tables": tables.tables(verdict),
        "left_out": facts.left_out(verdict),
        "broken": verdict.measured.non_finite is not None,
        "curvature": eigenvalues.eigenvalue_facts(verdict),
        "curvature_sentence": (
            eigenvalues.curvature_gap(verdict)
            if verdict.measured.spectrum is None
            else eigenvalues.spectrum_sentence(verdict.measured.spectrum)
        ),
        "tried": tried.tried(verdict),
        "best": tried.best(verdict),
        "trials": None if verdict.trials is None else tried.trials_line(verdict.trials),
        "untried": () if verdict.trials is None else verdict.trials.untried,
        "sample": facts.sample_line(verdict),
        "division": facts.division_line(division) if (division := verdict.measured.division) else "",
        "cost": costs.cost_line(verdict),
    }


def _figures(verdict: Verdict) -> list[dict[str, Any]]:
    """Title and caption go into the page's own text, where they wrap; the rest is for Plotly."""
    shown: list[dict[str, Any]] = []
    first = telling(verdict)
    for name in available(verdict):
        title, plot = plotted(figure(verdict, name))
        shown.append(
            {
                "name": name,
                "title": title,
                "telling": name in first,
                "caption": caption(name, whole=_whole(verdict)),
                "plot": plot,
            }
        )
    return shown


def _whole(verdict: Verdict) -> bool:
    return verdict.measured.spectrum is not None and verdict.measured.spectrum.exact
