"""What an optimizer is given, looked at before it is used."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unstuck.optim.errors import OptimizerError
from unstuck.optim.fused import kernel
from unstuck.optim.rule import chain
from unstuck.optim.values import is_real

# Options of groups in torch.optim that are numbers of a rule here: silently ignored they would change a training.
# A row each, which the formatter would take apart.
_OF_THE_RULE = {
    "alpha", "amsgrad", "betas", "centered", "dampening", "eps", "initial_accumulator_value", "lr_decay", "momentum",
    "momentum_decay", "nesterov", "weight_decay",
}  # fmt: skip


def checked_group(group: dict[str, Any]) -> dict[str, Any]:
    """Look at the options of a group, and make a rule of a lone part.

    Raises:
        OptimizerError: One of them cannot be used.
    """
    strange = sorted(_OF_THE_RULE & set(group))
    if strange:
        msg = f"`{strange[0]}` is part of a rule: give the group its own, such as 'rule': adam(weight_decay=0.1)"
        raise OptimizerError(msg)
    lr, rule = group["lr"], chain(group["rule"])
    if isinstance(lr, Tensor) and lr.numel() != 1:
        msg = f"`lr` must be one number, not a tensor of shape {tuple(lr.shape)}"
        raise OptimizerError(msg)
    if not (isinstance(lr, Tensor) or is_real(lr)) or not 0.0 <= float(lr) < math.inf:
        msg = f"`lr` must be a finite number and not negative, not {lr!r}; to go up, pass maximize=True"
        raise OptimizerError(msg)
    if group["fused"] and kernel(rule) is None:
        msg = f"PyTorch has no fused kernel for {rule!r}: leave out fused=True"
        raise OptimizerError(msg)
    return {**group, "rule": rule}


def checked_gradient(param: Tensor) -> Tensor:
    """Give the gradient of a parameter that has one.

    Raises:
        OptimizerError: It is sparse.
    """
    gradient = param.grad
    if gradient is None or gradient.is_sparse:
        msg = (
            f"the gradient of a parameter of shape {tuple(param.shape)} is sparse: build its Embedding with "
            "sparse=False, or step it by torch.optim.SparseAdam"
        )
        raise OptimizerError(msg)
    return gradient


def checked_saved(saved: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put the rules back into what was saved, if they are those that it was saved with.

    Raises:
        OptimizerError: They are not.
    """
    restored = [dict(group) for group in saved.get("param_groups", ())]
    for group, own in zip(restored, groups, strict=False):  # a different number is for torch to refuse
        if "rule" not in group:
            msg = "this state is not of unstuck.optim: load it into the optimizer that it is of, and `convert` that"
            raise OptimizerError(msg)
        if group["rule"] != repr(own["rule"]):
            msg = f"this state is of another rule: build the optimizer with {group['rule']}, not {own['rule']!r}"
            raise OptimizerError(msg)
        group["rule"] = own["rule"]
    return {**saved, "param_groups": restored}
