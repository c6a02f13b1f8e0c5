"""What each measurement costs, written down where it is made."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from unstuck.measurements.records import Spent
from unstuck.objective.ledger import Ledger

# Asks for the time of so many gradients over the sample before they are spent; raises where there is none.
Claim = Callable[[float], None]


def unlimited(gradients: float) -> None:
    """Grant it."""
    del gradients


class Bill:
    """Items of what a ledger counts and of time; what is measured within another item counts for itself alone.

    Attributes:
        ledger: What is counted there while an item lasts is the item's.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._items: dict[str, tuple[float, float]] = {}
        self._within: list[tuple[float, float]] = []

    @contextmanager
    def item(self, name: str) -> Generator[None]:
        """Put down what is spent inside under `name`, after an exception too; the same name may come again."""
        begun = self._now()
        self._within.append((0.0, 0.0))
        try:
            yield
        finally:
            whole = _plus(self._now(), begun, -1.0)
            own = _plus(whole, self._within.pop(), -1.0)
            self._items[name] = _plus(self._items.get(name, (0.0, 0.0)), own)
            if self._within:
                self._within[-1] = _plus(self._within[-1], whole)

    def items(self, examples: int, seconds: float) -> tuple[Spent, ...]:
        """Give one entry for each name, in the order in which they were begun, and one for all the rest.

        Args:
            examples: In the sample, whose gradient is the unit.
            seconds: All that were spent.
        """
        named = self._items
        rest = (
            self.ledger.examples - math.fsum(spent for spent, _ in named.values()),
            seconds - math.fsum(took for _, took in named.values()),
        )
        return tuple(
            Spent(name, max(spent, 0.0) / examples, max(took, 0.0))
            for name, (spent, took) in {**named, "other": rest}.items()
        )

    def _now(self) -> tuple[float, float]:
        return self.ledger.examples, time.perf_counter()


def _plus(one: tuple[float, float], other: tuple[float, float], sign: float = 1.0) -> tuple[float, float]:
    return one[0] + sign * other[0], one[1] + sign * other[1]
