"""How much gradient is left after weights that are applied over and over: a recurrent cell, a layer that is shared.

The gradient of the loss is asked for where each of the applications gives its result, in the order they were made.
A kernel that goes through a whole sequence by itself (`nn.LSTM` on a CPU) shows no result between: the gradient at
what it takes at each step has come back through all later ones.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from unstuck.watching.graphs.graph import before, kind_of, leads_on, walk
from unstuck.watching.models import layer_of

# Fewer applications are layers, of which the gradients of their weights tell.
FEWEST = 16

# Parts that they are summed up in: see PLACES in findings/live/logged.py.
PARTS = 4

_MULTIPLYING = frozenset(
    {"AddmmBackward", "MmBackward", "BmmBackward", "BaddbmmBackward", "ConvolutionBackward"}
)

# Goes through a sequence of shape (steps, examples, units).
_FUSED = "MkldnnRnnLayerBackward"

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
        sizes = _sizes(_gradients(loss, [GradientEdge(node, 0) for node in nodes]))
        found.append((layer_of(names[weight]), len(nodes), _largest(sizes)))
    return (*found, *_through_kernels(loss, names))


def _through_kernels(loss: Tensor, names: Mapping[int, str]) -> list[tuple[str, int, tuple[float, ...]]]:
    """The same of whole sequences; those that nobody differentiates by are left out."""
    taking: list[tuple[str, GradientEdge]] = []
    for node in walk([loss.grad_fn], _MOST):
        if kind_of(node) == _FUSED:
            (sequence, number), *others = node.next_functions
            own = [names[key] for one, _ in others if (key := _matrix(one)) is not None and key in names]
            if sequence is not None and own:
                taking.append((layer_of(own[0]), GradientEdge(sequence, number)))
    gradients = _gradients(loss, [edge for _, edge in taking]) if taking else ()
    return [
        (name, len(gradient), _largest(_sizes(gradient.unbind())))
        for (name, _), gradient in zip(taking, gradients, strict=True)
        if gradient is not None and len(gradient) >= FEWEST
    ]


def _gradients(loss: Tensor, edges: Sequence[GradientEdge]) -> Sequence[Tensor | None]:
    found = torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
    return cast("Sequence[Tensor | None]", found)


def _sizes(gradients: Iterable[Tensor | None]) -> list[float]:
    return [0.0 if one is None else float(one.norm()) for one in gradients]


def _largest(sizes: Sequence[float]) -> tuple[float, ...]:
    """The largest in each part."""
    cuts = [round(part * len(sizes) / PARTS) for part in range(PARTS + 1)]
    return tuple(max(sizes[low:high]) for low, high in itertools.pairwise(cuts))


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
