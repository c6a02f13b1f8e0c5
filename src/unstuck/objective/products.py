"""Hessian-vector products at one point: over kept graphs while memory allows, else afresh or differences."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.objective import ledger as price
from unstuck.objective.differences import Differences
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch

# One batch's share of a product: pieces of v in, pieces of H_i v out.
Term = Callable[[Sequence[Tensor]], Sequence[Tensor]]

# A graph holds intermediate results that the saved tensors do not show; measured on three models.
_GRAPH_MARGIN = 1.3


class Products:
    r"""The map $v \mapsto H v$, $H = \sum_i w_i \nabla^2 L_i(\theta) + \mathrm{diag}(c)$ at one point.

    A context manager: inside, the graphs of as many batches as fit `memory` bytes are kept, so that a product
    there costs about two gradients instead of three (Pearlmutter, 1994, by double backward). Where double
    backward does not exist, central differences of the gradient stand in, see `Differences`.

    Attributes:
        engine: "retained", "fresh", "retained + fresh" or "differences".
        noise: Relative error of one product, measured where it is not plain rounding.
    """

    def __init__(
        self,
        replay: Replay,
        batches: Sequence[Batch],
        theta: Float[Tensor, " n"],
        *,
        decay: Float[Tensor, " n"] | None,
        memory: float,
        exact: bool,
    ) -> None:
        self._replay = replay
        self._parameters = replay.parameters
        self._batches = batches
        self._theta = theta
        self._decay = decay
        self._ledger = replay.ledger
        self._memory = memory
        self._examples = sum(batch.examples for batch in batches)
        self._terms: list[Term | None] = [None] * len(batches)
        self._differences = None if exact else Differences(self._gradient, theta)
        # Rounding of the sums over examples and layers: measured 1e-6 to 2e-5 in float32.
        self._rounding = 100 * torch.finfo(self._parameters.dtype).eps

    @property
    def noise(self) -> float:
        """Relative error of one product."""
        return self._differences.error if self._differences else self._rounding

    @property
    def engine(self) -> str:
        """How the products are made."""
        if self._differences:
            return "differences"
        kept = sum(term is not None for term in self._terms)
        if kept == len(self._terms):
            return "retained"
        return "retained + fresh" if kept else "fresh"

    def __enter__(self) -> Self:
        if self._differences is None:
            self._keep_graphs()
        return self

    def __exit__(self, *_: object) -> None:
        self._terms = [None] * len(self._batches)

    def __call__(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Multiply the Hessian with one vector."""
        self._ledger.products += 1
        if self._differences:
            self._ledger.spend(price.DIFFERENCE, self._examples)
            product = self._differences(vector)
        else:
            product = self._by_double_backward(vector)
        return product if self._decay is None else product.addcmul_(self._decay, vector)

    def _by_double_backward(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        pieces = self._parameters.pieces(vector)
        total = torch.zeros_like(vector)
        with self._replay.session():
            for batch, term in zip(self._batches, self._terms, strict=True):
                self._ledger.spend(price.RETAINED_PRODUCT if term else price.FRESH_PRODUCT, batch.examples)
                parts = (term or graph(self._replay, batch, self._theta))(pieces)
                total.add_(self._parameters.flatten(parts), alpha=batch.examples / self._examples)
        return total

    def _keep_graphs(self) -> None:
        remaining = self._memory
        with self._replay.session():
            if remaining <= 0:
                return
            per_example = graph_bytes(self._replay, self._batches[0], self._theta) / self._batches[0].examples
            for index, batch in enumerate(self._batches):
                remaining -= _GRAPH_MARGIN * per_example * batch.examples
                if remaining < 0:
                    return
                self._ledger.spend(price.GRAPH, batch.examples)
                self._terms[index] = graph(self._replay, batch, self._theta)

    def _gradient(self, theta: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        total = torch.zeros_like(theta)
        with self._replay.session():
            for batch in self._batches:
                leaves = self._parameters.leaves(theta)
                gradients = torch.autograd.grad(
                    self._replay.loss(batch, leaves), leaves, allow_unused=True, materialize_grads=True
                )
                total.add_(self._parameters.flatten(gradients), alpha=batch.examples / self._examples)
        return total


def graph(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> Term:
    """Differentiate one batch's loss once, keeping the graph to differentiate again; inside a session."""
    leaves = replay.parameters.leaves(theta)
    gradients = torch.autograd.grad(
        replay.loss(batch, leaves), leaves, create_graph=True, allow_unused=True, materialize_grads=True
    )
    # A gradient that is constant has no graph, and adds nothing to the product.
    curved = [index for index, gradient in enumerate(gradients) if gradient.requires_grad]
    outputs = [gradients[index] for index in curved]

    def multiply(pieces: Sequence[Tensor]) -> Sequence[Tensor]:
        if not outputs:
            return [torch.zeros_like(leaf) for leaf in leaves]
        directions = [pieces[index] for index in curved]
        return torch.autograd.grad(
            outputs, leaves, directions, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    return multiply


def graph_bytes(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> int:
    """Memory that a kept graph of one batch holds beyond the parameters; inside a session."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = graph(replay, batch, theta)
    storages.pop(theta.untyped_storage().data_ptr(), None)
    del kept
    return sum(storages.values())


def differentiable_twice(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> bool:
    """Whether the loss can be differentiated twice by autograd; a fused or hand-written kernel may not."""
    with replay.session():
        try:
            graph(replay, batch, theta)(replay.parameters.pieces(torch.ones_like(theta)))
        except (RuntimeError, NotImplementedError):
            return False
    return True
