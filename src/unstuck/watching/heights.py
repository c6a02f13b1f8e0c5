r"""Whether a loss stays above where it began, as where steps have thrown it: it may jump too wildly to stand still.

The first loss is compared with each of the last half of the steps. Were it one draw among theirs, let alone one of a
run that falls, it would be lower than all $n$ of them with probability $1 / (n + 1)$ at most, whatever their law. It
is asked whenever the number of steps has doubled, from 256 on: $1/129 + 1/257 + \ldots$ is less than 2 %.
"""

import math
from dataclasses import dataclass

from unstuck.findings.live import THROWN

# Steps after which it is asked first.
FIRST = 256


@dataclass(frozen=True)
class High:
    """Since step `since` not one loss was as low as the first, `began`, and most are `THROWN` times that."""

    since: int
    began: float


class Heights:
    """Hears of each loss; `add` says, when it asks, whether it stays above where it began."""

    __slots__ = ("_above", "_asked", "_began", "_lowest", "_step")

    def __init__(self) -> None:
        self._began = self._lowest = math.inf
        self._step, self._above, self._asked = 0, 0, FIRST // 2

    def add(self, loss: float) -> High | None:
        """Take the loss of one more step."""
        self._step += 1
        if self._step == 1:
            self._began = loss
        self._lowest = min(self._lowest, loss)
        self._above += loss > THROWN * self._began
        return self._ask() if self._step == self._asked else None

    def _ask(self) -> High | None:
        half = self._step // 2
        high = self._step >= FIRST and stays_above(self._began, self._lowest, self._above / half)
        self._lowest, self._above, self._asked = math.inf, 0, 2 * self._step
        return High(half + 1, self._began) if high else None


def stays_above(began: float, lowest: float, share: float) -> bool:
    """Whether of the last half of the steps none is as low as the first, and most are above `THROWN` times it."""
    return 0.0 < began < lowest and share > 1.0 / 2.0
