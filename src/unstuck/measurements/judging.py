"""What is found on one half of the sample is judged on the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.estimate import Estimate, weighted_mean
from unstuck.objective import Objective
from unstuck.objective.products import Products

# Of each two of some vectors.
Forms = list[list[Estimate]]


@dataclass(frozen=True)
class Halves:
    """Indices of the batches that find, and of those that judge.

    When the sample is all the data and the loss is not random, both are the whole sample: the question is
    then about this very function, and nothing is left to sampling error.
    """

    finds: tuple[int, ...]
    judges: tuple[int, ...]
    exhaustive: bool

    @staticmethod
    def of(batches: int, *, exhaustive: bool) -> "Halves":
        """Split interleaved, so that an order in the data does not separate the halves."""
        everything = tuple(range(batches))
        if exhaustive:
            return Halves(everything, everything, exhaustive=True)
        return Halves(everything[::2], everything[1::2] or everything, exhaustive=False)


class Judge:
    """Compares the loss elsewhere with the loss here, batch by batch on the same batches.

    Attributes:
        objective: The loss over the whole sample.
        halves: Who finds and who judges.
        base: Every batch's loss at the point.
        floor: What no outputs whatever bring the loss below, weight decay apart.
    """

    def __init__(
        self, objective: Objective, halves: Halves, base: Sequence[float], floor: float = 0.0
    ) -> None:
        self.objective = objective
        self.halves = halves
        self.base = base
        self.floor = floor
        # A loss is a sum of rounded numbers; what is smaller than this is not there.
        eps = torch.finfo(objective.parameters.dtype).eps
        self.rounding = 4.0 * eps * math.fsum(map(abs, base)) / len(base)

    @property
    def bare(self) -> "Judge":
        """The same judge of the loss without weight decay."""
        penalty = self.objective.penalty(self.objective.theta)
        return Judge(self.objective.bare, self.halves, [value - penalty for value in self.base], self.floor)

    def loss(self) -> Estimate:
        """The loss at the point, over the whole sample."""
        everything = range(len(self.base))
        return self._mean(list(self.base), everything)

    def scale(self) -> float:
        """What a decrease is compared with: |loss|, above its floor, which means nothing of a loss that has no zero.

        Where batches' losses are negative, as densities' are, it is no less than the standard deviation of single
        examples' losses, as it follows from that of batches.
        """
        loss = abs(self.loss().value)
        if self.floor > 0.0:
            return max(loss - self.floor, self.rounding)
        if len(self.base) == 1 or min(self.base) >= 0.0 or not all(map(math.isfinite, self.base)):
            return loss
        return max(loss, stdev(self.base) * math.sqrt(self.objective.examples / len(self.base)))

    def found(self, values: Sequence[float]) -> float:
        """The mean of every batch's loss over the half that finds."""
        return self._mean(values, self.halves.finds).value

    def judged(self, values: Sequence[float]) -> float:
        """The mean of every batch's loss over the half that judges."""
        return self._mean(values, self.halves.judges).value

    def gain(self, values: Sequence[float]) -> Estimate:
        """By how much every batch's loss is lower than at the point, on the half that judges."""
        differences = [before - after for before, after in zip(self.base, values, strict=True)]
        return self._mean(differences, self.halves.judges)

    def look(self, theta: Float[Tensor, " n"]) -> list[float]:
        """Give every batch's loss at `theta` on the half that judges, and elsewhere as at the point."""
        return self._seen(theta, self.halves.judges)

    def search(self, theta: Float[Tensor, " n"]) -> list[float]:
        """Give every batch's loss at `theta` on the half that finds, and elsewhere as at the point."""
        return self._seen(theta, self.halves.finds)

    def _seen(self, theta: Float[Tensor, " n"], half: Sequence[int]) -> list[float]:
        values = list(self.base)
        for index, value in zip(half, self.objective.values(theta, half), strict=True):
            values[index] = value
        return values

    def curvature(self, direction: Float[Tensor, " n"]) -> Estimate:
        r"""Rayleigh quotient $v^\top H v / v^\top v$ on the half that judges."""
        judges = self.halves.judges
        quotients = self.objective.quotients(self.objective.theta, direction, judges)
        weights = [self.objective.weights[index] for index in judges]
        return self._certain(weighted_mean(quotients, weights), 0.0)

    def forms(self, vectors: Sequence[Float[Tensor, " n"]], products: Products | None = None) -> Forms:
        r"""Give $v_j^\top H v_k$ for each two of some vectors, on the half that judges.

        With `products`, over the graphs that those keep, which are of that half.
        """
        judges = self.halves.judges
        if products is None:
            found = self.objective.forms(self.objective.theta, vectors, judges)
        else:
            found = products.forms(vectors)
        weights = [self.objective.weights[index] for index in judges]
        return [
            [self._certain(weighted_mean(entry.tolist(), weights), 0.0) for entry in row]
            for row in found.permute(1, 2, 0)
        ]

    def _mean(self, values: Sequence[float], indices: Sequence[int]) -> Estimate:
        weights = [self.objective.weights[index] for index in indices]
        mean = weighted_mean([values[index] for index in indices], weights)
        return self._certain(mean, self.rounding)

    def _certain(self, mean: Estimate, rounding: float) -> Estimate:
        if self.halves.exhaustive or not math.isfinite(mean.value):
            return Estimate(mean.value, rounding)
        return Estimate(mean.value, math.hypot(mean.stderr, rounding), mean.degrees)
