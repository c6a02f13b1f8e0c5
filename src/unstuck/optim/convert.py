"""From an optimizer of PyTorch to the same in parts, with all that it remembers."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from unstuck.optim.decay import DecoupledWeightDecay
from unstuck.optim.errors import OptimizerError
from unstuck.optim.fused import kernel
from unstuck.optim.optimizer import Optimizer, as_real
from unstuck.optim.recipes import (
    adagrad,
    adam,
    amsgrad,
    gradient_descent,
    momentum,
    nesterov,
    rmsprop,
)
from unstuck.optim.rule import Rule, chain

Group = Mapping[str, Any]

# Options that are in the rule, that say how and not what is computed, or that are set anew.
# A row each, which the formatter would take apart.
_TAKEN = {
    "alpha", "amsgrad", "betas", "capturable", "centered", "dampening", "decoupled_weight_decay", "differentiable",
    "eps", "foreach", "fused", "initial_accumulator_value", "lr_decay", "momentum", "nesterov", "weight_decay",
}  # fmt: skip


def convert(optimizer: torch.optim.Optimizer) -> Optimizer:
    """Take over a `torch.optim` optimizer in the midst of its run: its next steps are the same to the bit.

    SGD, Adagrad, RMSprop, Adam and AdamW become a rule of parts, of which `replace` can then exchange one. Groups
    keep their numbers, and parameters what is remembered of them; the tensors are shared and not copied, so the
    optimizer that was handed in is used up. A scheduler has to be made anew for the one that is returned. Steps are
    PyTorch's of `foreach=False`, or of `fused=True` where that was asked for.

    Args:
        optimizer: A `torch.optim.SGD`, `Adagrad`, `RMSprop`, `Adam` or `AdamW`.

    Raises:
        OptimizerError: It is none of these, or it has a `lr_decay`, `capturable` or `differentiable`. Nothing has
            been changed then.
    """
    find = _RULES.get(type(optimizer))
    if find is None:
        known = ", ".join(kind.__name__ for kind in _RULES)
        msg = f"`convert` takes over {known} of torch.optim, not {type(optimizer).__name__}"
        raise OptimizerError(msg)
    for group in optimizer.param_groups:
        _refuse(group)
    rules = [find(group) for group in optimizer.param_groups]
    groups = [_group(group, rule) for group, rule in zip(optimizer.param_groups, rules, strict=True)]
    converted = Optimizer(groups, rules[0], lr=optimizer.defaults["lr"])
    for group in converted.param_groups:
        for param in group["params"]:
            if optimizer.state.get(param):
                converted.state[param].update(_state(group["rule"], optimizer.state[param]))
    return converted


def _refuse(group: Group) -> None:
    for name, instead in (
        ("lr_decay", "decay the rate by a schedule"),
        ("capturable", "leave it out"),
        ("differentiable", "leave it out"),
    ):
        if group.get(name):
            msg = f"`convert` cannot take over {name}={group[name]!r}: {instead}"
            raise OptimizerError(msg)


def _group(group: Group, rule: Rule) -> dict[str, Any]:
    kept = {name: value for name, value in group.items() if name not in _TAKEN}
    if "param_names" in kept:
        kept["params"] = list(zip(kept.pop("param_names"), group["params"], strict=True))
    return {**kept, "rule": rule, "fused": bool(group.get("fused")) and kernel(rule) is not None}


def _sgd(group: Group) -> Rule:
    decay, weight_decay = float(group["momentum"]), float(group["weight_decay"])
    if decay == 0.0:
        return gradient_descent(weight_decay=weight_decay)
    if group["nesterov"]:
        return nesterov(decay, weight_decay=weight_decay)
    return momentum(decay, dampening=float(group["dampening"]), weight_decay=weight_decay)


def _adagrad(group: Group) -> Rule:
    initial = float(group["initial_accumulator_value"])
    return adagrad(eps=float(group["eps"]), initial=initial, weight_decay=float(group["weight_decay"]))


def _rmsprop(group: Group) -> Rule:
    return rmsprop(
        float(group["alpha"]),
        eps=float(group["eps"]),
        centred=bool(group["centered"]),
        decay=float(group["momentum"]),
        weight_decay=float(group["weight_decay"]),
    )


def _adam(group: Group) -> Rule:
    if group.get("decoupled_weight_decay"):
        return _adamw(group)
    beta1, beta2 = map(float, group["betas"])
    recipe = amsgrad if group["amsgrad"] else adam
    return recipe(beta1, beta2, eps=float(group["eps"]), weight_decay=float(group["weight_decay"]))


def _adamw(group: Group) -> Rule:
    coupled = _adam({**group, "decoupled_weight_decay": False, "weight_decay": 0.0})
    return chain(coupled, DecoupledWeightDecay(float(group["weight_decay"])))


_RULES: dict[type, Callable[[Group], Rule]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adagrad: _adagrad,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adamw,
}


def _state(rule: Rule, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Put what PyTorch remembers of a parameter under the names it has here; nothing, before its first step."""
    names = {"exp_avg_sq": "square_avg"} if "square_avg" in theirs else {}
    slots = [slot for part in rule.parts for slot in part.slots]
    known = {slot: theirs.get(names.get(slot, slot)) for slot in slots}
    if not all(isinstance(tensor, Tensor) for tensor in known.values()):
        return {}
    # SGD keeps no count. All that the age decides there is whether the first step is still to come.
    tensors = cast("Mapping[str, Tensor]", known)
    return {"step": int(theirs.get("step", 1)), **{slot: as_real(tensor) for slot, tensor in tensors.items()}}
