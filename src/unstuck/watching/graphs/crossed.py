"""Whether outputs are compared with the targets of all other examples too: (N, 1) and (N,) broadcast to (N, N)."""

from typing import Any

from torch import Tensor

from unstuck.watching.graphs.graph import kind_of, leads_on, shape_of, walk

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
    for node in walk([loss.grad_fn], _MOST, into=_in_the_loss):
        if kind_of(node) in _COMPARING and (shapes := _table(node)):
            given, table = shapes
            return (
                f"The outputs of shape {given} and their targets are broadcast against each other to {table}, so "
                "that each output is compared with the targets of all examples"
            )
    return ""


def _in_the_loss(node: Any) -> bool:
    kind = kind_of(node)
    return kind in _SUMMING or kind in _COMPARING or leads_on(kind)


def _table(node: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shapes of outputs and of what comes of comparing them with something fixed, if that is a square table."""
    sides = [side for side in node.next_functions if side[0] is not None]
    if len(sides) != 1:
        return None  # pairs of what is learnt, as in losses of distances and ranks
    (source, number), table = sides[0], shape_of(node, 0)
    if kind_of(source) == "ExpandBackward":
        table = shape_of(source, 0)
        source, number = source.next_functions[0]
    given = shape_of(source, number)
    count = given[0] if given else 0
    return (
        (given, table) if count > 1 and given in {(count,), (count, 1)} and table == (count, count) else None
    )
