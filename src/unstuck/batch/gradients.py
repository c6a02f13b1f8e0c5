"""Gradients of small pieces of the data, kept as sums over groups: enough for every noise scale and its error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.batch.pool import Pieces
from unstuck.batch.vectorized import Gradients, Vectorized
from unstuck.errors import MeasurementError
from unstuck.objective import Batch, Objective
from unstuck.objective import ledger as price

# More groups than this add nothing to the error's own precision; fewer make it worthless.
GROUPS, FEWEST = 32, 6


@dataclass(frozen=True)
class Grouped:
    r"""Sums over groups of pieces, with $b$ the examples of a piece and $g$ its gradient.

    Attributes:
        sums: $U_k = \sum b\,g$ over the pieces of group k, one row a group.
        signed: $Z_k = \sum \pm \sqrt b\,g$ with random signs; none where they were not asked for.
        signs: $\sum \pm \sqrt b$ of each group.
        squares: $\sum b\,g^2$ for each parameter tensor and each group, in the metric of each row of `metrics`.
        pieces: Pieces in each group.
        examples: Examples in each group.
        names: Of the parameter tensors.
        sizes: Numbers of parameters in each.
        metrics: Weights that squares are taken in; the first are ones, that is None.
        loss: Mean over all pieces.
        singly: Why the pieces were evaluated one by one; empty where many of them at a time.
    """

    sums: Float[Tensor, "k n"]
    signed: Float[Tensor, "_ n"]
    signs: tuple[float, ...]
    squares: Float[Tensor, "metrics slots k"]
    pieces: tuple[int, ...]
    examples: tuple[int, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    metrics: tuple[Float[Tensor, " n"] | None, ...]
    loss: float
    singly: str


def grouped(  # noqa: PLR0913
    objective: Objective,
    pieces: Sequence[Batch],
    groups: int,
    *,
    seed: int,
    metrics: Sequence[Float[Tensor, " n"] | None] = (None,),
    signed: bool = True,
    memory: float = math.inf,
    enough: Callable[[int], bool] = lambda _: False,
) -> Grouped:
    """Evaluate the gradient of each piece, until there are `enough`; pieces go to the groups in turn.

    Args:
        objective: Whose gradients.
        pieces: Many of them at a time where they are `Pieces` and that gives the same, else one by one.
        groups: How many.
        seed: Of the random signs.
        metrics: Weights that squares are taken in.
        signed: Whether sums with random signs are wanted, as for the curvature-weighted scale.
        memory: Bytes for what the evaluation of many at a time holds.
        enough: Is asked with the number of pieces so far.
    """
    ways = _ways(len(pieces), seed)[: 2 if signed else 1]
    sums = _Sums(objective, ways, groups, metrics)
    with objective.replay.session():
        singly = _many_at_a_time(objective, pieces, sums, memory, enough)
        for number in range(sums.done, len(pieces)):
            if enough(number):
                break
            objective.ledger.spend(price.GRADIENT, pieces[number].examples)
            sums.add(pieces[number], *objective.replay.gradient(pieces[number], objective.theta))
    return sums.finished(singly)


def _many_at_a_time(
    objective: Objective,
    pieces: Sequence[Batch],
    sums: "_Sums",
    memory: float,
    enough: Callable[[int], bool],
) -> str:
    """Evaluate as many as can be; give the reason why the rest cannot."""
    if not isinstance(pieces, Pieces):
        return "they are whole batches"
    try:
        vectorized = Vectorized(objective, pieces, memory)
        while sums.done < pieces.full and not enough(sums.done):
            numbers = sums.following(min(vectorized.most, pieces.full - sums.done))
            sums.add_many(numbers, pieces.size, vectorized(numbers))
    except MeasurementError as error:
        return str(error)
    return ""


class _Sums:
    """Sums of the gradients of the loss itself; weight decay, the same for all examples, is added at the end."""

    def __init__(
        self,
        objective: Objective,
        ways: Float[Tensor, "ways pieces"],
        groups: int,
        metrics: Sequence[Float[Tensor, " n"] | None],
    ) -> None:
        self.done = 0
        self._objective, self._groups, self._metrics = objective, groups, metrics
        theta, slots = objective.theta, objective.parameters.slots
        self._ways = ways
        self._sums = torch.zeros(len(ways), groups, objective.size, dtype=theta.dtype, device=theta.device)
        self._weights = torch.zeros(len(ways), groups, dtype=torch.float64)
        self._squares = torch.zeros(len(metrics), len(slots), groups, dtype=torch.float64)
        self._sizes = [slot.parameter.numel() for slot in slots]
        self._pieces, self._examples = torch.zeros(2, groups, dtype=torch.int64)
        self._loss = 0.0

    def following(self, most: int) -> list[int]:
        """Give the numbers of the next pieces: at most so many, as many of each group, these side by side."""
        groups = min(most, self._groups - self.done % self._groups)
        each = most // groups if groups == self._groups else 1
        return [self.done + turn * groups + group for group in range(groups) for turn in range(each)]

    @torch.no_grad()
    def add(self, piece: Batch, loss: float, gradient: Float[Tensor, " n"]) -> None:
        """Add the next piece."""
        group = self.done % self._groups
        weights = self._noted([self.done], piece.examples, [loss]).flatten().tolist()
        for sums, weight in zip(self._sums[:, group], weights, strict=True):
            sums.add_(gradient, alpha=weight)
        squares = gradient.square()
        for row, metric in enumerate(self._metrics):
            parts = (squares if metric is None else metric * squares).split(self._sizes)
            found = torch.stack([part.sum(dtype=torch.float64) for part in parts])
            self._squares[row, :, group] += piece.examples * found.cpu()

    @torch.no_grad()
    def add_many(self, numbers: Sequence[int], size: int, found: Gradients) -> None:
        """Add pieces of one size, as `following` told; what was `found` of them is let go of."""
        first = self.done % self._groups
        ways = self._noted(numbers, size, found.losses.tolist()).to(self._sums)
        groups = slice(first, first + ways.shape[1])
        begin = 0
        for slot, count in enumerate(self._sizes):
            own = slice(begin, begin := begin + count)
            if (share := found.shares.pop(slot, None)) is None:
                continue
            metrics = [None if metric is None else metric[own] for metric in self._metrics]
            squares = share.add(ways, self._sums[:, groups, own], metrics)
            self._squares[:, slot, groups] += size * squares.view(len(metrics), *ways.shape[1:]).sum(2).cpu()

    def _noted(
        self, numbers: Sequence[int], size: int, losses: Sequence[float]
    ) -> Float[Tensor, "ways groups each"]:
        """Count them, and give what each is weighted with."""
        first = self.done % self._groups
        groups = slice(first, first + min(len(numbers), self._groups - first))
        ways = self._ways[:, list(numbers)].unflatten(1, (groups.stop - first, -1))
        # An example counts as one; the sign is of the root.
        ways = ways * torch.tensor([size, math.sqrt(size)], dtype=torch.float64)[: len(ways), None, None]
        self._weights[:, groups] += ways.sum(2)
        self._pieces[groups] += ways.shape[2]
        self._examples[groups] += size * ways.shape[2]
        self._loss += size * math.fsum(losses)
        self.done += len(numbers)
        return ways

    def finished(self, singly: str) -> Grouped:
        """Give what was added up."""
        self._decay()
        slots = self._objective.parameters.slots
        return Grouped(
            sums=self._sums[0],
            signed=self._sums[1] if len(self._sums) > 1 else self._sums[0, :0],
            signs=tuple(self._weights[-1].tolist()) if len(self._sums) > 1 else (),
            squares=self._squares,
            pieces=tuple(self._pieces.tolist()),
            examples=tuple(self._examples.tolist()),
            names=tuple(slot.name for slot in slots),
            sizes=tuple(self._sizes),
            metrics=tuple(self._metrics),
            loss=self._loss / int(self._examples.sum()),
            singly=singly,
        )

    def _decay(self) -> None:
        r"""Add v to every gradient: $\sum b |g + v|^2 = \sum b |g|^2 + 2 U v + N |v|^2$."""
        if self._objective.decay is None:
            return
        added = self._objective.decay * self._objective.theta
        for row, metric in enumerate(self._metrics):
            weighted = added if metric is None else metric * added
            parts = (each.split(self._sizes, dim=-1) for each in (self._sums[0], weighted, added))
            for slot, (sums, across, along) in enumerate(zip(*parts, strict=True)):
                linear = sums.double() @ across.double()
                constant = float(across.double() @ along.double())
                self._squares[row, slot] += 2.0 * linear.cpu() + constant * self._examples
        self._sums += self._weights.to(self._sums)[..., None] * added


def _ways(count: int, seed: int) -> Float[Tensor, "2 pieces"]:
    """Ones, and random signs."""
    drawn = torch.Generator().manual_seed(seed)
    signs = 2.0 * torch.randint(0, 2, (count,), generator=drawn).double() - 1.0
    return torch.stack([torch.ones_like(signs), signs])
