"""Training and validation loss along directions: sharp and flat, as one sees them."""

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.landscape.ground import Ground
from unstuck.landscape.heights import Heights
from unstuck.landscape.line import Line
from unstuck.landscape.records import Profile
from unstuck.objective import Objective
from unstuck.objective.parameters import Parameters

# A profile ends where the training loss has risen by one to so many times the rise that profiles are compared by, on
# its steeper side; looked for by these strides, so often at most.
_HIGH, _STRIDE, _STRIDES = 4.0, math.sqrt(2.0), 16


def random_direction(objective: Objective, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Draw a unit vector that prefers no direction."""
    drawn = objective.space.draw(generator).to(objective.theta)
    return drawn / objective.space.norm(drawn)


def normalisations(model: nn.Module) -> frozenset[str]:
    """Name the parameters of normalisations, which may have as many dimensions as their inputs."""
    return frozenset(
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
        for own, _ in module.named_parameters(recurse=False)
    )


def filter_direction(
    parameters: Parameters,
    theta: Float[Tensor, " n"],
    generator: torch.Generator,
    still: AbstractSet[str] = frozenset(),
) -> Float[Tensor, " n"] | None:
    r"""Draw a direction whose filters are as long as the weights' own (Li et al., 2018, section 4).

    $d_i \leftarrow d_i \|w_i\| / \|d_i\|$ for each output unit or filter $i$, the first index of a parameter; biases
    and scales of normalisations stay where they are. None where nothing else is trained, or all of it is zero.

    Args:
        parameters: The pieces of the vector.
        theta: The weights.
        generator: Draws it.
        still: Names of parameters that stay where they are though they are no vectors.
    """
    drawn = parameters.space.draw(generator).to(theta)
    pairs = zip(parameters.pieces(drawn), parameters.pieces(theta), parameters.slots, strict=True)
    for piece, weights, slot in pairs:
        if piece.ndim < 2 or slot.name in still:  # noqa: PLR2004 - a vector has no filters
            piece.zero_()
            continue
        rows, own = piece.flatten(1), weights.flatten(1)
        piece.mul_((own.norm(dim=1) / rows.norm(dim=1)).reshape(-1, *[1] * (piece.ndim - 1)))
    return drawn if parameters.space.square(drawn) > 0.0 else None


def look_along(ground: Ground, name: str, direction: Float[Tensor, " n"]) -> Profile:
    """Look at both losses on both sides of the point, from where it is to where the training loss is high.

    Args:
        ground: The point, and validation data if there are any.
        name: Of the direction.
        direction: A unit vector.
    """
    judge, rise, objective = ground.judge, ground.rise(), ground.objective
    here = judge.judged(judge.base)

    def risen(distance: float) -> float:
        places = (torch.add(objective.theta, direction, alpha=alpha) for alpha in (distance, -distance))
        return max(judge.judged(judge.look(place)) for place in places) - here

    curvature = judge.curvature(direction)
    reach = _reach(risen, rise, curvature.value, max(objective.space.norm(objective.theta), 1.0))
    line = Line(Heights(judge, ground.held), reach * direction, ground.limits)
    distances = [reach * share for share in line.shares]
    training = [height.training for height in line.heights]
    return Profile(
        name=name,
        curvature=curvature,
        distances=tuple(distances),
        training=tuple(training),
        errors=tuple(line.errors),
        validation=tuple(height.validation for height in line.heights if height.validation is not None),
        width=_width(distances, training, here + rise),
        evaluated=len(distances) - sum(line.interpolated),
        interpolated=tuple(line.interpolated) if line.interpolation else (),
        interpolation=line.interpolation,
    )


def _reach(risen: Callable[[float], float], rise: float, curvature: float, furthest: float) -> float:
    """Look where a parabola would be high, nearer while it is too high, and else farther while it is too low."""
    distance = furthest
    if curvature > 0.0:
        distance = min(furthest, math.sqrt(2.0 * _HIGH * rise / curvature))
    shrunk = False
    for _ in range(_STRIDES):
        height = risen(distance)
        if height > _HIGH * rise or not math.isfinite(height):
            distance, shrunk = distance / _STRIDE, True
        elif height < rise and not shrunk and distance < furthest:
            distance = min(distance * _STRIDE, furthest)
        else:
            break
    return distance


def _width(distances: Sequence[float], losses: Sequence[float], level: float) -> float | None:
    centre = len(distances) // 2
    sides = (
        list(zip(distances[centre:], losses[centre:], strict=True)),
        [(-x, y) for x, y in zip(distances[centre::-1], losses[centre::-1], strict=True)],
    )
    return min((found for side in sides if (found := _crossing(side, level)) is not None), default=None)


def _crossing(side: Sequence[tuple[float, float]], level: float) -> float | None:
    """Where a straight line between the points first reaches a level."""
    for (x, y), (further, higher) in pairwise(side):
        if higher >= level:
            return further if not math.isfinite(higher) else x + (further - x) * (level - y) / (higher - y)
    return None
