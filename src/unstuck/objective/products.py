"""Hessian-vector products at one point: over kept graphs while memory allows, else afresh or differences."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck import journal, processes
from unstuck.objective import ledger as price
from unstuck.objective.differences import Differences, Step
from unstuck.objective.graphs import Graph, Kept, keep
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch
from unstuck.space import Space, inner

# A graph holds intermediate results that the saved tensors do not show; measured on three models.
_GRAPH_MARGIN = 1.3


class Products:
    r"""The map $v \mapsto H v$, $H = \sum_i w_i \nabla^2 L_i(\theta) + \mathrm{diag}(c)$ at one point.

    A context manager: inside, the graphs of as many batches as fit `memory` bytes are kept, so that a product
    there costs about two gradients instead of three (Pearlmutter, 1994, by double backward). Where double
    backward does not exist, central differences of the gradient stand in, see `Differences`.

    Args:
        replay: Evaluates the loss.
        batches: The sample.
        theta: The point.
        decay: The weight decay $c$.
        memory: Bytes for kept graphs.
        error: Of products by autograd, relative; infinite where they are not to be used.
        first: The graph of the first batch, if there is one already.
        digest: Of all that they depend on but the vector, where they are to be kept.

    Attributes:
        engine: "retained", "fresh", "retained + fresh" or "differences", and where blocks of the model are
            computed again, "+ checkpointed".
        noise: Relative error of one product, measured where it is not plain rounding.
        step: How gradients are differenced where autograd does not make them; None where it does.
    """

    def __init__(  # noqa: PLR0913  # what is known already is handed over with the rest
        self,
        replay: Replay,
        batches: Sequence[Batch],
        theta: Float[Tensor, " n"],
        *,
        decay: Float[Tensor, " n"] | None,
        memory: float,
        error: float,
        first: Kept | None = None,
        known: Step | None = None,
        digest: str = "",
    ) -> None:
        self._digest = digest
        self._replay = replay
        self._parameters = replay.parameters
        self._batches = batches
        self._theta = theta
        self._decay = decay
        self._ledger = replay.ledger
        self._memory = memory
        self._examples = sum(batch.examples for batch in batches)
        self._graphs: list[Graph | None] = [None] * len(batches)
        self._first = first
        self._differences: Differences | None = None
        self.noise, self.step = error, known
        if math.isinf(error):
            self._differences = Differences(self._gradient, theta, self.space, known)
            self.noise, self.step = self._differences.error, self._differences.chosen

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        return self._parameters.space

    @property
    def engine(self) -> str:
        """How the products are made."""
        thrift = self._replay.thrift
        if self._differences:
            return "differences + checkpointed" if thrift.gradients else "differences"
        kept = sum(graph is not None for graph in self._graphs)
        whole = "retained" if kept == len(self._graphs) else "retained + fresh" if kept else "fresh"
        return f"{whole} + checkpointed" if thrift.products else whole

    def __enter__(self) -> "Products":
        if self._differences is None:
            self._keep_graphs()
        return self

    def __exit__(self, *_: object) -> None:
        self._graphs = [None] * len(self._batches)
        self._first = None

    def __call__(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Multiply the Hessian with one vector."""
        self._ledger.products += 1
        held = journal.current()
        if held is None or not self._digest:
            total = self._product(vector)
        else:
            key = journal.digest("product", self._digest, self._differences is None, vector)
            total = held.tensors(key, lambda: {"product": self._product(vector)})["product"].to(vector)
        return total if self._decay is None else total.addcmul_(self._decay, vector)

    def _product(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        if self._differences:
            return self._differences(vector)
        total = torch.zeros_like(vector)
        for batch, part in zip(self._batches, self._parts(vector), strict=True):
            total.add_(part, alpha=batch.here / self._examples)
        return processes.total(total)

    def block(self, columns: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Multiply the Hessian with several vectors: together where graphs are kept, which is cheaper by far."""
        try:
            return self._together(columns)
        except (
            RuntimeError,
            TypeError,
        ):  # an operation of the backward pass that knows no batches of vectors
            return torch.stack([self(column) for column in columns.T.contiguous()], dim=1)

    def quotients(self, vector: Float[Tensor, " n"]) -> list[float]:
        r"""Evaluate $v^\top H_i v / v^\top v$ for each batch $i$, weight decay included."""
        return self.forms([vector / self.space.norm(vector)])[:, 0, 0].tolist()

    def forms(self, vectors: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "b k k"]:
        r"""Evaluate $v_j^\top H_i v_k$ for each batch $i$, weight decay included, in float64.

        All vectors are multiplied over one graph of a batch, also where none is kept.
        """
        self._ledger.products += len(vectors)
        held = journal.current()
        if held is None or not self._digest:
            return self._forms(vectors)
        key = journal.digest("forms", self._digest, self._decay, self._differences is None, *vectors)
        return held.tensors(key, lambda: {"forms": self._forms(vectors)})["forms"]

    def _forms(self, vectors: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "b k k"]:
        if self._differences:
            found = self._differed_forms(vectors)
        else:
            found = processes.total(self._multiplied_forms(vectors))
        if self._decay is not None:
            found += self._gram(vectors, [self._decay * vector for vector in vectors])
        return 0.5 * (found + found.mT)

    def _multiplied_forms(self, vectors: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "b k k"]:
        made: list[Tensor] = []
        rows, pieces = torch.stack(list(vectors)), [self._parameters.pieces(vector) for vector in vectors]
        graphs, first = list(self._graphs), self._first
        if first and not graphs[0]:
            graphs[0], self._first = first.graph, None
        with self._replay.session():
            for index, batch in enumerate(self._batches):
                graph, graphs[index] = graphs[index], None
                own = price.RETAINED_PRODUCT if graph else price.FRESH_PRODUCT
                self._spend(own + price.RETAINED_PRODUCT * (len(vectors) - 1), batch)
                graph = graph or Graph(self._replay, batch, self._theta)
                products = [self._parameters.flatten(graph(each)) for each in pieces]
                found = torch.stack([inner(rows, product) for product in products])
                made.append(found.double().cpu() * batch.share)
        return torch.stack(made)

    def _differed_forms(self, vectors: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "b k k"]:
        rows: list[Tensor] = []
        for vector in vectors:
            length = self.space.norm(vector)
            products = [length * product for product in self._differed(vector / length)]
            rows.append(torch.stack([self._gram(vectors, [product])[:, 0] for product in products]))
        return torch.stack(rows, dim=1)

    def _gram(self, vectors: Sequence[Tensor], others: Sequence[Tensor]) -> Float[Tensor, "k m"]:
        rows = [[self.space.dot(vector, other) for other in others] for vector in vectors]
        return torch.tensor(rows, dtype=torch.float64)

    def _together(self, columns: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        if not processes.every(true=all(self._graphs)):
            msg = "vectors are multiplied together only over kept graphs"
            raise TypeError(msg)
        rows = columns.T.contiguous()
        total = torch.zeros_like(rows)
        with self._replay.session():
            for batch, graph in zip(self._batches, self._graphs, strict=True):
                assert graph is not None  # noqa: S101  # as was just made sure
                parts = graph(self._parameters.stacked(rows), together=True)
                flat = torch.cat([part.reshape(len(rows), -1) for part in parts], dim=1).to(total)
                total.add_(flat, alpha=batch.here / self._examples)
                self._ledger.spend(price.RETAINED_PRODUCT * len(rows), batch.examples)
        total = processes.total(total)
        self._ledger.products += len(rows)
        return (total if self._decay is None else total.addcmul_(self._decay, rows)).T

    def _parts(self, vector: Float[Tensor, " n"]) -> Iterator[Float[Tensor, " n"]]:
        """Multiply the vector with each batch's Hessian."""
        pieces = self._parameters.pieces(vector)
        self._first = None  # what was not kept is not held either
        with self._replay.session():
            for batch, graph in zip(self._batches, self._graphs, strict=True):
                self._spend(price.RETAINED_PRODUCT if graph else price.FRESH_PRODUCT, batch)
                yield self._parameters.flatten((graph or Graph(self._replay, batch, self._theta))(pieces))

    def _differed(self, unit: Float[Tensor, " n"]) -> Iterator[Float[Tensor, " n"]]:
        """Multiply a unit vector with each batch's Hessian, by the step that suits all batches together."""
        assert self._differences  # noqa: S101  # as its only caller knows
        step, _ = self._differences.along(unit)
        with self._replay.session():
            for batch in self._batches:
                yield self._differences.at(unit, step, partial(self._of_batch, batch))

    def _spend(self, own: float, batch: Batch) -> None:
        again = price.CHECKPOINTED if self._replay.thrift.products else 1.0
        self._ledger.spend(own * again, batch.examples)

    def _keep_graphs(self) -> None:
        remaining = self._memory
        if remaining <= 0:
            return
        with self._replay.session():
            first = self._first or keep(self._replay, self._batches[0], self._theta)
            self._first = None
            per_example = first.nbytes / self._batches[0].examples
            for index, batch in enumerate(self._batches):
                remaining -= _GRAPH_MARGIN * per_example * batch.examples
                if remaining < 0 or math.isnan(remaining):
                    return
                if index == 0:
                    self._graphs[0] = first.graph
                else:
                    self._ledger.spend(price.GRAPH, batch.examples)
                    self._graphs[index] = Graph(self._replay, batch, self._theta)

    def _gradient(self, theta: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        total = torch.zeros_like(theta)
        with self._replay.session():
            for batch in self._batches:
                total.add_(self._of_batch(batch, theta), alpha=batch.examples / self._examples)
        return total

    def _of_batch(self, batch: Batch, theta: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        self._ledger.spend(price.GRADIENT, batch.examples)
        return self._replay.gradient(batch, theta)[1]
