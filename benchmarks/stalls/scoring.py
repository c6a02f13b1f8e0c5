"""What is said of curves, as counts and delays."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from scipy.special import betaincinv

from unstuck.watching.losses.stalls import Stall, Stalls


@dataclass(frozen=True)
class Alarm:
    """A curve that stalls, what its noise is, and the stall that was told, if one was.

    `early` counts stalls that were told before the onset.
    """

    name: str
    half: str
    steps: int
    onset: int
    noise: float
    stall: Stall | None
    early: int

    @property
    def delay(self) -> float:
        """Steps from the onset until it was told, or from the first that it could be."""
        return math.inf if self.stall is None else float(self.stall.step - self.onset)

    @property
    def share(self) -> float:
        """The delay over the onset."""
        return self.delay / self.onset


def stalls(losses: Iterable[float], rates: Iterable[float] | None = None) -> list[Stall]:
    watched = Stalls()
    if rates is None:
        told = [watched.add(loss) for loss in losses]
    else:
        told = [watched.add(loss, rate) for loss, rate in zip(losses, rates, strict=True)]
    return [one for one in (*told, watched.conclude()) if isinstance(one, Stall)]


def alarm(
    name: str,
    number: int,
    onset: int,
    noise: float,
    losses: Sequence[float],
    rates: Sequence[float] | None = None,
) -> Alarm:
    told = stalls(losses, rates)
    after = [one for one in told if one.step >= onset]
    return Alarm(
        name, half(number), len(losses), onset, noise, after[0] if after else None, len(told) - len(after)
    )


def interval(hits: int, count: int) -> str:
    """Give the share with its exact 95 % interval (Clopper & Pearson, 1934)."""
    low = float(betaincinv(hits, count - hits + 1, 0.025)) if hits else 0.0
    high = float(betaincinv(hits + 1, count - hits, 0.975)) if hits < count else 1.0
    return f"{hits / count:.2%} ({low:.2%} to {high:.2%})"


def middle(values: Iterable[float]) -> str:
    """Give the median, in which what was never told is infinite."""
    found = median(values)
    return "never" if math.isinf(found) else f"{found:.3g}"


def half(number: int) -> str:
    """Put every other family aside: nothing was chosen by looking at the second half."""
    return ("first", "second")[number % 2]
