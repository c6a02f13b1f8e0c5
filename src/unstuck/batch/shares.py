r"""Gradients of single examples by one parameter tensor, in the form in which they are cheapest to sum and to square.

That by the weight of a layer is a sum of outer products, $g = \sum_t d_t a_t^\top$, with the layer's inputs $a_t$ and
the gradients $d_t$ by its outputs; so that $|g|^2 = \sum_{tu} (a_t \cdot a_u)(d_t \cdot d_u)$ without making g
(Goodfellow, 2015, arXiv:1510.01799, for a single t; Li et al., 2022, arXiv:2110.05679, section 4, for several).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Gradients that are made are summed and squared while they are in the processor's cache: so many numbers at a time.
_CACHED = 2**18

# To make a gradient, sum it and square it costs as much as products of matrices over so many t, as was measured.
_MAKING = 24

Weights = Float[Tensor, " n"] | None


@dataclass(frozen=True)
class Rows:
    """Gradients of m examples as they are."""

    rows: Float[Tensor, "m n"]

    def add(
        self, ways: Float[Tensor, "c q r"], into: Float[Tensor, "c q n"], metrics: Sequence[Weights]
    ) -> Float[Tensor, "metrics m"]:
        """Add the sums over groups, with c sets of weights; give the square of each example's, in each metric.

        Args:
            ways: Weights of the r examples of each of q groups, those of a group side by side.
            into: Where the sums are added.
            metrics: Weights of the n numbers; None: ones.
        """
        grouped = self.rows.view(*ways.shape[1:], -1)
        into.add_(torch.bmm(ways.transpose(0, 1), grouped).transpose(0, 1))
        squares = self.rows.square()
        each = (squares if weights is None else squares * weights for weights in metrics)
        return torch.stack([weighted.sum(1, dtype=torch.float64) for weighted in each])

    def one(self, index: int) -> Float[Tensor, " n"]:
        """Give that of one example."""
        return self.rows[index]


@dataclass(frozen=True)
class Outer:
    """Gradients of m examples that are sums of outer products: n = o * i.

    Attributes:
        inputs: Of a layer, in its own form.
        outputs: Gradients by them.
        unfold: From the inputs of some examples to what their outputs are linear in, m x t x i.
    """

    inputs: Float[Tensor, "m ..."]
    outputs: Float[Tensor, "m t o"]
    unfold: Callable[[Tensor], Tensor]

    def add(
        self, ways: Float[Tensor, "c q r"], into: Float[Tensor, "c q n"], metrics: Sequence[Weights]
    ) -> Float[Tensor, "metrics m"]:
        """Do as `Rows` does."""
        return _Pairs(self.unfold(self.inputs), self.outputs).add(ways, into, metrics)

    def one(self, index: int) -> Float[Tensor, " n"]:
        """Give that of one example."""
        inputs = self.unfold(self.inputs[index : index + 1])[0]
        return (self.outputs[index].T @ inputs).flatten()


@dataclass(frozen=True)
class _Pairs:
    """Two factors of each outer product."""

    inputs: Float[Tensor, "m t i"]
    outputs: Float[Tensor, "m t o"]

    def add(
        self, ways: Float[Tensor, "c q r"], into: Float[Tensor, "c q n"], metrics: Sequence[Weights]
    ) -> Float[Tensor, "metrics m"]:
        """Do as `Rows` does."""
        (_, times, i), o = self.inputs.shape, self.outputs.shape[2]
        weighted = any(weights is not None for weights in metrics)
        if times > 1 and (weighted or times + times * times * (i + o) / (i * o) > _MAKING):
            return self._made(ways, into, metrics)
        self._sum(ways, into)
        return torch.stack([self._squares(weights) for weights in metrics])

    def _sum(self, ways: Float[Tensor, "c q r"], into: Float[Tensor, "c q n"]) -> None:
        groups = ways.shape[1]
        inputs = self.inputs.reshape(groups, -1, self.inputs.shape[2])
        for weights, place in zip(ways, into, strict=True):
            scaled = (self.outputs * weights.reshape(-1, 1, 1)).reshape(groups, -1, self.outputs.shape[2])
            place.add_(torch.bmm(scaled.transpose(1, 2), inputs).flatten(1))

    def _squares(self, weights: Weights) -> Float[Tensor, " m"]:
        """Without the gradients; with weights, only for a single t."""
        if weights is not None:
            spread = self.outputs[:, 0].square() @ weights.view(self.outputs.shape[2], -1)
            return spread.mul_(self.inputs[:, 0].square()).sum(1, dtype=torch.float64)
        if self.inputs.shape[1] == 1:
            lengths = [
                each[:, 0].square().sum(1, dtype=torch.float64) for each in (self.inputs, self.outputs)
            ]
            return lengths[0] * lengths[1]
        products = [torch.bmm(each, each.transpose(1, 2)) for each in (self.inputs, self.outputs)]
        return products[0].mul_(products[1]).sum((1, 2), dtype=torch.float64)

    def _made(
        self, ways: Float[Tensor, "c q r"], into: Float[Tensor, "c q n"], metrics: Sequence[Weights]
    ) -> Float[Tensor, "metrics m"]:
        """With the gradients, of a few examples at a time: of some groups, or of some within a group."""
        groups, each = ways.shape[1:]
        size = into.shape[2]
        some, few = max(_CACHED // (each * size), 1), min(max(_CACHED // size, 1), each)
        inputs, outputs = (part.unflatten(0, (groups, each)) for part in (self.inputs, self.outputs))
        squares = torch.empty(len(metrics), groups, each, dtype=torch.float64, device=into.device)
        for group in range(0, groups, some):
            for first in range(0, each, few):
                block = slice(group, group + some), slice(first, first + few)
                a, d = inputs[block].flatten(0, 1), outputs[block].flatten(0, 1)
                rows = Rows(torch.bmm(d.transpose(1, 2), a).flatten(1))
                found = rows.add(ways[:, *block], into[:, block[0]], metrics)
                squares[:, *block] = found.view(len(metrics), *ways[0][block].shape)
        return squares.flatten(1)


@dataclass(frozen=True)
class Lookup:
    """Gradients of m examples by a table of which each looked up some rows: n = table * d."""

    rows: Int[Tensor, "m t"]
    outputs: Float[Tensor, "m t d"]
    table: int

    def add(
        self, ways: Float[Tensor, "c q r"], into: Float[Tensor, "c q n"], metrics: Sequence[Weights]
    ) -> Float[Tensor, "metrics m"]:
        """Do as `Rows` does."""
        groups = ways.shape[1]
        width = self.outputs.shape[2]
        group = torch.arange(groups, device=into.device)[:, None]
        where = group.expand(groups, self.rows.numel() // groups).flatten(), self.rows.flatten()
        for weights, place in zip(ways, into, strict=True):
            scaled = (self.outputs * weights.reshape(-1, 1, 1)).flatten(0, 1)
            place.unflatten(1, (self.table, width)).index_put_(where, scaled, accumulate=True)
        # What an example looks up several times counts as one row of its gradient.
        count = len(self.rows)
        example = torch.arange(count, device=into.device)[:, None]
        keys, inverse = (example * self.table + self.rows).flatten().unique(return_inverse=True)
        made = torch.zeros(len(keys), width, dtype=self.outputs.dtype, device=into.device)
        squares = made.index_add_(0, inverse, self.outputs.flatten(0, 1)).square_()
        found = torch.zeros(len(metrics), count, dtype=torch.float64, device=into.device)
        for row, weights in zip(found, metrics, strict=True):
            own = squares if weights is None else squares * weights.view(self.table, width)[keys % self.table]
            row.index_add_(0, keys // self.table, own.sum(1, dtype=torch.float64))
        return found

    def one(self, index: int) -> Float[Tensor, " n"]:
        """Give that of one example."""
        made = torch.zeros(
            self.table, self.outputs.shape[2], dtype=self.outputs.dtype, device=self.outputs.device
        )
        return made.index_add_(0, self.rows[index], self.outputs[index]).flatten()


Share = Rows | Outer | Lookup
