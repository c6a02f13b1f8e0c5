"""One continuation of the run, a look at its loss now and then, and what it has cost."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import TrainingError
from unstuck.measurements.records.trials import Curve
from unstuck.objective import ledger as price
from unstuck.objective.sampling import Batch
from unstuck.remedies.run import Run, Update
from unstuck.trials.side import Side

# Shares of the way at which the loss is looked at; those of the last tell how it ends.
LOOKS, LAST = (0.25, 0.5, 0.75, 0.85, 0.925, 1.0), 3


@dataclass(frozen=True)
class Held:
    """Batches of the sample that every continuation is looked at on, and their shares of the examples."""

    indices: tuple[int, ...]
    weights: tuple[float, ...]

    def look(self, run: Run, theta: Float[Tensor, " n"]) -> list[float]:
        """Give the loss of each of them; infinite where it cannot be had."""
        try:
            return run.objective.bare.values(theta, self.indices)
        except TrainingError:  # far off some losses raise where others give NaN
            return [math.inf] * len(self.indices)

    def mean(self, values: Sequence[float]) -> float:
        """The loss over all of them."""
        total = math.fsum(self.weights)
        mean = sum(weight * value for weight, value in zip(self.weights, values, strict=True)) / total
        return mean if math.isfinite(mean) else math.inf


@dataclass(frozen=True)
class Ended:
    """What is kept of a continuation.

    Attributes:
        held: The loss of each held batch at the end: the mean of the last looks.
        validation: The loss of each validation batch at the end; empty where there are none.
        setup: Examples whose gradients the remedy cost before its first step.
        curve: The loss on the way.
    """

    held: tuple[float, ...]
    validation: tuple[float, ...]
    setup: float
    curve: Curve


def nowhere(held: int, validation: int) -> Ended:
    """What is kept of a run that cannot go on: its parameters are NaN."""
    curve = Curve((0.0,), (math.inf,), math.inf, math.inf if validation else None)
    return Ended((math.inf,) * held, (math.inf,) * validation, 0.0, curve)


@dataclass
class Course:
    """A run on its way through the batches of one order.

    Args:
        run: As a remedy has made it; it is used up.
        batches: The order.
        horizon: Examples whose gradients may be evaluated, what the remedy cost included.
        held: What it is looked at on.
        setup: What the remedy has cost.
        side: The validation data and the model's buffers on the way, where they are to be followed.
    """

    run: Run
    batches: Sequence[Batch]
    horizon: float
    held: Held
    setup: float = 0.0
    side: Side | None = None
    spent: float = field(init=False)
    looks: list[tuple[float, list[float]]] = field(
        init=False, default_factory=list[tuple[float, list[float]]]
    )

    def __post_init__(self) -> None:
        self.spent = self.setup
        self._updates = iter(self.run.updates(self.batches))
        self._next: Update | None = next(self._updates, None)
        self._mean: Tensor | None = None
        self._averaged = 0
        self._lost = False
        self._marks = [self.horizon * share for share in LOOKS if self.horizon * share > self.setup]
        self._look_again()

    @property
    def share(self) -> float:
        """Which part of the way is behind."""
        return self.spent / self.horizon

    def advance(self, share: float, over: Callable[[], bool]) -> None:
        """Go on until that share of the way is behind, or the time is over."""
        for mark in [mark for mark in self._marks if mark <= share * self.horizon * (1.0 + 1e-9)]:
            if not self._move(mark, over):
                return
            self._marks.remove(mark)
            self._look_again()

    def end(self) -> float:
        """The loss it has come to: the mean of the last looks."""
        return self.held.mean(self._last())

    def validation(self) -> float | None:
        """The loss of the validation data where it has come to; None where there are none."""
        return None if self.side is None else self.side.mean(self._validated())

    def ended(self, batch: float) -> Ended:
        """Give what is kept of it; `batch` is how many examples a batch has."""
        validation = self._validated()
        curve = Curve(
            spent=tuple(spent / batch for spent, _ in self.looks),
            losses=tuple(self.held.mean(values) for _, values in self.looks),
            end=self.end(),
            validation=None if self.side is None else self.side.mean(validation),
        )
        return Ended(tuple(self._last()), tuple(validation), self.setup, curve)

    def theta(self) -> Float[Tensor, " n"]:
        """The parameters it has come to: their mean over the steps, where the remedy asks for that."""
        return self.run.theta() if self._mean is None else self._mean

    def _last(self) -> list[float]:
        last = [values for _, values in self.looks[-LAST:]]
        return [math.fsum(column) / len(last) for column in zip(*last, strict=True)]

    def _validated(self) -> list[float]:
        if self.side is None:
            return []
        if self._lost:
            return [math.inf] * len(self.side.weights)
        return self.side.look(self.run, self.theta())

    def _move(self, mark: float, over: Callable[[], bool]) -> bool:
        """Make updates as long as they fit; whether the mark was reached before the time was over."""
        with self.run.objective.replay.session():
            while self._next is not None and not self._lost:
                cost = sum(batch.examples for batch in self._next)
                if self.spent + cost > mark * (1.0 + 1e-9):
                    return True
                if over():
                    return False
                self._step(self._next)
                self._next = next(self._updates, None)
        return True

    def _step(self, update: Update) -> None:
        try:
            self.run.step(update, self.share, self._spend)
        except TrainingError:
            self._lost = True
            return
        theta = self.run.theta()
        if not self.run.objective.space.finite(theta):
            self._lost = True
        elif self.run.average_from is not None and self.share >= self.run.average_from:
            self._averaged += 1
            self._mean = theta if self._mean is None else torch.lerp(self._mean, theta, 1.0 / self._averaged)

    def _spend(self, batch: Batch) -> None:
        self.spent += price.GRADIENT * batch.examples
        self.run.objective.ledger.spend(price.GRADIENT, batch.examples)

    def _look_again(self) -> None:
        lost = [math.inf] * len(self.held.indices)
        with nullcontext() if self.side is None else self.side.undisturbed():
            values = lost if self._lost else self.held.look(self.run, self.theta())
        self.looks.append((self.spent, values))
