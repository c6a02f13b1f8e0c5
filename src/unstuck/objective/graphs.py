"""One batch's loss, differentiated once, with its graph kept to differentiate again."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import TrainingError
from unstuck.objective import ledger as price
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch
from unstuck.objective.swift import Swift


class Graph:
    """One batch's share of a product: pieces of v in, pieces of H_i v out; or of several v, stacked.

    To be built, and called, inside a session.
    """

    def __init__(self, replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> None:
        self._replay = replay
        self._leaves = replay.leaves(theta)
        with Swift() if replay.swift else nullcontext():
            self._gradients = torch.autograd.grad(
                replay.loss(batch, self._leaves, twice=True),
                self._leaves,
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        # A gradient that is constant has no graph, and adds nothing to the product.
        self._curved = [index for index, gradient in enumerate(self._gradients) if gradient.requires_grad]

    @property
    def gradient(self) -> Float[Tensor, " n"]:
        """The batch's gradient, which has been computed on the way."""
        return self._replay.parameters.flatten(self._gradients)

    def __call__(self, pieces: Sequence[Tensor], *, together: bool = False) -> Sequence[Tensor]:
        """Multiply."""
        if not self._curved:
            return [torch.zeros_like(piece) for piece in pieces]
        self._replay.resume(self._leaves)
        with Swift() if self._replay.swift else nullcontext():  # for what a checkpoint computes again
            return torch.autograd.grad(
                [self._gradients[index] for index in self._curved],
                self._leaves,
                [pieces[index] for index in self._curved],
                retain_graph=True,
                is_grads_batched=together,
                allow_unused=True,
                materialize_grads=True,
            )


@dataclass(frozen=True)
class Kept:
    """A graph of one batch, and what is known of the tensors that it saves.

    Attributes:
        graph: Multiplies.
        nbytes: Memory beyond the parameters'. Infinite where it cannot be known: functions of `torch.func` in the
            loss do not let saved tensors be seen.
        narrow: Whether some are of lower precision than the parameters' vector, as under autocast.
    """

    graph: Graph
    nbytes: float
    narrow: bool


def keep(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> Kept:
    """Build a graph and learn what it holds; inside a session."""
    replay.ledger.spend(price.GRAPH, batch.examples)
    storages: dict[int, int] = {}
    narrowest = theta.dtype.itemsize

    def pack(tensor: Tensor) -> Tensor:
        nonlocal narrowest
        if tensor.is_floating_point():
            narrowest = min(narrowest, tensor.dtype.itemsize)
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            graph = Graph(replay, batch, theta)
    except (RuntimeError, TrainingError):
        return Kept(Graph(replay, batch, theta), math.inf, narrow=False)
    storages.pop(theta.untyped_storage().data_ptr(), None)
    narrow = replay.thrift.narrow or narrowest < theta.dtype.itemsize
    return Kept(graph, float(sum(storages.values())), narrow)
