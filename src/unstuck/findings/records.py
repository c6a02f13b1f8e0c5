"""The words for what is wrong, and what a diagnosis is made of."""

from dataclasses import dataclass
from enum import StrEnum

from unstuck.curvature.records import Certificate
from unstuck.measurements.records import Cost, Measurements
from unstuck.measurements.records.trials import Trials


class Cause(StrEnum):
    """Why a loss has stopped going down: the closed vocabulary."""

    HEALTHY = "healthy"
    SADDLE_POINT = "saddle-point"
    LOCAL_MINIMUM = "local-minimum"
    LOCAL_MAXIMUM = "local-maximum"
    PLATEAU = "plateau"
    STEP_TOO_LARGE = "step-too-large"
    STEP_TOO_SMALL = "step-too-small"
    ILL_CONDITIONED = "ill-conditioned"
    GRADIENT_NOISE = "gradient-noise"
    VANISHING_GRADIENT = "vanishing-gradient"
    DEAD_UNITS = "dead-units"
    SATURATED_UNITS = "saturated-units"
    STALE_SECOND_MOMENT = "stale-second-moment"
    PRECISION_STALL = "precision-stall"
    NON_FINITE = "non-finite"
    FROZEN_PARAMETERS = "frozen-parameters"
    MISMATCHED_LOSS = "mismatched-loss"
    UNINFORMATIVE_LABELS = "uninformative-labels"
    UNSHUFFLED_DATA = "unshuffled-data"
    GENERALIZATION_GAP = "generalization-gap"


class Kind(StrEnum):
    """What kind of point the parameters are at."""

    SADDLE = "saddle"
    MINIMUM = "minimum"
    DEGENERATE_MINIMUM = "degenerate-minimum"
    MAXIMUM = "maximum"
    PLATEAU = "plateau"
    GRADIENT_FLAT = "gradient-flat"
    NOT_CRITICAL = "not-critical"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Point:
    """The point the run is at; numbers that were not measured are None."""

    kind: Kind
    loss: float
    gradient_norm: float
    lambda_min: float | None
    lambda_max: float | None
    minimum_ratio: float | None
    certificate: Certificate | None


@dataclass(frozen=True)
class Evidence:
    """One measured number that speaks for a finding; `stderr` is None where sampling plays no part."""

    name: str
    value: float
    stderr: float | None = None


@dataclass(frozen=True)
class Finding:
    """One cause that holds here, how sure it is, and why.

    Attributes:
        cause: A word of the vocabulary.
        confidence: Probability that the cause holds, between 0 and 1; in a diagnosis no more than what findings of
            its kind have proved on new trainings.
        evidence: The numbers it rests on, the decisive one first.
        explanation: Two sentences that a student understands.
        advice: One sentence: what to do about it.
    """

    cause: Cause
    confidence: float
    evidence: tuple[Evidence, ...]
    explanation: str
    advice: str


@dataclass(frozen=True)
class Remedy:
    """A change that was tried from the very state the run is in, against going on as before.

    Attributes:
        name: In kebab-case.
        change: What is changed, in a few words.
        gain: (loss of going on - loss under the remedy) / loss of going on, at equal gradient evaluations.
        low: Lower end of its interval over several orders of the batches; all intervals hold at once with 95 %.
        high: Upper end.
        code: The lines of code that make the change in the user's script.
        treats: The causes it is made for.
    """

    name: str
    change: str
    gain: float
    low: float
    high: float
    code: tuple[str, ...] = ()
    treats: tuple[Cause, ...] = ()

    @property
    def helps(self) -> bool:
        """Whether it is proved to help."""
        return self.low > 0.0


@dataclass(frozen=True)
class Verdict:
    """All that a diagnosis says, as plain data.

    Attributes:
        cause: The cause whose removal gains most, or None: not sure.
        confidence: Of that cause; of being undecided it says nothing and is 0.
        point: What kind of point this is.
        findings: Every cause that holds, the strongest first.
        remedies: What was tried, the best first.
        measured: Everything that was measured.
        cost: What it cost.
        notes: What a reader must know to trust the numbers, one sentence each.
        trials: The trials that the remedies rest on, or None when nothing was tried.
    """

    cause: Cause | None
    confidence: float
    point: Point
    findings: tuple[Finding, ...]
    remedies: tuple[Remedy, ...]
    measured: Measurements
    cost: Cost
    notes: tuple[str, ...] = ()
    trials: Trials | None = None
