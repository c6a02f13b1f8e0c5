"""What lies behind step functions alone, read off the graph of a loss: the gradient that comes to it is zero."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unstuck.watching.graphs.graph import before, kind_of, walk

# Their derivative is zero wherever they have one. Those without any, as comparisons, leave no node.
STEPS = {f"{name.capitalize()}Backward": name for name in ("round", "floor", "ceil", "trunc", "sign", "sgn")}

# Operations of a graph that are looked at, at most.
_MOST = 20_000


@dataclass(frozen=True)
class Stairs:
    """Parameters that a loss depends on through step functions only.

    Attributes:
        behind: Their ids.
        open: Ids of those that a gradient can come to.
        ends: Names of the functions that it ends at.
    """

    behind: frozenset[int] = frozenset()
    open: frozenset[int] = frozenset()
    ends: tuple[str, ...] = ()


NO_STAIRS = Stairs()


def stairs(loss: Tensor) -> Stairs:
    """Tell what a gradient of this loss comes to from what it would come to if it went through step functions."""
    reached = set(walk([loss.grad_fn], _MOST, into=lambda node: kind_of(node) not in STEPS))
    ends = {node for node in reached if kind_of(node) in STEPS}
    open_ = _leaves(reached)
    behind: set[int] = set()
    met: list[str] = []
    for kind in sorted(set(map(kind_of, ends))):
        below = [one for end in ends if kind_of(end) == kind for one in before(end)]
        found = _leaves(walk(below, _MOST, but=reached - ends)) - open_
        if found:
            behind |= found
            met.append(STEPS[kind])
    return Stairs(frozenset(behind), frozenset(open_), tuple(met))


def _leaves(nodes: Iterable[Any]) -> set[int]:
    """Ids of the parameters among some nodes."""
    variables = (getattr(node, "variable", None) for node in nodes)
    return {id(variable) for variable in variables if torch.is_tensor(variable)}
