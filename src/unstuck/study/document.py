"""A study for programs: its results as JSON and as a table, and in a few lines for a terminal."""

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unstuck.plain import finite
from unstuck.report.numbers import count, seconds, significant
from unstuck.study.records import Result, Table

SCHEMA = 1

_WIDTH = 100


def to_json(results: Sequence[Result]) -> str:
    """Write all results but the rows as JSON, in ASCII; field names are fixed, fields may be added."""
    document = {"schema": SCHEMA, "studies": [_study(result) for result in results]}
    return json.dumps(finite(document), indent=2, allow_nan=False)


def to_csv(table: Table) -> str:
    """Write all rows; what a row does not have is left empty. Numbers are written so that they read back the same."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return text.getvalue()


def to_text(result: Result) -> str:
    """Write what was found, for a terminal."""
    study = result.study
    lines = [f"{study.name}: {study.title}", *_wrapped(f"The lecture says: {study.claim}")]
    for part in result.outcomes:
        lines += _wrapped(f"{part.holds.capitalize()}: {part.sentence}")
        value, low, high = map(significant, (part.value, part.low, part.high))
        lines += _wrapped(f"{part.statistic} {value} ({low} to {high}), bound {significant(part.bound)}", 4)
    kept = f", {result.kept} of them kept from before" if result.kept else ""
    return "\n".join(
        [*lines, *_wrapped(f"{count(result.runs, 'run')}{kept}, {seconds(result.seconds)} of work")]
    )


def _wrapped(text: str, indent: int = 2) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin)


def _study(result: Result) -> dict[str, Any]:
    study = result.study
    return {
        "name": study.name,
        "title": study.title,
        "claim": study.claim,
        "rows": list(study.rows),
        "source": study.source,
        "data": study.data,
        "holds": result.holds.value,
        "outcomes": [asdict(outcome) for outcome in result.outcomes],
        "scale": result.scale.value,
        "seeds": result.seeds,
        "runs": result.runs,
        "seconds": result.seconds,
        "version": result.version,
    }
