"""How sure a reader is told to be: no surer than findings of the same kind have proved right on new trainings.

What the numbers say is one thing, that a check has overlooked nothing is another, and only trainings that nobody
planned for can tell. Checks, and what ranks them, weigh the numbers; what is told is capped here, in the end.
"""

from dataclasses import dataclass, replace

from unstuck.findings.records import Cause, Verdict


@dataclass(frozen=True)
class Kept:
    """First answers that were sure by their numbers, on trainings whose causes had been written down before.

    Attributes:
        right: How many of them were right.
        of: How many there were.
    """

    right: int
    of: int

    @property
    def chance(self) -> float:
        """That the next one is right: (right + 1) / (of + 2), the rule of succession (Laplace, 1774)."""
        return (self.right + 1) / (self.of + 2)


# What is inferred from where the run goes on, and from what nothing that was tried has gained.
INFERRED = frozenset({
    Cause.HEALTHY,
    Cause.STEP_TOO_LARGE,
    Cause.STEP_TOO_SMALL,
    Cause.GRADIENT_NOISE,
    Cause.LOCAL_MINIMUM,
    Cause.PLATEAU,
    Cause.UNINFORMATIVE_LABELS,
})  # fmt: skip

# A number that is not finite is a fact, and curvature gives a certificate with a probability of its own.
CERTIFIED = frozenset({Cause.NON_FINITE, Cause.SADDLE_POINT, Cause.LOCAL_MAXIMUM})

# The counts are those of docs/decisions/0005-causes.md. What is not inferred is seen in the loss, the layers, the
# optimizer or the data themselves.
OF_INFERRED, OF_SEEN = Kept(81, 94), Kept(42, 43)


def as_told(verdict: Verdict) -> Verdict:
    """The same verdict, as sure as may be told."""
    confidence = 0.0 if verdict.cause is None else min(verdict.confidence, most(verdict.cause))
    findings = tuple(
        replace(finding, confidence=min(finding.confidence, most(finding.cause)))
        for finding in verdict.findings
    )
    return replace(verdict, confidence=confidence, findings=findings)


def most(cause: Cause) -> float:
    """The most that may be told of a finding of this cause."""
    if cause in CERTIFIED:
        return 1.0
    return (OF_INFERRED if cause in INFERRED else OF_SEEN).chance
