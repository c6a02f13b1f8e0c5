"""Whether a loss takes a softmax over one class, which is 1 whatever it is given: read off shapes in its graph."""

from typing import Any

from torch import Tensor

from unstuck.watching.graphs.graph import kind_of, leads_on, shape_of, walk

# What makes a cross-entropy of the logarithms of a softmax. What else a loss is made of is the model's own affair.
_PICKING = frozenset(
    f"{name}Backward"
    for name in (
        "NllLoss",
        "NllLoss2D",
        "NllLoss2d",
        "Mean",
        "Sum",
        "Add",
        "Mul",
        "Div",
        "Neg",
        "Sub",
        "KlDiv",
    )
)
_SOFTMAX = "LogSoftmaxBackward"

# A loss is made of a few operations; its model is not searched.
_MOST = 64


def alone(loss: Tensor) -> str:
    """Say in a sentence what is normalised by itself; nothing where that is not seen."""
    for node in walk([loss.grad_fn], _MOST, into=_in_the_loss):
        if kind_of(node) == _SOFTMAX and (shape := _single(node)):
            return (
                f"The loss takes a softmax, as cross_entropy does, of outputs of shape {shape}: over a single class "
                "it is 1 whatever they are, and its logarithm 0, without a slope"
            )
    return ""


def _in_the_loss(node: Any) -> bool:
    kind = kind_of(node)
    return kind in _PICKING or leads_on(kind)


def _single(node: Any) -> tuple[int, ...]:
    """Shape of what a softmax gave, if it went over one entry."""
    dim, shape = getattr(node, "_saved_dim", None), shape_of(node, 0)
    if dim is None or not shape:
        return ()
    # Autograd keeps a dimension that counts from the end as an unsigned number.
    dim = dim - 2**64 if dim >= 2**63 else dim
    return shape if -len(shape) <= dim < len(shape) and shape[dim] == 1 else ()
