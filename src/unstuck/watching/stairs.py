"""What lies behind step functions alone, read off the graph of a loss: the gradient that comes to it is zero.

Names of nodes alone are read: no hook is called, nothing is unpacked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unstuck.watching.outputs import before, kind_of

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
    seen: set[Any] = set()
    open_, ends = _leaves([loss.grad_fn], seen, STEPS)
    behind: set[int] = set()
    met: list[str] = []
    for kind in sorted({kind_of(end) for end in ends}):
        below = [one for end in ends if kind_of(end) == kind for one in before(end)]
        found, _ = _leaves(below, set(seen), ())
        if found - open_:
            behind |= found - open_
            met.append(STEPS[kind])
    return Stairs(frozenset(behind), frozenset(open_), tuple(met))


def _leaves(nodes: Iterable[Any], seen: set[Any], closed: Iterable[str]) -> tuple[set[int], list[Any]]:
    """Ids of the parameters below some nodes, and the nodes of these kinds, which are not gone through."""
    waiting, closed = list(nodes), frozenset(closed)
    found: set[int] = set()
    ends: list[Any] = []
    while waiting and len(seen) < _MOST:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if kind_of(node) in closed:
            ends.append(node)
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if torch.is_tensor(variable):
            found.add(id(variable))
        waiting += before(node)
    return found, ends
