"""What a loss is made from, as far as its graph says: outputs that are normalised twice, or lack their logarithm.

Names of nodes alone are read: no hook is called, nothing is unpacked.
"""

from collections import deque
from typing import Any

from torch import Tensor

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

# A loss is made of a few terms within a few operations; its model is not searched.
_MOST = 64


def mismatch(loss: Tensor) -> str:
    """Say in a sentence what is normalised twice, or lacks its logarithm; nothing where that is not seen."""
    waiting: deque[Any] = deque([loss.grad_fn])
    seen = 0
    while waiting and seen < _MOST:
        node = waiting.popleft()
        if node is None:
            continue
        seen += 1
        kind = kind_of(node)
        first = _NORMALISED.get(kind_of(_origin(node)))
        if first and kind in _NORMALISING:
            return f"{_NORMALISING[kind]}, and what it is given has gone through {first} already"
        if first and kind in _LOGARITHMIC:
            return f"{_LOGARITHMIC[kind]} wants logarithms of probabilities, and is given what {first} gives"
        if kind not in _NORMALISING:
            waiting.extend(before(node))
    return ""


def _origin(node: Any) -> Any:
    """The operation that the numbers come from."""
    while (inputs := before(node)) and inputs[0] is not None:
        node = inputs[0]
        if not leads_on(kind_of(node)):
            return node
    return None


def leads_on(kind: str) -> bool:
    """Whether numbers go through an operation as they are."""
    return kind.removesuffix("Backward") in _TRANSPARENT


def before(node: Any) -> list[Any]:
    """Give the operations whose results it takes."""
    return [] if node is None else [one for one, _ in node.next_functions]


def kind_of(node: Any) -> str:
    """Name an operation, without the number of its variant."""
    return "" if node is None else node.name().rstrip("0123456789")
