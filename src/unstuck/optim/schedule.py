"""A schedule: the factor of the rate at every step, and what may follow it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unstuck.optim.errors import OptimizerError
from unstuck.optim.values import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go


class _Plain:
    """Gives a slotted class an empty `__dict__`: LambdaLR saves that of its function, and here it is plain data."""


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

    def then(self, other: "Schedule") -> "Schedule":
        """Let another schedule follow when this one's length is over; what follows counts from 0 again.

        Raises:
            OptimizerError: This schedule has no end.
        """
        if self.length is None:
            msg = f"{self!r} has no end that another schedule could follow: give it its length by `steps`"
            raise OptimizerError(msg)
        end = self.length

        def factor(step: int) -> float:
            return self(step) if step < end else other(step - end)

        length = None if other.length is None else end + other.length
        return Schedule(factor, length, f"{self!r}.then({other!r})")

    def steps(self, count: int) -> "Schedule":
        """End after a number of steps.

        Raises:
            OptimizerError: `count` is below 1.
        """
        return replace(self, length=counted("count", count), name=f"{self!r}.steps({count})")

    def figure(self, steps: int | None = None, *, lr: float = 1.0) -> "go.Figure":
        """Draw the rate over the steps.

        Args:
            steps: How many; all, where the schedule has an end.
            lr: The base rate.

        Raises:
            OptimizerError: The schedule has no end and `steps` is not given, or `steps` is below 1.
        """
        import plotly.graph_objects as go  # noqa: PLC0415  nothing but drawing needs it

        count = self.length if steps is None else steps
        if count is None:
            msg = f"{self!r} has no end: say how many `steps` to draw"
            raise OptimizerError(msg)
        end = counted("steps", count)
        shown = sorted({round(end * point / _POINTS) for point in range(_POINTS + 1)})
        line = go.Scatter(x=shown, y=[lr * self(step) for step in shown], mode="lines", name="rate")
        return go.Figure(line).update_layout(
            title=repr(self), xaxis_title="step", yaxis_title="learning rate"
        )


_POINTS = 1000  # of a curve: more than a screen shows
