"""Whether targets lie beyond what outputs can be: those of a tanh or a sigmoid, read off the graph of a loss."""

from typing import Any

from torch import Tensor

from unstuck.watching.graphs.graph import before, kind_of, leads_on, walk

# Losses whose graph keeps what is compared. They are nothing where outputs are their targets.
_COMPARING = frozenset({"MseLossBackward", "SmoothL1LossBackward", "HuberLossBackward"})

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
        if kind_of(node) in _COMPARING and (last := _BOUNDS.get(kind_of(_origin(node)))):
            name, least = last
            outputs, targets = node._saved_self.detach(), node._saved_target.detach()  # noqa: SLF001  # documented
            left = (targets - targets.clamp(least, 1.0)).square().sum() / (targets - outputs).square().sum()
            if left > _LEFT:
                return (
                    f"The outputs come from a {name} and lie between {least:g} and 1, but their targets between "
                    f"{float(targets.min()):.3g} and {float(targets.max()):.3g}: the best that such outputs can be "
                    f"leaves {100 * float(left):.3g} % of the squared differences as they are"
                )
    return ""


def _origin(node: Any) -> Any:
    """The operation that gives the outputs; None where what they are compared with is learnt as well."""
    given = [one for one in before(node) if one is not None]
    while len(given) == 1 and leads_on(kind_of(given[0])):
        given = [one for one in before(given[0]) if one is not None]
    return given[0] if len(given) == 1 else None
