"""The real loss along a direction, against its quadratic model: the picture of a critical point."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.measurements.judging import Judge
from unstuck.measurements.records import Slice

# Points on each side of the centre.
_POINTS = 6


def look_along(
    judge: Judge,
    name: str,
    direction: Float[Tensor, " n"],
    gradient: Float[Tensor, " n"],
    *,
    reach: float,
) -> Slice:
    """Evaluate the loss at both sides up to `reach` along a unit vector, on the half that judges.

    Args:
        judge: Knows the loss here, and which half judges.
        name: "lowest" or "highest".
        direction: The eigenvector.
        gradient: On the half that judges; gives the model its slope.
        reach: Largest distance.
    """
    eigenvalue = judge.curvature(direction)
    slope = judge.objective.space.dot(gradient, direction)
    here = judge.judged(judge.base)
    distances = [reach * (index / _POINTS) for index in range(-_POINTS, _POINTS + 1)]
    losses = [here if distance == 0.0 else _loss(judge, direction, distance) for distance in distances]
    model = [here + slope * t + 0.5 * eigenvalue.value * t * t for t in distances]
    return Slice(name, eigenvalue, tuple(distances), tuple(losses), tuple(model))


def natural_reach(scale: float, eigenvalue: float, length: float) -> float:
    """Distance at which the quadratic model has changed by a quarter of `scale`, at most the weights' length.

    A quarter: far enough to see the bend, near enough for the model to mean something.
    """
    furthest = max(length, 1.0)
    if eigenvalue == 0.0 or scale == 0.0:
        return furthest
    return min(math.sqrt(0.5 * scale / abs(eigenvalue)), furthest)


def _loss(judge: Judge, direction: Float[Tensor, " n"], distance: float) -> float:
    theta = torch.add(judge.objective.theta, direction, alpha=distance)
    return judge.judged(judge.look(theta))
