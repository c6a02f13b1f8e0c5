"""What going on from here gains, as before and with other steps, on the same batches in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Arm:
    """The run continued on a copy under one change.

    Attributes:
        name: "going on", "rate" (the learning rate times `factor`) or "whole" (each step on the gradient of
            the whole sample).
        factor: Multiple of the learning rate.
        steps: How many steps were made.
        gain: Decrease of the loss, weight decay apart, averaged over the last half of the looks, judged on held-out
            batches.
        trend: Decrease from the first half of the looks to the last: what a single bad starting point cannot feign.
        extra: The gain less that of going on, batch by batch.
        marks: Numbers of steps after which the loss was looked at, ascending, 0 first.
        losses: The loss there, on the half that judges.
        values: The loss of each step's batch, before the step.
        slopes: Norm of the gradient at each step.
        paired: By how much each batch's own loss, before the step on it, is lower in the last whole pass than in the
            first; None where fewer than two passes over all the data were made.
        shrunk: Decrease of what weight decay adds to the loss, which is no part of the gains.
        led: The highest learning rate on the way over that of the beginning, where the run's schedule raises it.
    """

    name: str
    factor: float
    steps: int
    gain: Estimate
    trend: Estimate
    extra: Estimate
    marks: tuple[int, ...]
    losses: tuple[float, ...]
    values: tuple[float, ...] = ()
    slopes: tuple[float, ...] = ()
    paired: Estimate | None = None
    shrunk: float = 0.0
    led: float = 1.0

    @property
    def descent(self) -> Estimate:
        """Decrease of the loss with weight decay: what is compared with routes down."""
        return replace(self.gain, value=self.gain.value + self.shrunk)


def descending(losses: Sequence[float]) -> bool:
    """Whether each lies below the one before."""
    return all(after < before for before, after in pairwise(losses))


@dataclass(frozen=True)
class Continuations:
    """Going on as before, beside going on with one change each.

    Attributes:
        arms: "going on" first.
        epochs: How many times the batches that were trained on were passed over.
    """

    arms: tuple[Arm, ...]
    epochs: float

    @property
    def going_on(self) -> Arm:
        """The run as it is."""
        return self.arms[0]

    def rate(self, factor: float) -> Arm | None:
        """The arm whose learning rate is that multiple, if it was tried."""
        return next((arm for arm in self.arms if arm.name == "rate" and arm.factor == factor), None)

    def named(self, name: str) -> Arm | None:
        """The first arm of that name, if it was tried."""
        return next((arm for arm in self.arms if arm.name == name), None)
