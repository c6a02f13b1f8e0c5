"""Hessian-vector products by central differences: a step that fits, and an error that is known."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.space import Space

Gradient = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]

# Lengths ||h v|| that are tried, relative to the parameters' length: from where rounding rules in float32
# to where the third derivative does.
_LADDER = tuple(10.0 ** (-exponent / 2) for exponent in range(2, 11))

# A step is done again when it changed the gradient this many times more or less than intended.
_OFF_TARGET = 4.0


class Differences:
    r"""$Hv \approx (g(\theta + hv) - g(\theta - hv)) / 2h$ with error $O(h^2) + O(\epsilon / h)$.

    What rounding allows is a question of how far the gradient *changes*, not of how far $\theta$ moves: along
    a steep eigenvector a shorter step will do. So the best change is found once, on a random vector, as the
    rung of a ladder of steps that agrees best with its neighbour, and later steps aim at that change. None is
    longer: along a flat direction the third derivative would be all that it sees.

    Attributes:
        error: Disagreement of the best rung with its neighbour, relative to the Hessian: large across kinks (ReLU).

    Raises:
        MeasurementError: The gradient is not finite near the parameters.
    """

    def __init__(self, gradient: Gradient, theta: Float[Tensor, " n"], space: Space) -> None:
        self._gradient = gradient
        self._theta = theta
        self._space = space
        self._scale = max(space.norm(theta), 1.0)
        self.error, self._change, self._curvature = self._calibrate()
        self._longest = self._change / self._curvature

    def __call__(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Multiply the Hessian with one vector."""
        length = self._space.norm(vector)
        if length == 0.0:
            return torch.zeros_like(vector)
        return length * self.along(vector / length)[1]

    def along(self, unit: Float[Tensor, " n"]) -> tuple[float, Float[Tensor, " n"]]:
        """Choose how far to go along a unit vector, and give the product with it too."""
        step = self._step()
        product = self._difference(unit, step)
        norm = self._space.norm(product)
        if not self._curvature / _OFF_TARGET <= norm <= self._curvature * _OFF_TARGET:
            self._curvature = max(norm, torch.finfo(product.dtype).tiny)
            step = self._step()
            product = self._difference(unit, step)
            norm = self._space.norm(product)
        self._curvature = max(norm, torch.finfo(product.dtype).tiny)
        return step, product

    def _step(self) -> float:
        return min(self._change / self._curvature, self._longest)

    def _difference(self, unit: Float[Tensor, " n"], step: float) -> Float[Tensor, " n"]:
        return central(self._gradient, self._theta, unit, step)

    def _calibrate(self) -> tuple[float, float, float]:
        """Find the error, the change of the gradient that has it, and the curvature it was found at."""
        seeded = torch.Generator().manual_seed(0)
        vector = self._space.draw(seeded).to(self._theta)
        unit = vector / self._space.norm(vector)
        steps = [self._scale * rung for rung in _LADDER]
        products = [self._difference(unit, step) for step in steps]
        if not all(self._space.finite(product) for product in products[-2:]):
            msg = "the gradient is not finite near the parameters: there is no Hessian by differences"
            raise MeasurementError(msg)
        rungs: list[tuple[float, float, float]] = []
        for step, product, longer in zip(steps[1:], products[1:], products[:-1], strict=True):
            norm = self._space.norm(product)
            # A gradient that does not change at all is one whose change is lost in rounding.
            if 0.0 < norm < math.inf:
                error = self._space.norm(product - longer) / norm
                rungs.append((error if math.isfinite(error) else math.inf, step * norm, norm))
        if not rungs:
            return 0.0, steps[0], 1.0  # no curvature: any step will do
        return min(rungs)


def central(
    gradient: Gradient, theta: Float[Tensor, " n"], unit: Float[Tensor, " n"], step: float
) -> Float[Tensor, " n"]:
    """Difference the gradient over one step to either side."""
    return (gradient(theta + step * unit) - gradient(theta - step * unit)) / (2.0 * step)
