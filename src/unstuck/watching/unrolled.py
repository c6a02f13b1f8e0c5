"""How much gradient is left after weights that are applied over and over: a recurrent cell, a layer that is shared.

The gradient of the loss is asked for where each of the applications gives its result, in the order they were made.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from unstuck.watching.graph import before, kind_of, leads_on, walk
from unstuck.watching.models import layer_of

# Fewer applications are layers, of which the gradients of their weights tell.
FEWEST = 16

# Parts that they are summed up in: see PLACES in findings/logged.py.
PARTS = 4

_MULTIPLYING = frozenset(
    {"AddmmBackward", "MmBackward", "BmmBackward", "BaddbmmBackward", "ConvolutionBackward"}
)

# Operations of a graph that are looked at, at most.
_MOST = 50_000


def unrolled(loss: Tensor, names: Mapping[int, str]) -> tuple[tuple[str, int, tuple[float, ...]], ...]:
    """Give the layers applied one time after the other: name, times, largest gradient in each part, first to last."""
    found: list[tuple[str, int, tuple[float, ...]]] = []
    for weight, nodes in _applications(loss).items():
        if len(nodes) < FEWEST or weight not in names:
            continue
        nodes.sort(key=lambda node: node._sequence_nr())  # noqa: SLF001  # the order of the forward pass
        if not _leads(nodes[-1], nodes[0]):
            continue
        edges = [GradientEdge(node, 0) for node in nodes]
        gradients = torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
        sizes = [
            0.0 if one is None else float(one.norm()) for one in cast("Sequence[Tensor | None]", gradients)
        ]
        cuts = [round(part * len(sizes) / PARTS) for part in range(PARTS + 1)]
        largest = tuple(max(sizes[low:high]) for low, high in itertools.pairwise(cuts))
        found.append((layer_of(names[weight]), len(nodes), largest))
    return tuple(found)


def _applications(loss: Tensor) -> dict[int, list[Any]]:
    """The multiplications with each matrix of weights."""
    found: dict[int, list[Any]] = {}
    for node in walk([loss.grad_fn], _MOST):
        if kind_of(node) in _MULTIPLYING:
            for weight in filter(None, map(_matrix, before(node))):
                found.setdefault(weight, []).append(node)
    return found


def _matrix(node: Any) -> int | None:
    """The matrix of weights that a factor is, by its id; None if it is something else."""
    while node is not None and leads_on(kind_of(node)):
        node = before(node)[0]
    variable = getattr(node, "variable", None)
    return id(variable) if torch.is_tensor(variable) and variable.dim() > 1 else None


def _leads(last: Any, first: Any) -> bool:
    """Whether one was computed from the other."""
    return any(node is first for node in walk([last], _MOST))
