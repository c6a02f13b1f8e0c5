"""The course of branches: where the run comes to at other sizes and rates, update by update."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Looks that tell where a branch has come to.
_LAST = 3


@dataclass(frozen=True)
class Arm:
    """A batch size and a multiple of the run's learning rate, in half octaves."""

    size: int
    halves: int

    @property
    def factor(self) -> float:
        """The multiple."""
        return 2.0 ** (0.5 * self.halves)


def standing(looks: Sequence[tuple[int, float]]) -> float:
    """Give the mean of the last looks but for the one at the beginning: a single one may be lucky."""
    last = [loss for _, loss in looks[1:][-_LAST:] or looks]
    return math.fsum(last) / len(last)


@dataclass(frozen=True)
class Trial:
    """A branch: the run continued on copies in one way, on one order of the data.

    Attributes:
        arm: Size and rate.
        order: Number of the order.
        looks: Updates made and the loss of the held batches then, at each look.
        lost: Whether it was thrown out for good.
        validation: The loss of the validation batches at the end; None where there are none or nobody looked.
    """

    arm: Arm
    order: int
    looks: tuple[tuple[int, float], ...]
    lost: bool
    validation: float | None = None

    @property
    def lowest(self) -> float:
        """The lowest loss it has come to."""
        return min(loss for _, loss in self.looks)

    @property
    def end(self) -> float:
        """The same, infinite for one that was thrown out."""
        return math.inf if self.lost else self.lowest

    @property
    def standing(self) -> float:
        """Where it has come to; infinite for one that was thrown out."""
        return math.inf if self.lost else standing(self.looks)

    @property
    def updates(self) -> int:
        """How many were made."""
        return self.looks[-1][0]

    def at(self, updates: float) -> float:
        """Give the lowest loss after so many updates: between two looks by proportion of logarithms."""
        before, high = self.looks[0]
        for steps, loss in self.looks[1:]:
            low = min(high, loss)
            if steps >= updates:
                share = math.log((1.0 + updates) / (1.0 + before)) / math.log((1.0 + steps) / (1.0 + before))
                if low <= 0.0 or not math.isfinite(high):
                    return low if share == 1.0 else high + share * (low - high)
                return high * (low / high) ** share
            before, high = steps, low
        return high

    def reached(self, level: float) -> float:
        """Give after how many updates a loss was first reached, between two looks by proportion; else infinity."""
        before, high = self.looks[0]
        if high <= level:
            return 0.0
        for steps, loss in self.looks[1:]:
            if loss <= level:
                share = (high - level) / (high - loss) if math.isfinite(high) else 1.0
                return before + share * (steps - before)
            before, high = steps, min(high, loss)
        return math.inf


@dataclass(frozen=True)
class Course:
    """What the branches have shown.

    Attributes:
        present: The run's own size.
        trials: All of them, from where the run stands.
        rates: The best multiple of the run's rate for each size, in half octaves.
        span: Seconds of updates on the user's machine that each could make.
        anew: The run's own size and smaller rates, from weights made anew.
    """

    present: int
    trials: tuple[Trial, ...]
    rates: Mapping[int, int]
    span: float
    anew: tuple[Trial, ...] = ()

    def best(self) -> list[Trial]:
        """Give those with the best rate of their size."""
        return [trial for trial in self.trials if self.rates.get(trial.arm.size) == trial.arm.halves]

    def scanned(self) -> list[Trial]:
        """Give those that tried rates at the run's own size."""
        return [trial for trial in self.trials if trial.arm.size == self.present and trial.order == 0]

    def at(self, size: int) -> list[Trial]:
        """Give those with the best rate of one size, in the orders that judge: not that which chose the rate.

        Where there was no time for others, in the one there is.
        """
        own = [trial for trial in self.best() if trial.arm.size == size]
        return [trial for trial in own if trial.order > 0] or own
