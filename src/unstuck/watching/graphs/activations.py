"""How much of what tanh and sigmoid layers give is flat, read off the graph of a loss before its backward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unstuck.watching.graphs.graph import before, kind_of, leads_on, walk
from unstuck.watching.models import layer_of

# What gives slope over largest slope, from the result that the graph keeps.
_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "TanhBackward": lambda result: 1.0 - result.square(),
    "SigmoidBackward": lambda result: 4.0 * result * (1.0 - result),
}

# Units feed what multiplies by weights; a sigmoid that is multiplied with something is a gate, to be open or shut.
_WEIGHING = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "NativeLayerNorm", "NativeBatchNorm")

# See _FLAT in measurements/model/tallies.py.
_FLAT = 0.01

# Operations of a graph that are looked at, and of those between a layer and its parameters, at most.
_MOST, _NEAR = 20_000, 16

# A loss is made of a few terms within a few operations.
_LOSS = 64


def flat_layers(loss: Tensor, names: Mapping[int, str]) -> tuple[tuple[str, float], ...]:
    """Give for each tanh or sigmoid before weights the share of its values that are flat.

    It is called by the name of the layer before it; `names` are those of the parameters, by their ids.
    """
    found: dict[str, float] = {}
    waiting: list[tuple[Any, bool]] = [(loss.grad_fn, False)]
    seen: set[Any] = set()
    while waiting and len(seen) < _MOST:
        node, feeds = waiting.pop()
        if node is None or (node, feeds) in seen:
            continue
        seen.add((node, feeds))
        kind = kind_of(node)
        if feeds and kind in _SLOPES:
            name = _name(node, names)
            found[name] = max(_share(node), found.get(name, 0.0))
        weighs = kind.removesuffix("Backward") in _WEIGHING or (feeds and leads_on(kind))
        waiting.extend((one, weighs) for one in before(node))
    return tuple(found.items())


def flat_outputs(loss: Tensor, names: Mapping[int, str]) -> tuple[tuple[str, float], ...]:
    """The same of those that the loss takes as they are, with no weights after them."""
    ends = [node for node in walk([loss.grad_fn], _LOSS, into=_in_the_loss) if kind_of(node) in _SLOPES]
    return tuple({_name(node, names): _share(node) for node in ends}.items())


def _in_the_loss(node: Any) -> bool:
    kind = kind_of(node)
    # What is multiplied with something else that is learnt is a gate.
    gates = kind == "MulBackward" and None not in before(node)
    return not gates and kind not in _SLOPES and kind.removesuffix("Backward") not in _WEIGHING


def _share(node: Any) -> float:
    slope = _SLOPES[kind_of(node)](node._saved_result.detach().float())  # noqa: SLF001  # documented
    return float((slope < _FLAT).float().mean())


def _name(node: Any, names: Mapping[int, str]) -> str:
    """The nearest layer with parameters that it comes from."""
    for one in walk(before(node), _NEAR):
        variable = getattr(one, "variable", None)
        if torch.is_tensor(variable) and id(variable) in names:
            return layer_of(names[id(variable)])
    return "a layer"
