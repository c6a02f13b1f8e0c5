"""Losses over all of a small data set, in float64, and their critical points: what several studies share."""

import math
from collections.abc import Callable
from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.curvature.dense import materialise
from unstuck.curvature.vectors import Operator
from unstuck.objective import Batch, Objective
from unstuck.remedies.lbfgs import descend
from unstuck.remedies.surface import SpentError, Surface
from unstuck.training import Loss, Training, supervised

Vector = Float[Tensor, " n"]

# ||g||^2 below this is called critical: what rounding in float64 leaves of a loss near 1 is some 1e-30.
CRITICAL = 1e-20

_GRADIENTS = 4000.0  # of a descent to a minimum; Newton's method does the rest
_NEWTON_STEPS = 40
_LEVEL, _LEG = 1e-12, 20  # a descent ends where so many steps gain less than this
_FLAT = 1e-12  # of the largest |eigenvalue|: Newton's method does not divide by what rounding makes
_SHORTEN = 12  # halvings of a Newton step that does not shrink the gradient

classified = supervised(nn.functional.cross_entropy)


def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean over examples of the squared error, summed over outputs, halved."""
    inputs, targets = batch
    return 0.5 * (model(inputs) - targets).square().sum(dim=-1).mean()


def whole(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss = classified,
    decay: float = 0.0,
    dtype: torch.dtype | None = torch.float64,
) -> Objective:
    """Give the loss over all of the data, weight decay included."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=decay)
    training = Training(model, loss, [(inputs, targets)], optimizer)
    return Objective(training, [Batch((inputs, targets), len(inputs), 0)], dtype=dtype)


def eigen(objective: Objective, theta: Vector) -> tuple[Vector, Float[Tensor, "n n"]]:
    """Compute all eigenvalues, ascending, and eigenvectors, one a column."""
    with objective.products(theta) as products:
        operator = Operator(products, objective.size, theta, noise=products.noise)
        values, vectors = torch.linalg.eigh(materialise(operator, products.block).matrix)
    return values, vectors


def minimised(objective: Objective, theta: Vector | None = None) -> Vector:
    """Go down to a minimum: L-BFGS, then Newton's method until the gradient is rounding or does not shrink."""
    surface = Surface(objective, None, gradients=_GRADIENTS, over=lambda: False, memory=math.inf)

    def level(losses: list[float]) -> bool:
        return len(losses) > _LEG and losses[-_LEG - 1] - losses[-1] < _LEVEL * abs(losses[-1])

    with suppress(SpentError):
        descend(surface, surface.slope(objective.theta if theta is None else theta), reach=0.1, enough=level)
    return newton(objective, surface.theta, lambda values, slopes: slopes / values.abs())


def newton(
    objective: Objective,
    theta: Vector,
    step: Callable[[Vector, Vector], Vector],
    *,
    steps: int = _NEWTON_STEPS,
) -> Vector:
    """Walk to where the gradient vanishes, as long as it shrinks.

    Args:
        objective: The loss.
        theta: Where to begin, near a critical point.
        step: From eigenvalues and the gradient's coordinates along their vectors, to the coordinates to go back.
        steps: At most so many.
    """
    gradient = objective.gradient(theta)
    for _ in range(steps):
        if square(gradient) < CRITICAL * 1e-6:
            break
        values, vectors = eigen(objective, theta)
        usable = values.abs() > _FLAT * values.abs().max()
        slopes = vectors.T @ gradient
        walk = vectors @ torch.where(usable, step(values, slopes), torch.zeros_like(values))
        for halving in range(_SHORTEN):
            ahead = theta - 0.5**halving * walk
            there = objective.gradient(ahead)
            if square(there) < square(gradient):
                theta, gradient = ahead, there
                break
        else:
            break
    return theta


def square(gradient: Vector) -> float:
    """Squared length."""
    return float(gradient @ gradient)
