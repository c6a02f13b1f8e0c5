"""Weight decay is part of what the optimizer descends on, so it is part of the loss here."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.objective.parameters import Parameters
from unstuck.optim import Role, Rule, reading

# Optimizers that add weight_decay * theta to the gradient, unless a group says decoupled_weight_decay.
_COUPLED = (
    torch.optim.SGD,
    torch.optim.Adagrad,
    torch.optim.RMSprop,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.ASGD,
    torch.optim.Rprop,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adam,
)


def by_parameter(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Give the group of each parameter, by its identity."""
    return {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}


def decays(optimizer: Optimizer, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Give the coefficient of each of these parameters, in its own shape; see `decay_coefficients`."""
    groups = by_parameter(optimizer)
    return [
        torch.zeros_like(tensor.detach())
        + _coefficient(optimizer, groups.get(id(tensor), {}), optimizer.state.get(tensor, {}))
        for tensor in tensors
    ]


def decay_coefficients(optimizer: Optimizer | None, parameters: Parameters) -> Float[Tensor, " n"] | None:
    r"""Give $c$ such that the optimizer rests where $\nabla L(\theta) + c \odot \theta = 0$; None for none.

    Coupled decay (SGD, Adam, ...) adds $\lambda \theta$ to the gradient: $c = \lambda$. Decoupled decay
    (AdamW; Loshchilov & Hutter, 2019, algorithm 2) is outside the division by $\sigma$, so that with
    $\sigma$ as it stands now $c = \lambda (\sigma + \epsilon)$. Optimizers this function does not know,
    and decoupled ones that have not made a step yet, count as having none.
    """
    if optimizer is None:
        return None
    flat = parameters.flatten(decays(optimizer, [slot.parameter for slot in parameters.slots]))
    return flat if bool(flat.any()) else None


def coupled(optimizer: Optimizer, group: dict[str, Any]) -> float:
    r"""Give $\lambda$ where the optimizer adds $\lambda \theta$ to the gradient that goes through the scale."""
    if isinstance(rule := group.get("rule"), Rule):
        return reading.decays(rule)[0]
    known = isinstance(optimizer, _COUPLED) and not decouples(optimizer, group)
    return float(group.get("weight_decay", 0.0)) if known else 0.0


def shrinking(optimizer: Optimizer) -> float:
    """Give the largest share of a weight that decay takes at each step; 0 where it goes through a scale.

    What enters the gradient of plain descent, a momentum repeats: each step's part is then taken again and again.
    """
    return max((_shrinking(optimizer, group) for group in optimizer.param_groups), default=0.0)


def _shrinking(optimizer: Optimizer, group: dict[str, Any]) -> float:
    if isinstance(rule := group.get("rule"), Rule):
        decay = reading.decays(rule)[1]
    elif decouples(optimizer, group) or isinstance(optimizer, torch.optim.SGD):
        decay = float(group.get("weight_decay", 0.0)) * _repeated(optimizer, group)
    else:
        return 0.0
    return float(group.get("lr", 0.0)) * decay


def _repeated(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """How often a momentum takes what enters the gradient once."""
    if not isinstance(optimizer, torch.optim.SGD):
        return 1.0
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    return (1.0 - dampening) / (1.0 - momentum) if 0.0 < momentum < 1.0 else 1.0


def _coefficient(optimizer: Optimizer, group: dict[str, Any], state: dict[str, Any]) -> float | Tensor:
    if isinstance(rule := group.get("rule"), Rule):
        return _composed(rule, state)
    decay = float(group.get("weight_decay", 0.0))
    decoupled = decouples(optimizer, group)
    if not decay or not isinstance(optimizer, _COUPLED):
        return 0.0
    if not decoupled:
        return decay
    if "exp_avg_sq" not in state:
        return 0.0
    correction = 1.0 - group["betas"][1] ** float(state["step"])
    second = state.get("max_exp_avg_sq", state["exp_avg_sq"])
    return decay * ((second / correction).sqrt() + group["eps"])


def _composed(rule: Rule, state: dict[str, Any]) -> float | Tensor:
    coupled, apart = reading.decays(rule)
    if not apart or rule.part(Role.SCALE) is None:
        return coupled + apart
    inverse = reading.inverse_scale(rule, state)
    return coupled if inverse is None else coupled + apart / inverse


def decouples(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether a group's weight decay is apart from the gradient that goes through the scale."""
    if isinstance(rule := group.get("rule"), Rule):
        return reading.decays(rule)[1] > 0.0
    return isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay", False))
