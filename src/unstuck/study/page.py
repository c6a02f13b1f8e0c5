"""A study for people, in a browser: a page each, and one that shows them all. They need nothing but themselves."""

from collections.abc import Sequence
from typing import Any

from unstuck.report.numbers import count, seconds, significant
from unstuck.report.sheet import page, shown
from unstuck.study.records import Drawing, Holds, Outcome, Result, Scale

_TONES = {Holds.YES: "good", Holds.NO: "act", Holds.UNSURE: "unsure"}
_STYLES = ("study.css",)


def to_html(result: Result, *, index: bool) -> str:
    """Write the page of one study; `index` says whether it stands beside the page of all."""
    study = result.study
    figures = [_figure(drawing) for drawing in study.draw(result.table)]
    return page(
        "study.html.j2",
        figures,
        styles=_STYLES,
        study=study,
        sheets=study.tabulate(result.table),
        index=index,
        tone=_TONES[result.holds],
        verdict=result.holds.value,
        parts=[_part(outcome) for outcome in result.outcomes],
        command=command((study.name,), result),
        csv=f"{study.name}.csv",
        facts={
            "rows": " · ".join(study.rows),
            "runs": f"{count(result.runs, 'run')} in {seconds(result.seconds)} of work",
            "table": count(len(result.table), "row"),
            "version": result.version,
        },
    )


def gallery(results: Sequence[Result]) -> str:
    """Write the page of all studies, each with its first figure."""
    studies = [_entry(result) for result in results]
    found = [sum(result.holds is holds for result in results) for holds in Holds]
    return page(
        "gallery.html.j2",
        [entry["figure"] for entry in studies if entry["figure"]],
        styles=_STYLES,
        studies=studies,
        summary=(
            f"{count(len(results), 'claim')} of the lecture, tested: {found[0]} hold, {found[1]} do not hold as "
            f"stated, {found[2]} cannot be seen at this scale."
        ),
        command=command(("all",), results[0]),
    )


def command(names: Sequence[str], result: Result) -> str:
    """Write the command that makes the same again."""
    given = f"unstuck study {' '.join(names)}"
    if result.scale is not Scale.SMALL:
        given += f" --scale {result.scale}"
    if result.seeds != result.study.seeds[result.scale]:
        given += f" --seeds {result.seeds}"
    return given


def _entry(result: Result) -> dict[str, Any]:
    drawings = result.study.draw(result.table)
    figure = _figure(drawings[0]) if drawings else None
    if figure is not None:
        figure["name"] = f"{result.study.name}-{figure['name']}"
    return {
        "name": result.study.name,
        "title": result.study.title,
        "claim": result.study.claim,
        "tone": _TONES[result.holds],
        "verdict": result.holds.value,
        "parts": [_part(outcome) for outcome in result.outcomes],
        "figure": figure,
    }


def _figure(drawing: Drawing) -> dict[str, Any]:
    return shown(drawing.name, drawing.figure, drawing.caption)


def _part(outcome: Outcome) -> dict[str, str]:
    return {
        "part": outcome.part,
        "holds": outcome.holds.value,
        "tone": _TONES[outcome.holds],
        "sentence": outcome.sentence,
        "statistic": outcome.statistic,
        "value": significant(outcome.value),
        "interval": f"{significant(outcome.low)} to {significant(outcome.high)}",
        "bound": significant(outcome.bound),
    }
