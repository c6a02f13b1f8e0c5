"""Gradients of small pieces of the data, kept as sums over groups: enough for every noise scale and its error."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.objective import Batch, Objective
from unstuck.objective import ledger as price

# More groups than this add nothing to the error's own precision; fewer make it worthless.
GROUPS, FEWEST = 32, 6


@dataclass(frozen=True)
class Grouped:
    r"""Sums over groups of pieces, with $b$ the examples of a piece and $g$ its gradient.

    Attributes:
        sums: $U_k = \sum b\,g$ over the pieces of group k, one row a group.
        signed: $Z_k = \sum \pm \sqrt b\,g$ with random signs.
        signs: $\sum \pm \sqrt b$ of each group.
        squares: $\sum b\,g^2$ for each parameter tensor and each group, in the metric of each row of `metrics`.
        pieces: Pieces in each group.
        examples: Examples in each group.
        names: Of the parameter tensors.
        sizes: Numbers of parameters in each.
        metrics: Weights that squares are taken in; the first are ones, that is None.
        loss: Mean over all pieces.
    """

    sums: Float[Tensor, "k n"]
    signed: Float[Tensor, "k n"]
    signs: tuple[float, ...]
    squares: Float[Tensor, "metrics slots k"]
    pieces: tuple[int, ...]
    examples: tuple[int, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    metrics: tuple[Float[Tensor, " n"] | None, ...]
    loss: float


def grouped(
    objective: Objective,
    pieces: Sequence[Batch],
    groups: int,
    *,
    seed: int,
    metrics: Sequence[Float[Tensor, " n"] | None] = (None,),
    enough: Callable[[int], bool] = lambda _: False,
) -> Grouped:
    """Evaluate the gradient of each piece, until there are `enough`; pieces go to the groups in turn."""
    parameters, theta = objective.parameters, objective.theta
    sums = torch.zeros(groups, objective.size, dtype=theta.dtype, device=theta.device)
    signed = torch.zeros_like(sums)
    squares = torch.zeros(len(metrics), len(parameters.slots), groups, dtype=torch.float64)
    signs, counts, examples = [0.0] * groups, [0] * groups, [0] * groups
    drawn = torch.Generator().manual_seed(seed)
    ways = (2 * torch.randint(0, 2, (len(pieces),), generator=drawn) - 1).tolist()
    losses: list[float] = []
    for index, (piece, loss, gradient) in enumerate(_each(objective, pieces, enough)):
        group = index % groups
        losses.append(loss * piece.examples)
        sign = ways[index] * math.sqrt(piece.examples)
        sums[group].add_(gradient, alpha=float(piece.examples))
        signed[group].add_(gradient, alpha=sign)
        signs[group] += sign
        counts[group] += 1
        examples[group] += piece.examples
        for row, metric in enumerate(metrics):
            parts = parameters.pieces(gradient.square() if metric is None else metric * gradient.square())
            squares[row, :, group] += piece.examples * torch.tensor(
                [float(part.sum(dtype=torch.float64)) for part in parts], dtype=torch.float64
            )
    return Grouped(
        sums=sums,
        signed=signed,
        signs=tuple(signs),
        squares=squares,
        pieces=tuple(counts),
        examples=tuple(examples),
        names=tuple(slot.name for slot in parameters.slots),
        sizes=tuple(slot.parameter.numel() for slot in parameters.slots),
        metrics=tuple(metrics),
        loss=math.fsum(losses) / sum(examples),
    )


def _each(
    objective: Objective, pieces: Sequence[Batch], enough: Callable[[int], bool]
) -> Iterator[tuple[Batch, float, Float[Tensor, " n"]]]:
    theta = objective.theta
    with objective.replay.session():
        for done, piece in enumerate(pieces):
            if enough(done):
                return
            objective.ledger.spend(price.GRADIENT, piece.examples)
            loss, gradient = objective.replay.gradient(piece, theta)
            decayed = gradient if objective.decay is None else gradient.addcmul_(objective.decay, theta)
            yield piece, loss, decayed
