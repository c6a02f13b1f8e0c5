"""What is remembered of the losses of one optimizer."""

from unstuck.watching.losses.bursts import Bursts
from unstuck.watching.losses.heights import Beginning, Heights
from unstuck.watching.losses.stalls import Stalls
from unstuck.watching.recent import Wiring


class Heard:
    """Takes each loss; holds the tests that ask of all of them."""

    def __init__(self, first: float, begun: int) -> None:
        self.first, self.beginning = first, Beginning(first)
        self.begun = self.last = begun  # in steps of all optimizers
        self.tests, self.heights, self.bursts = Stalls(), Heights(), Bursts()
        self.total, self.count = 0.0, 0
        self.rate: float | None = None  # when the steps last doubled
        self.rates: tuple[float, float] | None = None  # the highest, and the last
        self.loss = self.lowest = first  # the last one, and the lowest
        self.finite = True  # the very last loss
        self.wired = Wiring()

    def take(self, loss: float, rate: float | None) -> None:
        """Take what is summed up of all steps."""
        self.total, self.count = self.total + loss, self.count + 1
        if rate is not None and (self.rates is None or rate != self.rates[1]):
            self.rates = (rate if self.rates is None else max(rate, self.rates[0]), rate)
        self.beginning.add(loss)
        self.loss, self.lowest, self.finite = loss, min(loss, self.lowest), True

    @property
    def mean(self) -> float:
        """Of all that were finite."""
        return self.total / self.count
