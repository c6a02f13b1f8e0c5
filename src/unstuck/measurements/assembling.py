"""A model that `fully_shard` has divided, put together again in the first process, for what looks into modules.

The copy is an ordinary module: the classes that `fully_shard` has derived are the user's own again, and the hooks
that gather parameters are left behind. Nothing of the user's is touched.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

from unstuck import processes
from unstuck.measurements.optimizer.steps import copied
from unstuck.training import Training

_OF_FSDP = "torch.distributed"

# What `fully_shard` keeps in each module, by the beginnings of the names.
_KEPT = ("__composable_api", "_fsdp", "_is_fsdp")


def assembled(training: Training) -> Training | None:
    """Give the first process the training with all of the model and of the optimizer's state, and None to the others.

    All processes must call it at the same time: each brings its shards.
    """
    model, optimizer = training.model, training.optimizer
    memo: dict[int, Any] = {}
    state = [] if optimizer is None else tree_leaves(list(optimizer.state.values()))
    for tensor in [*model.parameters(), *state]:
        if isinstance(tensor, DTensor):
            whole = tensor.full_tensor().detach()
            if processes.rank() == 0:
                memo[id(tensor)] = _like(tensor, whole)
    if processes.rank():
        return None
    plain = _plain(model, memo)
    optimizer = None if optimizer is None else copied(optimizer, memo)
    return replace(training, model=plain, optimizer=optimizer, scheduler=None)


def _like(tensor: Tensor, whole: Tensor) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(whole.clone(), requires_grad=tensor.requires_grad)
    return whole.clone()


def _plain(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a model, as what it was before it was divided."""
    for hooks in _hooks(model):
        own = ((key, hook) for key, hook in hooks.items() if not _is_of_fsdp(hook))
        memo[id(hooks)] = OrderedDict((key, copy.deepcopy(hook, memo)) for key, hook in own)
    divided = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in divided:
        kind: Any = next(each for each in type(module).__mro__[1:] if not issubclass(each, FSDPModule))
        memo[id(module)] = kind.__new__(kind)
    for module in divided:
        held = {name: value for name, value in vars(module).items() if not name.startswith(_KEPT)}
        vars(memo[id(module)]).update({name: copy.deepcopy(value, memo) for name, value in held.items()})
    return copy.deepcopy(model, memo) if id(model) not in memo else memo[id(model)]


def _hooks(model: nn.Module) -> Iterator[dict[Any, Any]]:
    for module in model.modules():
        for name, value in vars(module).items():
            if name.endswith("_hooks") and isinstance(value, dict):
                yield cast("dict[Any, Any]", value)


def _is_of_fsdp(hook: Any) -> bool:
    owner = getattr(hook, "__self__", None)
    return any(str(getattr(each, "__module__", "")).startswith(_OF_FSDP) for each in (hook, type(owner)))
