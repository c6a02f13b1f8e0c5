"""Whether targets lie beyond what outputs can be: those of a tanh or a sigmoid, read off the graph of a loss."""

from collections.abc import Set
from typing import Any

from torch import Tensor

from unstuck.watching.graphs.graph import before, kind_of, leads_on, walk

# Losses whose graph keeps what is compared. They are nothing where outputs are their targets.
_COMPARING = frozenset({"MseLossBackward", "SmoothL1LossBackward", "HuberLossBackward"})

# What is made of differences by those who write such a loss themselves: its graph keeps the differences.
_OF_DIFFERENCES = frozenset({"PowBackward", "AbsBackward"})

# Between outputs and differences numbers may be put in other rows, but in no other order.
_IN_ORDER = frozenset({"View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Clone", "Alias"})

# What outputs are made with last, and between what they lie then.
_BOUNDS = {
    "TanhBackward": ("tanh", -1.0),
    "SigmoidBackward": ("sigmoid", 0.0),
    "SoftmaxBackward": ("softmax", 0.0),
}

# What the best outputs within the bounds would leave of the squared differences: more, and nothing else matters.
_LEFT = 0.5

# A loss is made of a few terms within a few operations; its model is not searched.
_MOST = 64


def beyond(loss: Tensor) -> str:
    """Say in a sentence how far targets lie beyond what outputs can be; nothing where that is not seen."""
    for node in walk([loss.grad_fn], _MOST, into=lambda node: kind_of(node) not in _COMPARING):
        kind = kind_of(node)
        compared = (
            _kept(node) if kind in _COMPARING else _worked_out(node) if kind in _OF_DIFFERENCES else None
        )
        if compared is None:
            continue
        (name, least), outputs, targets = compared
        left = (targets - targets.clamp(least, 1.0)).square().sum() / (targets - outputs).square().sum()
        if left > _LEFT:
            return (
                f"The outputs come from a {name} and lie between {least:g} and 1, but their targets between "
                f"{float(targets.min()):.3g} and {float(targets.max()):.3g}: the best that such outputs can be "
                f"leaves {100 * float(left):.3g} % of the squared differences as they are"
            )
    return ""


def _kept(node: Any) -> tuple[tuple[str, float], Tensor, Tensor] | None:
    """The bounds of outputs, these and their targets, as a loss has kept them."""
    learnt = [one for one in before(node) if one is not None]
    bounds = _BOUNDS.get(kind_of(_origin(learnt[0]))) if len(learnt) == 1 else None
    if bounds is None:
        return None
    return bounds, node._saved_self.detach(), node._saved_target.detach()  # noqa: SLF001  # documented


def _worked_out(node: Any) -> tuple[tuple[str, float], Tensor, Tensor] | None:
    """The same from differences: outputs less targets, or targets less outputs."""
    difference = before(node)[0]
    sides = before(difference)
    if kind_of(difference) != "SubBackward" or sides.count(None) != 1:
        return None
    origin = _origin(sides[0] or sides[1], _IN_ORDER)
    bounds = _BOUNDS.get(kind_of(origin))
    if bounds is None or difference._saved_alpha != 1:  # noqa: SLF001
        return None
    outputs, differences = origin._saved_result.detach(), node._saved_self.detach()  # noqa: SLF001
    if outputs.numel() != differences.numel():
        return None
    outputs = outputs.reshape(differences.shape)
    return bounds, outputs, outputs - differences if sides[1] is None else outputs + differences


def _origin(node: Any, through: Set[str] | None = None) -> Any:
    """The operation that gives what goes through a few others as it is; None where several are put together."""
    while node is not None:
        kind = kind_of(node)
        leads = leads_on(kind) if through is None else kind.removesuffix("Backward") in through
        if not leads:
            return node
        given = [one for one in before(node) if one is not None]
        node = given[0] if len(given) == 1 else None
    return None
