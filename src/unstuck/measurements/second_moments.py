"""Where optimizers keep the mean of squared gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

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

# What strangers' optimizers call the running mean of squared gradients. A bare "sum" or "v" may be anything;
# it is compared all the same, for nothing follows from it unless the steps with a fresh one gain more.
_LIKELY = ("exp_avg_sq", "square_avg", "second_moment", "v", "sum")


def known_key(optimizer: Optimizer, parameters: Sequence[Tensor]) -> tuple[str | None, bool]:
    """Name the entry of the state that holds the second moment, and say whether that is an assumption."""
    key = KEYS.get(type(optimizer))
    for candidate in (key,) if key else _LIKELY:
        if any(holds(optimizer, parameter, candidate) for parameter in parameters):
            return candidate, key is None
    return None, False


def holds(optimizer: Optimizer, parameter: Tensor, key: str) -> bool:
    """Whether the state of the parameter has an entry of that name that can be a second moment."""
    state: Any = optimizer.state.get(parameter)
    value = state.get(key) if isinstance(state, dict) else None
    if not isinstance(value, Tensor) or value.shape != parameter.shape or not value.is_floating_point():
        return False
    return not bool((value < 0.0).any())  # squares they cannot be
