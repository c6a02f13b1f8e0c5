"""The graph of a loss, as autograd keeps it: names and shapes are read, no hook is called, nothing is unpacked."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Any

# Numbers go through these as they are.
_TRANSPARENT = (
    "View",
    "UnsafeView",
    "ReshapeAlias",
    "Transpose",
    "T",
    "Permute",
    "Squeeze",
    "Unsqueeze",
    "Clone",
    "ToCopy",
    "Slice",
    "Select",
    "Index",
    "Alias",
)


def _always(_node: Any) -> bool:
    return True


def walk(
    nodes: Iterable[Any],
    most: int,
    *,
    into: Callable[[Any], bool] = _always,
    but: Set[Any] = frozenset(),
) -> Iterator[Any]:
    """Give operations and those before them, the nearest first and each once.

    Args:
        nodes: Where to begin.
        most: How many to give at most.
        into: Whether to go on with what an operation takes.
        but: Operations to leave out, with what can only be had through them.
    """
    waiting, seen = deque(nodes), set(but)
    most += len(seen)
    while waiting and len(seen) < most:
        node = waiting.popleft()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if into(node):
            waiting.extend(before(node))


def before(node: Any) -> list[Any]:
    """Give the operations whose results it takes."""
    return [] if node is None else [one for one, _ in node.next_functions]


def kind_of(node: Any) -> str:
    """Name an operation, without the number of its variant."""
    return "" if node is None else node.name().rstrip("0123456789")


def leads_on(kind: str) -> bool:
    """Whether numbers go through an operation as they are."""
    return kind.removesuffix("Backward") in _TRANSPARENT


def shape_of(node: Any, number: int) -> tuple[int, ...]:
    """Shape of what it gave in the forward pass, one of several; empty where that is not known."""
    known = getattr(node, "_input_metadata", None)
    return tuple(known[number].shape) if known and number < len(known) else ()
