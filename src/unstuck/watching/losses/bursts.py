"""Whether a loss breaks out again and again: far above what it mostly is, for several steps on end, and back.

Steps that are too long along one direction alone do so: what little there is of it grows from step to step until it
is all of the loss, and the weights are thrown where it begins anew. On the whole the loss need not rise then, nor
does it stand still long enough for a test of its mean. A single batch that is unlike others lasts for one step.
"""

import math
from dataclasses import dataclass
from statistics import median

from unstuck.findings.live.steps import THROWN

# Steps whose median is what the loss mostly is.
_WINDOW = 256

# A loss is high from so many times that on, and breaks out where it stays so for so many steps.
_HIGH, _LASTS = 10.0, 4

# As many times in the last half of the steps, which together make up so much of the mean loss there.
_OFTEN, _MOST = 8, 0.5

# Steps after which it is asked first, and then whenever they have doubled.
FIRST = 1024


@dataclass(frozen=True)
class Outbreaks:
    """Since step `since` the loss broke out `times` times from `mostly`; `share` of its mean comes from there."""

    since: int
    times: int
    mostly: float
    share: float


class Bursts:
    """Hears of each loss; `add` says, when it asks, whether it breaks out again and again."""

    __slots__ = (
        "_asked",
        "_began",
        "_bound",
        "_bursting",
        "_last",
        "_lasts",
        "_mostly",
        "_step",
        "_times",
        "_total",
    )

    def __init__(self) -> None:
        self._began, self._mostly, self._bound = 0.0, math.inf, math.inf
        self._step, self._asked = 0, FIRST // 2
        self._last: list[float] = []
        self._lasts = 0  # steps that the loss has been high for
        self._times, self._bursting, self._total = 0, 0.0, 0.0

    def add(self, loss: float) -> Outbreaks | None:
        """Take the loss of one more step."""
        self._step += 1
        self._began = self._began or loss
        self._total += loss
        self._last.append(loss)
        if loss > self._bound:
            self._lasts += 1
            self._bursting += loss
        elif self._lasts:
            self._times += self._lasts >= _LASTS
            self._lasts = 0
        if len(self._last) == _WINDOW:
            self._mostly, self._last = median(self._last), []
            self._bound = max(_HIGH * self._mostly, THROWN * self._began) if self._mostly > 0.0 else math.inf
        return self._ask() if self._step == self._asked else None

    def _ask(self) -> Outbreaks | None:
        share = self._bursting / self._total if self._total > 0.0 else 0.0
        often = self._step >= FIRST and self._times >= _OFTEN and share > _MOST
        found = Outbreaks(self._step // 2 + 1, self._times, self._mostly, share) if often else None
        self._times, self._bursting, self._total = 0, 0.0, 0.0
        self._asked = 2 * self._step
        return found
