"""Ways to look for critical points of any kind, and what the ends of such searches are (Frye et al., 2021)."""

from collections.abc import Callable
from enum import StrEnum

import torch

from unstuck.objective import Objective
from unstuck.study.landscape import CRITICAL, Vector, eigen, square

Step = Callable[[Vector, Vector], Vector]  # from eigenvalues and the gradient along their vectors
Method = Callable[[int], Step]  # from the number of directions to go up

# Of twelve starts each, eigenvector following reached critical points from ten with steps of 0.3 and as many of 0.1,
# in half the rounds; most of those that arrive do within eighty.
_ROUNDS, _REACH = 120, 0.3
_SMALLEST = 1e-6  # an eigenvalue nearer to zero does not make a step longer
_DAMPING = 1e-6  # of the squared gradient's own Gauss-Newton matrix
_FLAT = 1e-3  # of the largest |eigenvalue|: smaller ones count as the kernel of the Hessian
_IN_KERNEL = 0.9  # of the gradient's length: Frye et al.'s bound for a gradient-flat place


class End(StrEnum):
    """Where a search ended."""

    CRITICAL = "critical"
    FLAT = "gradient-flat"
    UNFINISHED = "unfinished"


def following(index: int) -> Step:
    """Go up along so many of the lowest eigenvectors, and down along all others.

    Eigenvector following (Cerjan & Miller, J. Chem. Phys. 75, 1981): saddles of that index attract it, no others do.
    """

    def step(values: Vector, slopes: Vector) -> Vector:
        signs = torch.ones_like(values)
        signs[:index] = -1.0
        return signs * slopes / values.abs().clamp(min=_SMALLEST)

    return step


def newton(index: int) -> Step:
    """Newton's method for the gradient: whatever critical point is near."""
    del index
    return lambda values, slopes: slopes / torch.where(values.abs() < _SMALLEST, _SMALLEST, values)


def least_gradient(index: int) -> Step:
    """Levenberg and Marquardt's method on the squared gradient, which goes down as well where the Hessian is flat."""
    del index
    return lambda values, slopes: values * slopes / (values.square() + _DAMPING)


METHODS: dict[str, Method] = {
    "eigenvector following": following,
    "Newton": newton,
    "least gradient": least_gradient,
}


def searched(objective: Objective, theta: Vector, method: Method, share: float) -> Vector:
    """Walk until the gradient is rounding.

    Args:
        objective: The loss.
        theta: Where to begin.
        method: What to do with the eigenvalues.
        share: Of the directions that curve down at the start, to go up along.
    """
    step: Step | None = None
    for _ in range(_ROUNDS):
        gradient = objective.gradient(theta)
        if square(gradient) < 1e-6 * CRITICAL:
            break
        values, vectors = eigen(objective, theta)
        step = step or method(round(share * int((values < 0.0).sum())))
        theta = theta - vectors @ step(values, vectors.T @ gradient).clamp(-_REACH, _REACH)
    return theta


def told(gradient: Vector, values: Vector, vectors: torch.Tensor) -> tuple[End, float]:
    """Say what an end is, and how much of the gradient lies where the Hessian is flat."""
    flat = values.abs() < _FLAT * float(values.abs().max())
    kernel = float((vectors[:, flat].T @ gradient).norm() / max(float(gradient.norm()), 1e-300))
    if square(gradient) < CRITICAL:
        return End.CRITICAL, kernel
    return (End.FLAT if kernel > _IN_KERNEL else End.UNFINISHED), kernel
