"""A loss curve of any length in constant memory: means of blocks of equal length, and what the rate did in them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from statistics import fmean, stdev

from unstuck.estimate import Estimate
from unstuck.watching.losses.gains import FEWEST, Curve, without_spikes

# Blocks kept at most: the shortest window, a quarter of half as many, has two in each batch.
MOST = 384

# Share of a window, or of a run, that is its end, where a fall that has only just begun shows.
END = 1 / 8

# Noise adds to the loss in proportion to the rate: a smaller rise moves it by less than the 2 % that are looked for.
_RISE = 0.02

# Of the steps since the rate last rose, these are left to the loss to settle.
_SETTLING = 1 / 3


class Blocks:
    """Blocks of the run so far.

    Attributes:
        length: Steps in each.
        means: Mean of the finite losses of each, NaN if there are none.
    """

    __slots__ = ("_counts", "_rates", "_rises", "_starts", "length", "means")

    def __init__(self) -> None:
        self.length = 1
        self.means: list[float] = []
        self._counts: list[int] = []
        self._rates: list[float] = []
        self._rises: list[float] = []
        self._starts: list[int] = []

    def append(self, total: float, count: int, rate: float | None, rise: float, starts: int) -> None:
        """Add a block: sum and number of its losses, its last rate, how far the rate rose, and how often it began to.

        When there are too many, two and two become one.
        """
        self.means.append(total / count if count else math.nan)
        self._counts.append(count)
        self._rates.append(rate or 0.0)
        self._rises.append(rise)
        self._starts.append(starts)
        if len(self.means) < MOST:
            return
        both = list(zip(self.means, self._counts, strict=True))
        self.means = [_joined(left, right) for left, right in zip(both[::2], both[1::2], strict=True)]
        self._counts = [a + b for a, b in zip(self._counts[::2], self._counts[1::2], strict=True)]
        self._rates = self._rates[1::2]
        self._rises = [a + b for a, b in zip(self._rises[::2], self._rises[1::2], strict=True)]
        self._starts = [a + b for a, b in zip(self._starts[::2], self._starts[1::2], strict=True)]
        self.length *= 2

    def settled(self) -> int:
        """Give the block from which on the loss need no longer owe anything to a rise of the rate."""
        blocks = len(self.means)
        allowed = _RISE * max(self._rates[blocks // 2 :])
        calm, risen = blocks, 0.0
        while calm > 0 and (risen := risen + self._rises[calm - 1]) <= allowed:
            calm -= 1
        return calm + math.ceil(_SETTLING * (blocks - calm)) if calm else 0

    def cuts(self, start: int, settled: int) -> Sequence[int]:
        """Give where the blocks from `start` may be cut into batches: anywhere, or where cycles of the rate begin."""
        blocks = len(self.means)
        if start >= settled:
            return range(start, blocks + 1)
        cycles = [block for block in range(start, blocks) if self._starts[block]]
        return cycles if len(cycles) > FEWEST else ()

    def curve(self, cuts: Sequence[int], most: int) -> Curve:
        """Give up to so many batches of nearly equal length; none if half of the losses are not finite."""
        first, pieces = cuts[0], len(cuts) - 1
        counts = self._counts[first : cuts[-1]]
        if 2 * sum(counts) < len(counts) * self.length:
            return ()
        sums = list(map(mul, without_spikes(self.means[first : cuts[-1]]), counts))
        number = min(most, pieces)
        bounds = [cuts[round(part * pieces / number)] - first for part in range(number + 1)]
        return [
            (math.log2((first + (low + high) / 2) * self.length), sum(sums[low:high]) / total)
            for low, high in pairwise(bounds)
            if (total := sum(counts[low:high]))
        ]

    def backwards(self, cuts: Sequence[int], most: int) -> list[tuple[int, float]]:
        """Give the first block and the mean of batches as long as a window's, from its end back to the beginning."""
        last = cuts[-1]
        plain = isinstance(cuts, range)
        edges = (
            range(last, -1, -1) if plain else [block for block in range(last, -1, -1) if self._starts[block]]
        )
        edges = [*edges[:: max(len(cuts) // most, 1)], edges[-1]]
        return [(low, mean(self.means[low:high])) for high, low in pairwise(edges) if low < high]


def mean(means: Sequence[float]) -> float:
    """Give the mean of the blocks that have losses, infinite if none has."""
    present = [one for one in means if not math.isnan(one)]
    return fmean(present) if present else math.inf


def estimate(means: Sequence[float]) -> Estimate:
    """Give their mean with its error by their spread, infinite if there are not two."""
    present = [one for one in means if not math.isnan(one)]
    if len(present) < 2:  # noqa: PLR2004  # one has no spread
        return Estimate(mean(present), math.inf)
    return Estimate(fmean(present), stdev(present) / math.sqrt(len(present)), len(present) - 1.0)


def _joined(left: tuple[float, int], right: tuple[float, int]) -> float:
    if not (left[1] and right[1]):
        return left[0] if left[1] else right[0]
    return (left[0] * left[1] + right[0] * right[1]) / (left[1] + right[1])
