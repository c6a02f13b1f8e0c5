"""A verdict for people, in a browser: one page that needs nothing but itself, and a notebook's summary."""

from typing import Any

from unstuck.findings.records import Verdict
from unstuck.report import costs, eigenvalues, facts, headline, tables, tried
from unstuck.report.captions import caption
from unstuck.report.document import to_json
from unstuck.report.figures import available, figure, telling
from unstuck.report.sheet import environment, page, shown

FULL_BAR_AT_LEAST = 0.01  # of the loss, as in the terminal: a gain of nothing must look like nothing


def to_html(verdict: Verdict) -> str:
    """Write the whole page."""
    return page("page.html.j2", _figures(verdict), document=to_json(verdict), **_contents(verdict))


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
    first, spectrum = telling(verdict), verdict.measured.spectrum
    whole = spectrum is not None and spectrum.exact
    return [
        shown(name, figure(verdict, name), caption(name, whole=whole), telling=name in first)
        for name in available(verdict)
    ]
