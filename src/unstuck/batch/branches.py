"""The run continued from its present state at other batch sizes and learning rates, on copies."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from unstuck.batch.copied import Copied
from unstuck.batch.course import Arm, standing
from unstuck.batch.pool import Pool, Update
from unstuck.objective import Batch, Objective
from unstuck.objective.pace import now
from unstuck.training import Training

# From one look at the loss to the next the number of updates grows by this factor.
_SPACING = 1.3

# Beyond this multiple of the loss it began with, a branch is lost. The first steps of an adaptive optimizer may well
# raise a loss twenty-fold that then falls.
_LOST = 1000.0


@dataclass
class Branch:
    """One continuation; only to be advanced while the training is `borrowed`.

    Attributes:
        arm: At what size and rate.
        steps: Updates made.
        looks: Updates made and the loss then, at each look; the first is where it begins.
        leg: Fewest updates from one look to the next, so that looking does not take longer than they do.
        lost: Whether it was thrown out for good.
        validation: The loss of the batches that it does not train on, once they were looked at.
    """

    arm: Arm
    copied: Copied
    updates: Iterator[Update]
    held: Sequence[Batch]
    unseen: Sequence[Batch]
    looks: list[tuple[int, float]]
    leg: int = 1
    steps: int = 0
    lost: bool = False
    validation: float | None = None

    def __post_init__(self) -> None:
        self.lost = not math.isfinite(self.looks[0][1])
        self._next = self.leg

    @property
    def lowest(self) -> float:
        """The lowest loss it has come to."""
        return min(loss for _, loss in self.looks)

    @property
    def standing(self) -> float:
        """Where it has come to; infinite where it was thrown out."""
        return math.inf if self.lost else standing(self.looks)

    def advance(self, steps: int, over: Callable[[], bool]) -> bool:
        """Go on until so many updates are made; whether they were made before the time was over."""
        while self.steps < steps and not self.lost:
            if over():
                return False
            self._leg(min(self._next, steps))
            self._look()
            self._next = max(math.ceil(self.steps * _SPACING), self.steps + self.leg)
        return True

    def validate(self) -> None:
        """Look at the loss of the batches that it does not train on."""
        if self.unseen and not self.lost:
            self.validation = self.copied.loss(self.unseen, training=False)

    def _leg(self, steps: int) -> None:
        while self.steps < steps:
            self.copied.step(next(self.updates))
            self.steps += 1

    def _look(self) -> None:
        loss = self.copied.loss(self.held)
        self.looks.append((self.steps, loss))
        first = abs(self.looks[0][1])
        self.lost |= not math.isfinite(loss) or loss > _LOST * max(first, abs(self.lowest))


class Brancher:
    """Makes branches of a training; made before, and called only while the training is `borrowed`.

    Args:
        training: Whose.
        pool: Where the batches come from.
        objective: By which the training is borrowed; on its batches all are looked at.
        unseen: Validation batches; may be empty.
        seed: Of the orders.
    """

    def __init__(
        self, training: Training, pool: Pool, objective: Objective, unseen: Sequence[Batch], seed: int
    ) -> None:
        self._pristine, self._pool, self._seed = Copied(training, objective), pool, seed
        self._held, self._unseen = objective.batches, unseen
        self._first: tuple[float, float] | None = None

    def __call__(self, arm: Arm, order: int, seconds: float) -> Branch:
        """Begin one, whose updates take so long; those of the same order meet the examples in the same order."""
        copied = self._pristine.again()
        copied.scale_rate(arm.factor)
        updates = self._pool.order(arm.size, self._seed + 1_000_003 * (order + 1))
        loss, looking = self._first = self._first or self._look()
        leg = max(round(looking / seconds), 1)
        return Branch(arm, copied, updates, self._held, self._unseen, [(0, loss)], leg)

    def _look(self) -> tuple[float, float]:
        """The loss that every branch begins with, and the seconds that a look at it takes."""
        begun = now(self._pristine.device)
        loss = self._pristine.loss(self._held)
        return loss, now(self._pristine.device) - begun
