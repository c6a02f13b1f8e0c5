"""What a loss is made from, as far as its graph says: outputs that are normalised twice, or lack their logarithm."""

from typing import Any

from torch import Tensor

from unstuck.watching.graphs.graph import before, kind_of, leads_on, walk

# What a loss normalises with, what it must not come from, and how both are called.
_NORMALISING = {
    "LogSoftmaxBackward": "The loss takes a softmax itself, as cross_entropy does",
    "BinaryCrossEntropyWithLogitsBackward": "The loss, binary_cross_entropy_with_logits, takes a sigmoid itself",
}
_NORMALISED = {"SoftmaxBackward": "a softmax", "SigmoidBackward": "a sigmoid"}

# What wants logarithms of probabilities.
_LOGARITHMIC = {
    "NllLossBackward": "nll_loss",
    "NllLoss2DBackward": "nll_loss",
    "NllLoss2dBackward": "nll_loss",
    "CtcLossBackward": "ctc_loss",
}

# A loss is made of a few terms within a few operations; its model is not searched.
_MOST = 64


def mismatch(loss: Tensor) -> str:
    """Say in a sentence what is normalised twice, or lacks its logarithm; nothing where that is not seen."""
    for node in walk([loss.grad_fn], _MOST, into=lambda node: kind_of(node) not in _NORMALISING):
        kind = kind_of(node)
        first = _NORMALISED.get(kind_of(_origin(node)))
        if first and kind in _NORMALISING:
            return f"{_NORMALISING[kind]}, and what it is given has gone through {first} already"
        if first and kind in _LOGARITHMIC:
            return f"{_LOGARITHMIC[kind]} wants logarithms of probabilities, and is given what {first} gives"
    return ""


def _origin(node: Any) -> Any:
    """The operation that the numbers come from."""
    while (inputs := before(node)) and inputs[0] is not None:
        node = inputs[0]
        if not leads_on(kind_of(node)):
            return node
    return None
