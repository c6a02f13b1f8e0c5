"""Hessian-vector products by central differences: a step that fits, and an error that is known."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError

Gradient = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]

# Lengths ||h v|| that are tried, relative to the parameters' length: from where rounding rules in float32
# to where the third derivative does.
_LADDER = tuple(10.0 ** (-exponent / 2) for exponent in range(2, 11))

# A step is done again when it changed the gradient this many times more or less than intended.
_OFF_TARGET = 4.0


class Differences:
    r"""$Hv \approx (g(\theta + hv) - g(\theta - hv)) / 2h$ with error $O(h^2) + O(\epsilon / h)$.

    What rounding allows is a question of how far the gradient *changes*, not of how far $\theta$ moves: along
    a steep eigenvector a shorter step will do. So the best change is found once, on a random-like vector,
    as the rung of a ladder of steps that agrees best with its neighbour, and later steps aim at that change.

    Attributes:
        error: Relative disagreement of the best rung with its neighbour: large across kinks (ReLU).
    """

    def __init__(self, gradient: Gradient, theta: Float[Tensor, " n"]) -> None:
        self._gradient = gradient
        self._theta = theta
        self._scale = max(float(theta.norm()), 1.0)
        self._change = 0.0
        self._curvature = 0.0
        self.error = float("inf")

    def __call__(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Multiply the Hessian with one vector."""
        length = float(vector.norm())
        if length == 0.0:
            return torch.zeros_like(vector)
        unit = vector / length
        if self._change == 0.0:
            return length * self._calibrate(unit)
        product = self._difference(unit, self._step())
        norm = float(product.norm())
        if not self._curvature / _OFF_TARGET < norm < self._curvature * _OFF_TARGET and norm > 0.0:
            self._curvature = norm
            product = self._difference(unit, self._step())
        self._curvature = max(float(product.norm()), torch.finfo(product.dtype).tiny)
        return length * product

    def _step(self) -> float:
        return min(self._change / self._curvature, _LADDER[0] * self._scale)

    def _difference(self, unit: Float[Tensor, " n"], step: float) -> Float[Tensor, " n"]:
        ahead = self._gradient(self._theta + step * unit)
        behind = self._gradient(self._theta - step * unit)
        return (ahead - behind) / (2.0 * step)

    def _calibrate(self, unit: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        steps = [self._scale * rung for rung in _LADDER]
        previous = self._difference(unit, steps[0])
        best = previous
        for step in steps[1:]:
            product = self._difference(unit, step)
            norm = float(product.norm())
            error = float((product - previous).norm()) / norm if norm else float("inf")
            if error < self.error:
                self.error, best = error, product
                self._curvature, self._change = norm, step * norm
            previous = product
        if self._change == 0.0:
            msg = (
                "the gradient is not finite or does not change near the parameters: no Hessian by differences"
            )
            raise MeasurementError(msg)
        return best
