"""What a loss is made from, as far as its graph says: whether it normalises outputs that are normalised already.

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


def normalised_twice(loss: Tensor) -> str:
    """Say in a sentence what is normalised twice; nothing where that is not seen."""
    waiting: deque[Any] = deque([loss.grad_fn])
    seen = 0
    while waiting and seen < _MOST:
        node = waiting.popleft()
        if node is None:
            continue
        seen += 1
        how = _NORMALISING.get(_kind(node))
        if how is None:
            waiting.extend(_before(node))
        elif before := _NORMALISED.get(_kind(_origin(node))):
            return f"{how}, and what it is given has gone through {before} already"
    return ""


def _origin(node: Any) -> Any:
    """The operation that the numbers come from."""
    while (before := _before(node)) and before[0] is not None:
        node = before[0]
        if _kind(node).removesuffix("Backward") not in _TRANSPARENT:
            return node
    return None


def _before(node: Any) -> list[Any]:
    return [before for before, _ in node.next_functions]


def _kind(node: Any) -> str:
    return "" if node is None else node.name().rstrip("0123456789")
