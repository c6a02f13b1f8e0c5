"""A schedule: the factor of the rate at every step, and what may follow it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from unstuck.optim.errors import OptimizerError
from unstuck.optim.values import counted
from unstuck.optim.values import share as checked_share

if TYPE_CHECKING:
    import plotly.graph_objects as go


class _Plain:
    """Gives a slotted class an empty `__dict__`: LambdaLR saves that of its function, and here it is plain data."""


@runtime_checkable
class Following(Protocol):
    """What can come after a schedule."""

    def after(self, other: "Schedule", end: int) -> Any:
        """Follow a schedule from its end on."""
        ...


_S = TypeVar("_S", bound=Following)


@dataclass(frozen=True, slots=True, repr=False)
class Schedule(_Plain):
    """A factor of the rate for every step.

    Attributes:
        factor: The factor at a step that counts from 0.
        length: How many steps it takes, None without an end. Past it, the factor stays.
        name: What it is, as the Python that makes it.
    """

    factor: Callable[[int], float]
    length: int | None
    name: str

    def __call__(self, step: int) -> float:
        """Give the factor at a step, 0 for the first one.

        Raises:
            OptimizerError: `step` is negative.
        """
        if step < 0:
            msg = f"`step` counts from 0, not {step}"
            raise OptimizerError(msg)
        return self.factor(step if self.length is None else min(step, self.length))

    def __repr__(self) -> str:
        return self.name

    def then(self, other: _S) -> _S:
        """Let another schedule follow when this one's length is over; what follows counts from 0 again.

        Args:
            other: A `Schedule`, or a `Plateau`, which counts no losses before.

        Raises:
            OptimizerError: This schedule has no end, or what follows is no schedule.
        """
        given = cast("object", other)
        if not isinstance(given, Following) or isinstance(given, type):
            msg = f"what follows must be a schedule such as cosine(10_000), not {other!r}"
            raise OptimizerError(msg)
        if self.length is None:
            msg = f"{self!r} has no end that another schedule could follow: give it its length by `steps`"
            raise OptimizerError(msg)
        return other.after(self, self.length)

    def after(self, other: "Schedule", end: int) -> "Schedule":
        """Follow another schedule from a step on: what `then` asks of the one that comes later."""

        def factor(step: int) -> float:
            return other(step) if step < end else self(step - end)

        length = None if self.length is None else end + self.length
        return Schedule(factor, length, f"{other!r}.then({self!r})")

    def steps(self, count: int) -> "Schedule":
        """End after a number of steps.

        Raises:
            OptimizerError: `count` is below 1.
        """
        return replace(self, length=counted("count", count), name=f"{self!r}.steps({count})")

    def settle(self, share: float, steps: int) -> "Schedule":
        r"""Go from where this schedule ends to a constant factor, along half a cosine: SWA's rate.

        $a + \frac{f - a}{2} (1 - \cos \frac{\pi t}{n})$ with $a$ the last factor, as `torch.optim.swa_utils.SWALR`.

        Args:
            share: $f$, the share of the base rate that stays.
            steps: $n$.

        Raises:
            OptimizerError: This schedule has no end, `share` is outside [0, 1] or `steps` below 1.
        """
        checked_share("share", share)
        counted("steps", steps)
        begin = 1.0 if self.length is None else self(self.length)

        def factor(step: int) -> float:
            return begin + (share - begin) * (1.0 - math.cos(math.pi * step / steps)) / 2.0

        whole = self.then(Schedule(factor, steps, ""))
        return replace(whole, name=f"{self!r}.settle({share}, {steps})")

    def figure(self, steps: int | None = None, *, lr: float = 1.0) -> "go.Figure":
        """Draw the rate over the steps.

        Args:
            steps: How many; all, where the schedule has an end.
            lr: The base rate.

        Raises:
            OptimizerError: The schedule has no end and `steps` is not given, or `steps` is below 1.
        """
        count = self.length if steps is None else steps
        if count is None:
            msg = f"{self!r} has no end: say how many `steps` to draw"
            raise OptimizerError(msg)
        end = counted("steps", count)
        shown = sorted({round(end * point / _POINTS) for point in range(_POINTS + 1)})
        return drawn(shown, [lr * self(step) for step in shown], repr(self))


def drawn(steps: Sequence[int], rates: Sequence[float], title: str) -> "go.Figure":
    """Draw rates over steps."""
    import plotly.graph_objects as go  # noqa: PLC0415  nothing but drawing needs it

    line = go.Scatter(x=steps, y=rates, mode="lines", name="rate")
    return go.Figure(line).update_layout(title=title, xaxis_title="step", yaxis_title="learning rate")


_POINTS = 1000  # of a curve: more than a screen shows
