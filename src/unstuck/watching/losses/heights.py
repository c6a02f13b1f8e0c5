r"""Whether a loss stays above where it began, as where steps have thrown it: it may jump too wildly to stand still.

The first loss is compared with each of the last half of the steps. Were it one draw among theirs, let alone one of a
run that falls, it would be lower than all $n$ of them with probability $1 / (n + 1)$ at most, whatever their law. It
is asked whenever the number of steps has doubled, from 256 on: $1/129 + 1/257 + \ldots$ is less than 2 %.
"""

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean

from unstuck.findings.live.steps import THROWN

# A loss that lay for so many steps within this factor, and then for as many below this share of them, has jumped.
_STOOD, _LEVEL, _JUMP = 8, 10.0, 0.01

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


class Beginning:
    """Where a loss began: `value`, its first, unless it turned out to be the loss of something else.

    Learning brings a loss down step by step. One that stood still and is a hundredth from one step to the next has
    become another, as by other targets, another weight, another scale; what it was before says nothing of it.
    """

    __slots__ = ("_bound", "_last", "value")

    def __init__(self, first: float) -> None:
        self.value = first
        self._last: deque[float] = deque([first], maxlen=_STOOD)
        self._bound: float | None = None  # below which it must stay

    def add(self, loss: float) -> None:
        """Take the loss of one more step."""
        last = self._last
        if self._bound is not None:
            self._settle(loss, self._bound)
        elif loss < _JUMP * last[-1] and len(last) == _STOOD and max(last) <= _LEVEL * min(last):
            self._bound = _JUMP * min(last)
            last.clear()
        last.append(loss)

    def _settle(self, loss: float, bound: float) -> None:
        if loss > bound:
            self._bound = None  # a single low one
        elif len(self._last) == _STOOD - 1:
            self.value, self._bound = min(self.value, fmean(self._last)), None


def stays_above(began: float, lowest: float, share: float) -> bool:
    """Whether of the last half of the steps none is as low as the first, and most are above `THROWN` times it."""
    return 0.0 < began < lowest and share > 1.0 / 2.0
