"""Whether outputs are compared with the targets of all other examples too: (N, 1) and (N,) broadcast to (N, N).

Shapes that the graph of a loss knows are read: no hook is called, nothing is unpacked.
"""

from typing import Any

from torch import Tensor

from unstuck.watching.outputs import before, kind_of, leads_on

# What compares outputs with targets, element by element.
_COMPARING = frozenset({"SubBackward", "MseLossBackward", "SmoothL1LossBackward", "HuberLossBackward"})

# What makes one number of such differences. What else a loss is made of is the model's own affair.
_SUMMING = frozenset(
    f"{name}Backward"
    for name in ("Mean", "Sum", "Add", "Mul", "Div", "Neg", "Pow", "Abs", "Sqrt", "Log", "Log1p")
)

# A loss is made of a few operations; its model is not searched.
_MOST = 64


def crossed(loss: Tensor) -> str:
    """Say in a sentence which shapes are broadcast to a table; nothing where that is not seen."""
    waiting: list[Any] = [loss.grad_fn]
    seen = 0
    while waiting and seen < _MOST:
        node = waiting.pop(0)
        kind = kind_of(node)
        seen += 1
        if kind in _COMPARING and (shapes := _table(node)):
            given, table = shapes
            return (
                f"The outputs of shape {given} and their targets are broadcast against each other to {table}, so "
                "that each output is compared with the targets of all examples"
            )
        if kind in _SUMMING or kind in _COMPARING or leads_on(kind):
            waiting += before(node)
    return ""


def _table(node: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shapes of outputs and of what comes of comparing them with something fixed, if that is a square table."""
    sides = [side for side in node.next_functions if side[0] is not None]
    if len(sides) != 1:
        return None  # pairs of what is learnt, as in losses of distances and ranks
    (source, number), table = sides[0], _shape(node, 0)
    if kind_of(source) == "ExpandBackward":
        table = _shape(source, 0)
        source, number = source.next_functions[0]
    given = _shape(source, number)
    count = given[0] if given else 0
    return (
        (given, table) if count > 1 and given in {(count,), (count, 1)} and table == (count, count) else None
    )


def _shape(node: Any, number: int) -> tuple[int, ...]:
    known = getattr(node, "_input_metadata", None)  # of what it gave in the forward pass
    return tuple(known[number].shape) if known and number < len(known) else ()
