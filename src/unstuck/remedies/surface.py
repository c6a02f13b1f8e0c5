"""The loss over some of the batches, with a budget, and the lowest point seen so far."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.vectors import Operator, Room
from unstuck.errors import MeasurementError
from unstuck.objective import Objective
from unstuck.objective import ledger as price
from unstuck.space import Space

# What preparing products may take at most: gradients of the first batch, to find out whether autograd's can be
# trusted (`objective.trust`), and where they cannot, gradients of all, to find the step of differences.
_TRUST, _CALIBRATION = 42.0, 18.0

# What gains nothing on the batches that judge over so many points, each the lowest so far, is learning by heart.
_BY_HEART = 20


class SpentError(Exception):
    """The budget is used up, or the time is over."""


class ByHeartError(SpentError):
    """The batches that judge have long gained no more."""


class Point(NamedTuple):
    """A point with its loss, infinite where it or the gradient is not finite, and its gradient."""

    theta: Float[Tensor, " n"]
    loss: float
    gradient: Float[Tensor, " n"]


class Surface:
    """Evaluates the loss, counts what that costs, and remembers the lowest point.

    Every evaluation may raise `SpentError`; the point remembered is then the lowest of all before it.

    Attributes:
        theta: The lowest point.
        loss: There; infinite as long as nothing was evaluated.
        judged: Of the points that were the lowest in turn, the one with the lowest loss on the batches that judge;
            without such batches the lowest point.
    """

    def __init__(
        self,
        objective: Objective,
        only: Sequence[int] | None,
        judges: Sequence[int] = (),
        *,
        gradients: float,
        over: Callable[[], bool],
        memory: float,
    ) -> None:
        self._objective = objective
        self._only = tuple(range(len(objective.batches)) if only is None else only)
        self._examples = sum(objective.batches[index].examples for index in self._only)
        self._judges, self._elsewhere, self._since = tuple(judges), math.inf, 0
        self._begun = objective.ledger.examples
        self._gradients, self._over, self._memory = gradients, over, memory
        self.theta, self.loss, self.judged = objective.theta, math.inf, objective.theta

    @property
    def space(self) -> Space:
        """Where the points live."""
        return self._objective.space

    @property
    def spent(self) -> float:
        """Evaluations of the gradient so far, over the batches that count."""
        return (self._objective.ledger.examples - self._begun) / self._examples

    def value(self, theta: Float[Tensor, " n"]) -> float:
        """Evaluate the loss."""
        self._check()
        return self._note(theta, self._mean(theta, self._only))

    def start(self) -> Point:
        """Evaluate where it begins, whatever the budget.

        Raises:
            MeasurementError: The loss is not finite there.
        """
        point = self._slope(self._objective.theta)
        if math.isinf(point.loss):
            msg = "the loss or its gradient is not finite at the parameters: start from an earlier checkpoint"
            raise MeasurementError(msg)
        return point

    def slope(self, theta: Float[Tensor, " n"]) -> Point:
        """Evaluate the loss and its gradient."""
        self._check()
        return self._slope(theta)

    @property
    def fitting(self) -> float:
        """How many vectors half of the memory holds."""
        return 0.5 * self._memory / max(self._objective.theta.nbytes, 1)

    def room(self, most: int) -> Room:
        """Give what half of the memory holds for Lanczos, up to `most` vectors, and a few in any case."""
        return Room.of(0.5 * self._memory, self._objective.theta, most)

    @contextmanager
    def curvature(self, theta: Float[Tensor, " n"]) -> Generator[Operator]:
        """Prepare products with the Hessian at a point."""
        self._check(_TRUST * self._objective.batches[0].examples / self._examples)
        self._check(price.GRAPH if self._objective.differentiable_twice else _CALIBRATION)
        with self._objective.products(theta, self._only, memory=0.5 * self._memory) as products:

            def multiply(vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
                self._check()
                return products(vector)

            space = self.space
            yield Operator(multiply, space.size, theta, products.noise, space.reduce, space.draw)

    def _slope(self, theta: Float[Tensor, " n"]) -> Point:
        value, gradient = self._objective.value_and_gradient(theta, self._only)
        finite = self.space.finite(gradient)
        return Point(theta, self._note(theta, value if finite else math.inf), gradient)

    def _check(self, ahead: float = 0.0) -> None:
        if self.spent + ahead >= self._gradients or self._over():
            raise SpentError

    def _note(self, theta: Float[Tensor, " n"], value: float) -> float:
        value = value if math.isfinite(value) else math.inf
        if value < self.loss:
            self.theta, self.loss = theta.detach().clone(), value
            self._judge()
        return value

    def _judge(self) -> None:
        elsewhere = self._mean(self.theta, self._judges) if self._judges else self.loss
        if elsewhere < self._elsewhere or not self._judges:
            self.judged, self._elsewhere, self._since = self.theta, elsewhere, 0
            return
        self._since += 1
        if self._since >= _BY_HEART:
            raise ByHeartError

    def _mean(self, theta: Float[Tensor, " n"], indices: Sequence[int]) -> float:
        batches = [self._objective.batches[index] for index in indices]
        total = sum(batch.examples for batch in batches)
        values = self._objective.values(theta, indices)
        return sum(batch.examples / total * value for batch, value in zip(batches, values, strict=True))
