"""The answer, in every form that somebody may want it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.findings.records import Cause, Finding, Point, Remedy, Verdict
from unstuck.plain import written
from unstuck.report.document import to_json
from unstuck.report.figures import figure
from unstuck.report.page import to_html, to_notebook
from unstuck.report.terminal import render, to_text


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, how sure that is, and what it rests on; `print` it, or write it as a page or as JSON.

    Attributes:
        verdict: Everything, as plain records.
        interrupted: Ctrl-C ended it; the verdict holds what was known by then.
    """

    verdict: Verdict
    interrupted: bool = False

    @property
    def cause(self) -> Cause | None:
        """The cause whose removal gains most; None when the evidence names none."""
        return self.verdict.cause

    @property
    def confidence(self) -> float:
        """Probability that `cause` holds; 0 without one."""
        return self.verdict.confidence

    @property
    def point(self) -> Point:
        """The kind of point the parameters are at, with its decisive numbers."""
        return self.verdict.point

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every cause that holds, the strongest first, each with its evidence."""
        return self.verdict.findings

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What was tried, the best first."""
        return self.verdict.remedies

    @property
    def complete(self) -> bool:
        """Whether every question was answered; False after Ctrl-C or when the budget was too small."""
        return self.verdict.measured.complete

    def render(self) -> Any:
        """Give what a person reads in a terminal, as a rich renderable."""
        return render(self.verdict)

    def to_html(self, path: str | Path | None = None) -> str:
        """Give the report as one page that works offline; with `path`, write it there too."""
        return written(to_html(self.verdict), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Give the diagnosis as JSON, schema 1; with `path`, write it there too."""
        return written(to_json(self.verdict), path)

    def figure(self, name: str) -> Any:
        """Give one figure of the report, a Plotly figure.

        Raises:
            MeasurementError: There is no figure of that name; the message lists those there are.
        """
        return figure(self.verdict, name)

    def __str__(self) -> str:
        return to_text(self.verdict)

    def _repr_html_(self) -> str:
        return to_notebook(self.verdict)
