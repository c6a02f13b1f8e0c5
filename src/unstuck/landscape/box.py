"""The box sharpness of Keskar et al. (2017): how far the loss rises within a small box around the weights."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.landscape.rises import Place
from unstuck.measurements.judging import Judge

# Keskar et al. (2017, section 2.2.2): both sizes of the box, the number of random directions, and the iterations of
# L-BFGS-B after which the maximisation stops, wherever it is then.
EPSILONS = (1e-3, 5e-4)
DIRECTIONS = 100
_ITERATIONS = 10

Array = npt.NDArray[np.float64]


class _InfiniteError(Exception):
    """The loss is not finite somewhere in the box: there is nothing higher to look for."""


def highest_in_box(
    judge: Judge,
    epsilon: float,
    corner: Float[Tensor, " n"],
    columns: Float[Tensor, "n p"] | None = None,
    *,
    over: Callable[[], bool] = bool,
) -> Place:
    r"""Maximise the loss over $x + Az$, $|z_i| \le \epsilon (|(A^+ x)_i| + 1)$, on the half that finds.

    Ten iterations of L-BFGS-B (Byrd et al., 1995) from the point itself, and ten from either of two opposite
    corners of the box, in the direction of `corner` and against it; the highest counts. The paper does not say
    where it starts. What starts at a point without any slope stays there, and the two sides of a valley differ.

    Args:
        judge: Evaluates the loss, and knows which half finds.
        epsilon: Size of the box.
        corner: A direction of the full space that bends up steeply.
        columns: The matrix A; without it A is the identity.
        over: Is asked before each evaluation whether the time is.

    Raises:
        MeasurementError: The time was over; half a maximisation is no measure.
    """
    objective, finds = judge.objective, judge.halves.finds
    theta = objective.theta
    bounds = epsilon * (np.abs(_array(_coordinates(theta, columns))) + 1.0)
    best: Place = Place(torch.zeros_like(theta), judge.found(judge.base))

    def descend(flat: Array) -> tuple[float, Array]:
        nonlocal best
        if over():
            msg = "the time was over"
            raise MeasurementError(msg)
        displacement = _embedded(torch.from_numpy(flat).to(theta), columns)
        value, gradient = objective.value_and_gradient(theta + displacement, finds)
        if value > best.found:
            best = Place(displacement, value)
        if not np.isfinite(value):
            raise _InfiniteError
        return -value, -_array(gradient if columns is None else columns.T @ gradient)

    towards = _array(corner if columns is None else columns.T @ corner)
    outer = np.where(towards >= 0.0, bounds, -bounds)
    for start in (np.zeros_like(bounds), outer, -outer):
        try:
            _ten_iterations(descend, start, bounds)
        except _InfiniteError:
            break
    return best


def random_columns(like: Float[Tensor, " n"], generator: torch.Generator) -> Float[Tensor, "n p"]:
    """Draw the matrix A of a random subspace: standard normal numbers, no more columns than rows."""
    size = like.numel()
    drawn = torch.randn(size, min(DIRECTIONS, size), generator=generator, dtype=torch.float32, device="cpu")
    return drawn.to(like)


def _ten_iterations(function: Any, start: Array, bounds: Array) -> None:
    limits: Sequence[tuple[float, float]] = list(zip(-bounds, bounds, strict=True))
    # No tolerance ends it earlier: at a minimum both the slope and the rise are tiny.
    options = {"maxiter": _ITERATIONS, "ftol": 0.0, "gtol": 0.0}
    minimize(function, start, jac=True, method="L-BFGS-B", bounds=limits, options=options)


def _coordinates(theta: Float[Tensor, " n"], columns: Float[Tensor, "n p"] | None) -> Tensor:
    """Solve for $A^+ x$."""
    if columns is None:
        return theta
    wide = columns.double()
    return torch.linalg.solve(wide.T @ wide, wide.T @ theta.double())


def _embedded(flat: Tensor, columns: Float[Tensor, "n p"] | None) -> Float[Tensor, " n"]:
    return flat if columns is None else columns @ flat


def _array(vector: Tensor) -> Array:
    return vector.double().cpu().numpy()
