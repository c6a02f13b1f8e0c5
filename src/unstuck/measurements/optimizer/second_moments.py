"""Where optimizers keep the mean of squared gradients."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from unstuck import processes
from unstuck.objective.shards import local
from unstuck.optim import Optimizer as Composed
from unstuck.optim import Role, Rule, reading

# Subclasses may mean something else by the same key, so that classes are compared and not asked for kinship.
KEYS: dict[type[Optimizer], str] = {
    torch.optim.Adagrad: "sum",
    torch.optim.RMSprop: "square_avg",
    torch.optim.Adadelta: "square_avg",
    torch.optim.Adam: "exp_avg_sq",
    torch.optim.AdamW: "exp_avg_sq",
    torch.optim.NAdam: "exp_avg_sq",
    torch.optim.RAdam: "exp_avg_sq",
    torch.optim.Adamax: "exp_inf",
}

# What these put into sigma is of no gradient, by the settings that say how much.
_ADDED: dict[type[Optimizer], str] = {
    torch.optim.Adagrad: "initial_accumulator_value",
    **dict.fromkeys(
        (torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam),
        "eps",
    ),
}

# What strangers' optimizers call the running mean of squared gradients. A bare "sum" or "v" may be anything;
# it is compared all the same, for nothing follows from it unless the steps with a fresh one gain more.
_LIKELY = ("exp_avg_sq", "square_avg", "second_moment", "v", "sum")


def key_of(optimizer: Optimizer, group: Mapping[str, Any]) -> str | None:
    """Name the entry that holds the second moment of a group's parameters, if the optimizer's rule is known."""
    if type(optimizer) is Composed:
        scale = reading.scale_of(group["rule"])
        return scale.slots[0] if scale else None
    return KEYS.get(type(optimizer))


def is_known(optimizer: Optimizer) -> bool:
    """Whether what the optimizer calls by the keys of PyTorch is what PyTorch calls so."""
    return type(optimizer) is Composed or type(optimizer) in KEYS


def known_key(optimizer: Optimizer, parameters: Sequence[Tensor]) -> tuple[str | None, bool]:
    """Name the entry of the state that holds the second moment, and say whether that is an assumption."""
    keys = [key for group in optimizer.param_groups if (key := key_of(optimizer, group))]
    for candidate in keys or ([] if type(optimizer) is Composed else _LIKELY):
        if any(holds(optimizer, parameter, candidate) for parameter in parameters):
            return candidate, not keys
    return None, False


def holds(optimizer: Optimizer, parameter: Tensor, key: str) -> bool:
    """Whether the state of the parameter has an entry of that name that can be a second moment."""
    state: Any = optimizer.state.get(parameter)
    value = state.get(key) if isinstance(state, dict) else None
    if not isinstance(value, Tensor) or value.shape != parameter.shape or not value.is_floating_point():
        return False
    negative = bool((local(value) < 0.0).any())  # squares they cannot be
    return processes.every(true=not negative)


def weight(group: Mapping[str, Any], state: Mapping[str, Any], key: str) -> float:
    """Give what is stored under the key for gradients whose mean square is 1 throughout."""
    if isinstance(rule := group.get("rule"), Rule):
        scale = reading.scale_of(rule)
        return scale.weight(max(reading.age(state, Role.SCALE), 1)) if scale else 1.0
    step, betas = max(as_number(state.get("step")), 1.0), group.get("betas")
    if key == "sum":
        return step
    if key in ("exp_avg_sq", "v") and isinstance(betas, tuple | list):
        beta = as_number(cast("Sequence[Any]", betas)[-1])
        return 1.0 - beta**step if 0.0 <= beta < 1.0 else 1.0
    return 1.0


def added_by(optimizer: Optimizer) -> str:
    """Name the setting that puts into sigma what no gradient has made; "" if none is known."""
    return _ADDED.get(type(optimizer), "")


def share_added(group: Mapping[str, Any], stored: Tensor, factor: float) -> Tensor:
    """Give which share of each number's sigma that is, of the optimizers for which `added_by` names a setting."""
    if "initial_accumulator_value" in group:
        return (as_number(group["initial_accumulator_value"]) / stored).sqrt().clamp(max=1.0)
    eps = as_number(group.get("eps"))
    return eps / ((stored / factor).sqrt() + eps)


def as_number(value: Any) -> float:
    """A setting or a counter as a number; 0 where there is none."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return 0.0
