"""A look at the live loss: second derivatives of the user's own graph, before the user's own backward frees it."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.curvature.subspace import Subspace, span
from unstuck.curvature.vectors import Operator
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.records.live import Along, Look
from unstuck.objective import ledger as price
from unstuck.objective.decay import decays
from unstuck.objective.generators import generators_kept
from unstuck.watching.graphs.activations import flat_layers, flat_outputs
from unstuck.watching.graphs.bounded import beyond
from unstuck.watching.graphs.unrolled import unrolled
from unstuck.watching.models import momentum_of, parameters_of
from unstuck.watching.others import several
from unstuck.watching.recent import SHIFTED

# Products that span the space, at most and at least; on each of the batches that judge there are three more.
PRODUCTS, FEWEST = 10, 6
JUDGES = 4

# More batches that judge in a further round: as much as a look costs, with no space to span.
MORE = 7

# What a look costs at most: the graph and its products, then a graph and three products on each batch that judges.
COST = price.GRAPH + PRODUCTS * price.RETAINED_PRODUCT + JUDGES * (price.GRAPH + 3 * price.RETAINED_PRODUCT)

# Damping of the Newton step, as a share of the largest eigenvalue: one batch's curvature below it is its own affair.
_DAMPING = 0.03

# Of the shift that lets the lowest eigenvalue grow, as a share of one batch's largest: that of the mean is smaller.
_SHIFT = 0.75

# How many directions of largest curvature are called the top ones.
_TOP = 5

# Second derivatives are not used when the matrix is less symmetric than this: batch norm's are sometimes wrong, and
# bfloat16 reaches 1e-2 at best.
_ASYMMETRIC = 0.05

# Curvature that changes the loss by less than this share of it, as far as the weights reach, is as good as none.
_MATTERS = 0.01


class Graph:
    """The graph of a live loss: its gradient, which can be differentiated again. Nothing is accumulated anywhere."""

    def __init__(
        self,
        loss: Tensor,
        parameters: Sequence[Tensor],
        factor: float,
        decays: Sequence[Tensor] | None = None,
    ) -> None:
        r"""Differentiate `factor` times the loss, plus $\theta^\top C \theta / 2$ with the decays $C$.

        Raises:
            MeasurementError: No gradient depends on the parameters.
        """
        self._leaves = list(parameters)
        self._factor = factor
        wide = any(parameter.dtype == torch.float64 for parameter in parameters)
        dtype = torch.float64 if wide else torch.float32
        self._like = torch.empty(0, dtype=dtype, device=parameters[0].device)
        with torch.enable_grad():
            found = torch.autograd.grad(
                loss, self._leaves, create_graph=True, allow_unused=True, materialize_grads=True
            )
            found = [gradient.to_dense() for gradient in found]  # embeddings may give sparse ones
        self._curved = [index for index, gradient in enumerate(found) if gradient.requires_grad]
        self._gradients = found
        self._decay = (
            _flat(decays, self._like) if decays is not None and any(map(torch.any, decays)) else None
        )
        self.gradient = factor * _flat(found, self._like)
        if self._decay is not None:
            self.gradient += self._decay * self.weights()
        if not self._curved:
            msg = "its gradient does not depend on the parameters"
            raise MeasurementError(msg)

    def product(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Multiply the Hessian with it."""
        split = vector.split([leaf.numel() for leaf in self._leaves])
        pieces = [piece.view(leaf.shape).to(leaf) for piece, leaf in zip(split, self._leaves, strict=True)]
        found = torch.autograd.grad(
            [self._gradients[index] for index in self._curved],
            self._leaves,
            [pieces[index] for index in self._curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        image = self._factor * _flat(found, self._like)
        return image if self._decay is None else image + self._decay * vector

    def weights(self) -> Float[Tensor, " n"]:
        """The parameters as one vector."""
        return _flat(self._leaves, self._like)


class Looker:
    """One look: found on one batch, then judged by the next ones.

    In this order: `find` before a backward pass, `after` the step, `judge` before as many backward passes as it is
    `wanting`, with `before` and `after` each step, then `look`. All of them leave the training as it is.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        step: int,
        products: int = PRODUCTS,
        seed: int = 0,
        names: Mapping[int, str] | None = None,
    ) -> None:
        self._leaves = differentiable(optimizer)
        self._names = names or {}
        self._momentum = momentum_of(optimizer)
        # What the optimizer descends on is the loss and its weight decay.
        self._decays = decays(optimizer, self._leaves)
        self._step, self._products, self._seed = step, products, seed
        self._numbers: dict[str, Any] = {}
        self._directions: dict[str, Tensor] = {}
        self._judged: list[dict[str, tuple[float, float]]] = []
        self._judges = JUDGES
        self._bent: list[Tensor] = []  # products with the lowest direction
        self._weights = self._gradient = torch.empty(0)
        self._descent: float | None = None
        self._left: Tensor | None = None  # the weights after the last step
        self._shifted = False
        self.gradients = 0.0
        self.seconds = 0.0

    @property
    def found(self) -> bool:
        """Whether the batch it is found on has been looked at."""
        return bool(self._numbers)

    @property
    def moved(self) -> bool:
        """Whether the step after that batch has been made."""
        return "update" in self._directions

    @property
    def wanting(self) -> int:
        """How many batches have still to judge."""
        return self._judges - len(self._judged)

    def ask_more(self) -> None:
        r"""Let more batches judge, and let what the last ones have shown of the lowest direction improve it first.

        $u \leftarrow c u - \bar H u$, normalised, with the products averaged over the batches that have judged:
        stochastic power iteration (Oja, 1982), shifted so that the lowest eigenvalue is what grows. A direction from
        one batch shows mostly that batch's noise; and it is judged by batches that it does not come from again.
        """
        self._judges += MORE
        self.miss()
        lowest = self._directions.get("lowest")
        if lowest is not None and self._bent:
            shift = _SHIFT * self._numbers["lambda_max"].value
            better = shift * lowest - torch.stack(self._bent).mean(dim=0)
            self._directions["lowest"] = better / better.norm()
            self._bent = []
            for judged in self._judged:
                judged.pop("lowest", None)

    def find(self, loss: Tensor, factor: float, go_on: Callable[[], bool]) -> None:
        """Look at a batch.

        Raises:
            MeasurementError: Its second derivatives cannot be trusted.
            RuntimeError: There are none.
        """
        with self._timed(), generators_kept():
            graph = self._graph(loss, factor)
            gradient = graph.gradient
            seeded = torch.Generator().manual_seed(self._seed)
            start = torch.randn(gradient.numel(), generator=seeded).to(gradient)
            starts = [gradient, start] if float(gradient.norm()) > 0.0 else [start]
            hessian = Operator(lambda vector: self._product(graph, vector), gradient.numel(), gradient)
            # However little time there is: where fewer span the space, a way down is missed as often as not.
            space = span(hessian, starts, self._products, go_on, least=FEWEST)
            value = factor * float(loss.detach())
            self._check(space, graph, value)
            self._sum_up(space, graph, value)
            self._numbers["flat"] = flat_layers(loss, self._names)
            self._numbers["flat_outputs"] = flat_outputs(loss, self._names)
            self._numbers["unrolled"] = unrolled(loss, self._names)
            self._numbers["beyond"] = beyond(loss)
            self.gradients += price.GRADIENT * len(self._numbers["unrolled"])

    def before(self) -> None:
        """See whether something else than the steps has moved the weights, half as far as a step or more."""
        if self.found and not self.moved and several():
            with self._timed():
                self._take_all()
        if self._left is not None:
            with self._timed():
                moved = _flat(self._leaves, self._weights) - self._left
                self._shifted |= bool(moved.norm() > SHIFTED * self._directions["update"].norm())

    def _take_all(self) -> None:
        """Take for the gradient that which the step is made from: what all processes have summed up."""
        given = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self._leaves]
        self._gradient = _flat(given, self._weights)
        if any(map(torch.any, self._decays)):
            self._gradient += _flat(self._decays, self._weights) * self._weights
        self._numbers["gradient_norm"] = float(self._gradient.norm())

    def after(self) -> None:
        """Learn what the step after that batch has added to the weights."""
        if not self.found:
            return
        with self._timed():
            self._left = _flat(self._leaves, self._weights)
            if not self.moved:
                step = self._left - self._weights
                self._directions["update"] = step
                self._descent = -float(self._gradient @ step)

    def miss(self) -> None:
        """Learn that there was a step of which nothing was heard."""
        self._left = None

    def judge(self, loss: Tensor, factor: float) -> None:
        """Measure slope and curvature along what was found, on another batch."""
        with self._timed(), generators_kept():
            graph = self._graph(loss, factor)
            found: dict[str, tuple[float, float]] = {}
            for name, along in self._directions.items():
                image = self._product(graph, along)
                found[name] = (float(graph.gradient @ along), float(along @ image))
                if name == "lowest":
                    self._bent.append(image)
            self._judged.append(found)

    def look(self) -> Look:
        """Sum up."""
        update = self._directions.get("update")
        return Look(
            step=self._step,
            size=sum(leaf.numel() for leaf in self._leaves),
            update=self._along("update"),
            krylov=self._along("krylov"),
            lowest=self._along("lowest"),
            step_length=None if update is None else float(update.norm()),
            judges=len(self._judged),
            gradients=self.gradients,
            seconds=self.seconds,
            descent=self._descent,
            momentum=self._momentum,
            shifted=self._shifted,
            **self._numbers,
        )

    def _check(self, space: Subspace, graph: Graph, loss: float) -> None:
        if not math.isfinite(space.asymmetry):
            msg = "the second derivatives are not finite"
            raise MeasurementError(msg)
        # Where units are saturated products are next to nothing, and rounding is all that is left of them.
        matters = float(space.values.abs().max()) * float(graph.weights().square().sum()) > _MATTERS * abs(
            loss
        )
        if matters and space.asymmetry > _ASYMMETRIC:
            msg = f"the second derivatives are wrong: not symmetric by {100 * space.asymmetry:.2g} %"
            raise MeasurementError(msg)

    def _sum_up(self, space: Subspace, graph: Graph, loss: float) -> None:
        self._weights, self._gradient = graph.weights(), graph.gradient
        values = space.values.tolist()
        largest = max(abs(values[0]), abs(values[-1]))
        shares = space.within(graph.gradient)
        order = space.values.abs().argsort(descending=True)
        total = float(shares.square().sum())
        damped = shares / (space.values.abs() + _DAMPING * largest).clamp_min(1e-300)
        self._directions["krylov"] = -space.combine(space.coefficients @ damped)
        if values[0] < 0.0:
            self._directions["lowest"] = space.vector(0)
        self._numbers = {
            "loss": loss,
            "gradient_norm": float(graph.gradient.norm()),
            "lambda_min": Estimate(values[0], space.residual(0)),
            "lambda_max": Estimate(values[-1], space.residual(len(values) - 1)),
            "top_share": float(shares[order[:_TOP]].square().sum()) / total if total > 0.0 else 0.0,
            "weight_norm": float(self._weights.norm()),
            "asymmetry": space.asymmetry,
        }

    def _along(self, name: str) -> Along | None:
        pairs = [judged[name] for judged in self._judged if name in judged]
        if not pairs:
            return None
        even = [1.0] * len(pairs)
        return Along(*(weighted_mean(values, even) for values in zip(*pairs, strict=True)))

    def _graph(self, loss: Tensor, factor: float) -> Graph:
        self.gradients += price.GRAPH
        return Graph(loss, self._leaves, factor, self._decays)

    def _product(self, graph: Graph, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        self.gradients += price.RETAINED_PRODUCT
        return graph.product(vector)

    @contextmanager
    def _timed(self) -> Generator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


def differentiable(optimizer: Optimizer) -> list[Tensor]:
    """The parameters that a loss can be differentiated by."""
    return [
        tensor
        for tensor in parameters_of(optimizer)
        if tensor.requires_grad and tensor.is_floating_point() and tensor.layout == torch.strided
    ]


def _flat(tensors: Sequence[Tensor], like: Tensor) -> Float[Tensor, " n"]:
    """One vector of all, of the type and on the device of another."""
    return torch.cat([tensor.detach().to_dense().reshape(-1).to(like) for tensor in tensors])
