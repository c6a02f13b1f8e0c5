"""The principal plane of a path of the weights, and where the path is on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError, TrainingError
from unstuck.landscape.ground import Ground
from unstuck.landscape.pictures import Axis, Path
from unstuck.landscape.planes import Frame
from unstuck.space import Space

# Two principal components need three places.
_FEWEST = 3

# Beyond the path the picture goes on for this share of its size; the shorter side is at least so much of the longer.
_MARGIN, _NARROW = 0.15, 0.1

# Columns that are widened to float64 at a time.
_SLICE = 1 << 18


@dataclass(frozen=True)
class Trajectory:
    """Where the weights were.

    Attributes:
        source: "run", recorded, or "copy", continued from where the weights are.
        steps: Of the optimizer, at each place.
        places: The weights there.
    """

    source: str
    steps: tuple[int, ...]
    places: Sequence[Float[Tensor, " n"]]


def path_frame(ground: Ground, trajectory: Trajectory) -> tuple[Frame, Path]:
    r"""Span the plane of the first two principal components of a path, through the weights as they are.

    As in Li et al. (2018, section 7): of the differences $\theta_i - \theta$ to the weights, centred.

    Raises:
        MeasurementError: The path has too few places, or does not move.
    """
    count, space = len(trajectory.places), ground.objective.space
    if count < _FEWEST or not all(space.finite(place) for place in trajectory.places):
        msg = f"a path needs {_FEWEST} finite places at least, and it has {count}"
        raise MeasurementError(msg)
    moves = torch.stack([place.to(ground.theta) - ground.theta for place in trajectory.places])
    middle = moves.mean(dim=0)
    gram = space.reduce(_gram(moves, middle))
    values, vectors = torch.linalg.eigh(gram)
    total = float(gram.trace())
    if not total > 0.0 or not float(values[-2]) > torch.finfo(gram.dtype).eps * count * total:
        msg = "the path has no two directions: it does not move, or along one line"
        raise MeasurementError(msg)
    units = [_unit(vectors[:, index].to(moves) @ (moves - middle), space) for index in (-1, -2)]
    on_plane = space.reduce(torch.stack([moves @ unit for unit in units], dim=1))
    aside = moves - on_plane @ torch.stack(units)
    places = [(float(x), float(y)) for x, y in on_plane]
    axes = _axes(places)
    shares = float(values[-1]) / total, float(values[-2]) / total
    frame = Frame("path", axes, (units[0], units[1]))  # at a right angle
    return frame, Path(
        source=trajectory.source,
        steps=trajectory.steps,
        xs=tuple(x for x, _ in places),
        ys=tuple(y for _, y in places),
        losses=tuple(_loss(ground, place.to(ground.theta)) for place in trajectory.places),
        aside=tuple(space.norm(each) for each in aside),
        shares=shares,
        walk=random_walk_shares(count),
        apart=space.norm(moves[-1]),
    )


def random_walk_shares(places: int) -> tuple[float, float]:
    r"""Give the expected shares of the first two components of a random walk in very many dimensions.

    The eigenvalues of its centred Gram matrix go as $1 / (1 - \cos(\pi k / m))$, k from 1 to m - 1, for m places; for
    very many places the shares are $6 / (\pi k)^2$, 61 % and 15 % (Antognini & Sohl-Dickstein, 2018, section 3).
    """
    values = [1.0 / (1.0 - math.cos(math.pi * k / places)) for k in range(1, places)]
    total = math.fsum(values)
    return values[0] / total, values[1] / total


def _gram(moves: Float[Tensor, "m n"], middle: Float[Tensor, " n"]) -> Float[Tensor, "m m"]:
    """Inner products of the centred rows, in float64, slice by slice."""
    total = torch.zeros(len(moves), len(moves), dtype=torch.float64, device=moves.device)
    for rows, part in zip(moves.split(_SLICE, dim=1), middle.split(_SLICE), strict=True):
        centred = rows.double() - part.double()
        total += centred @ centred.T
    return total.cpu()


def _unit(vector: Float[Tensor, " n"], space: Space) -> Float[Tensor, " n"]:
    return vector / space.norm(vector)


def _axes(places: Sequence[tuple[float, float]]) -> tuple[Axis, Axis]:
    """Take in the path and the weights themselves, with some air."""
    ends = [(min(0.0, *column), max(0.0, *column)) for column in zip(*places, strict=True)]
    longest = max(high - low for low, high in ends)
    made: list[Axis] = []
    for name, (low, high) in zip(("component-1", "component-2"), ends, strict=True):
        half = max(high - low, _NARROW * longest) * (0.5 + _MARGIN)
        middle = 0.5 * (low + high)
        made.append(Axis(name, 1.0, middle - half, middle + half))
    return made[0], made[1]


def _loss(ground: Ground, place: Tensor) -> float:
    judge = ground.judge
    try:
        return judge.judged(judge.look(place))
    except TrainingError:
        return math.inf
