"""Planes through the point: random ones as in Li et al. (2018), and that of the two extreme eigenvectors."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.errors import MeasurementError
from unstuck.landscape.eigen import Ends
from unstuck.landscape.ground import Ground
from unstuck.landscape.pictures import Axis, Quadratic
from unstuck.landscape.profiles import filter_direction, normalisations
from unstuck.measurements.judging import Forms
from unstuck.measurements.slices import natural_reach

# A random picture ends where a step is as long as the filters are (Li et al., 2018, section 4): at the same distance
# for all networks, so that their pictures compare.
_RANDOM_REACH = 1.0

# In units of the distance at which the quadratic model has changed by a quarter of the rise: at twice that it has
# changed by the whole, and the picture ends.
_NATURAL_REACH = 2.0


@dataclass(frozen=True)
class Frame:
    """A plane before anything was evaluated on it.

    Attributes:
        name: Of the plane.
        axes: Both axes.
        steps: The displacement that is one step along either axis.
        cosine: Of the angle between the axes.
    """

    name: str
    axes: tuple[Axis, Axis]
    steps: tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
    cosine: float = 0.0

    def at(self, theta: Float[Tensor, " n"], x: float, y: float) -> Float[Tensor, " n"]:
        """Give the weights at a place."""
        return torch.add(torch.add(theta, self.steps[0], alpha=x), self.steps[1], alpha=y)


def random_frame(ground: Ground, model: nn.Module) -> Frame:
    """Draw two filter-normalised directions.

    Raises:
        MeasurementError: The model has no filters, or all their weights are zero.
    """
    parameters, generator = ground.objective.parameters, ground.limits.generator()
    still = normalisations(model)
    steps = [filter_direction(parameters, ground.theta, generator, still) for _ in range(2)]
    first, second = steps
    if first is None or second is None:
        msg = "there are no filters to scale random directions by: no trained matrix has weights other than zero"
        raise MeasurementError(msg)
    space = parameters.space
    lengths = space.norm(first), space.norm(second)
    axes = [
        Axis(name, length, -_RANDOM_REACH, _RANDOM_REACH)
        for name, length in zip(("first", "second"), lengths, strict=True)
    ]
    cosine = space.dot(first / lengths[0], second / lengths[1])
    return Frame("random", (axes[0], axes[1]), (first, second), cosine)


def hessian_frame(ground: Ground, ends: Ends) -> Frame:
    """Span the plane of the eigenvectors of the largest and the smallest eigenvalue.

    One step is a distance of 1. Each axis ends where the quadratic model has changed by the rise that pictures are
    scaled by, or at twice the length of the weights if it bends so little.

    Raises:
        MeasurementError: There is one parameter only, and no plane.
    """
    if ground.objective.size < 2:  # noqa: PLR2004 - a plane has two dimensions
        msg = "of a single parameter there is no plane"
        raise MeasurementError(msg)
    space = ground.objective.space
    length = space.norm(ground.theta)

    def axis(name: str, curvature: float) -> Axis:
        reach = _NATURAL_REACH * natural_reach(ground.rise(), curvature, length)
        return Axis(name, 1.0, -reach, reach)

    axes = axis("highest", ends.highest.value), axis("lowest", ends.lowest.value)
    steps = ends.found.highest, ends.found.lowest
    return Frame("hessian", axes, steps, space.dot(*steps))


def quadratic_model(forms: Forms, ground: Ground, frame: Frame) -> Quadratic:
    """Give slopes and curvatures on the half that judges.

    Args:
        forms: Of the steps of the frame.
        ground: The point, with its gradient.
        frame: The plane.
    """
    (xx, xy), (_, yy) = forms
    gradient, space = ground.judged.double(), ground.objective.space
    slopes = [space.dot(gradient, step.double()) for step in frame.steps]
    return Quadratic((slopes[0], slopes[1]), xx, xy, yy)
