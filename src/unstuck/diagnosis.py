"""The answer, in every form that somebody may want it."""

from dataclasses import dataclass

from unstuck.findings.records import Cause, Finding, Point, Remedy, Verdict
from unstuck.report.answer import Answer, Forms
from unstuck.report.document import to_json
from unstuck.report.figures import figure
from unstuck.report.page import to_html, to_notebook
from unstuck.report.terminal import render, to_text


@dataclass(frozen=True, repr=False)
class Diagnosis(Answer):
    """What is wrong, how sure that is, and what it rests on; `print` it, or write it as a page or as JSON.

    Attributes:
        verdict: Everything, as plain records.
        interrupted: Ctrl-C ended it; the verdict holds what was known by then.
    """

    _forms = Forms(to_text, render, to_html, to_json, figure, to_notebook)

    verdict: Verdict
    interrupted: bool = False

    @property
    def _record(self) -> Verdict:
        return self.verdict

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
