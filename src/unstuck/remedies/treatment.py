"""What every remedy is: a change of a run, in words, in code, and as it is made on a copy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from unstuck.errors import UnstuckError
from unstuck.findings.records import Cause, Finding
from unstuck.measurements.records import Measurements
from unstuck.remedies.run import Run
from unstuck.training import Training

# What begins all anew, in a user's own words.
ANEW = "model = build_model()  # as at the beginning, and a new optimizer"


class Left(IntEnum):
    """What is left to change in the user's script, where the state that came of a remedy is loaded there.

    Of two changes that are made together the later one counts.
    """

    NOTHING = 0
    """Parameters and the state of the optimizer hold all of it; made twice, it would be another change."""
    BEFORE = 1
    """What the state belongs to: another optimizer, other parameters in it, another type."""
    ALWAYS = 2
    """How each step is made, which no state holds."""


class NotApplicableError(UnstuckError):
    """A remedy has no place here; the message says why."""


@dataclass(frozen=True)
class Situation:
    """What a remedy may look at to make its choice.

    Attributes:
        training: The run, only to be read.
        measured: What was measured where it is stuck.
        findings: What was made of that.
        seed: Of all randomness.
        horizon: Examples whose gradients a continuation may evaluate, what a remedy costs included.
    """

    training: Training
    measured: Measurements
    findings: Sequence[Finding]
    seed: int
    horizon: float


@dataclass(frozen=True)
class Treatment:
    """One change of a run, ready to be made.

    Attributes:
        name: In kebab-case; several variants of one remedy share it.
        treats: The causes that it is made for.
        change: What is changed, in a few words.
        code: The lines of code that make the change in the user's script.
        source: Where it comes from.
        in_place: Whether the training can be left so; else the user's code has to be changed first.
        rated: Whether it changes the learning rate, so that no other change of that goes with it.
        left: What of it the state of a training cannot hold.
        apply: Makes the change on a copy of the run; raises `NotApplicableError` where it has no place.
    """

    name: str
    treats: frozenset[Cause]
    change: str
    code: tuple[str, ...]
    source: str
    apply: Callable[[Run], None]
    in_place: bool = True
    rated: bool = False
    left: Left = Left.NOTHING


Propose = Callable[[Situation], Sequence[Treatment]]


def together(first: Treatment, second: Treatment) -> Treatment:
    """Make both changes, in this order; it is a variant of the first."""

    def apply(run: Run) -> None:
        first.apply(run)
        second.apply(run)

    return replace(
        first,
        change=f"{first.change}, and {second.change}",
        code=first.code + second.code,
        source=f"{first.source}; {second.source}",
        apply=apply,
        in_place=first.in_place and second.in_place,
        rated=first.rated or second.rated,
        left=max(first.left, second.left),
    )
