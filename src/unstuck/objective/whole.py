"""States of what `fully_shard` has divided, as checkpoints hold them: put together, and dealt out again.

They are what PyTorch's `get_model_state_dict` and `get_optimizer_state_dict` give with
`StateDictOptions(full_state_dict=True, cpu_offload=True)`, and what the functions that set them take: in that of an
optimizer, parameters go by their names, not by their numbers.
"""

import sys
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from unstuck import processes
from unstuck.space import is_distributed

State = dict[str, Any]


def whole(state: State) -> State:
    """Put together, in the first process's memory, every tensor that is divided; the other processes get empty ones.

    All processes must call it at the same time: each brings its shards.
    """
    return tree_map(_whole, state)


def _whole(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    if not is_distributed(value):
        return value.detach().cpu()
    full = (
        cast("Any", value).detach().full_tensor()
    )  # one at a time; a process that does not write keeps none
    return full.cpu() if processes.rank() == 0 else torch.empty(0)


def dealt(full: Tensor, mine: Tensor) -> Tensor:
    """Give a whole tensor divided as `mine` is, from what this process itself has read."""
    if not is_distributed(mine) or is_distributed(full):
        return full
    return sys.modules["torch.distributed.tensor"].distribute_tensor(
        full.to(mine.device), mine.device_mesh, mine.placements, src_data_rank=None
    )


def by_names(state: State, optimizer: Optimizer, model: nn.Module) -> State:
    """Give the state of an optimizer with parameters by their names in place of their numbers."""
    names = _names(optimizer, model)
    return {
        "state": {names[number]: held for number, held in state["state"].items()},
        "param_groups": [
            {**group, "params": [names[number] for number in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def by_numbers(state: Mapping[str, Any], optimizer: Optimizer, model: nn.Module) -> Mapping[str, Any]:
    """Give the state of an optimizer with parameters by their numbers, as optimizers themselves load it.

    It is given back as it is where its parameters do not go by names, or by names that the model does not have.
    """
    numbers = {name: number for number, name in enumerate(_names(optimizer, model))}
    groups = cast("list[State]", state.get("param_groups", []))
    known = all(set(map(str, group.get("params", ()))) <= numbers.keys() for group in groups)
    if not groups or not known:
        return state
    return {
        "state": {numbers[name]: held for name, held in state["state"].items()},
        "param_groups": [
            {**group, "params": [numbers[name] for name in group["params"]]} for group in groups
        ],
    }


def _names(optimizer: Optimizer, model: nn.Module) -> list[str]:
    """Names of an optimizer's parameters in the order of their numbers; a number for one that is not the model's."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [known.get(id(parameter), str(number)) for number, parameter in enumerate(every)]
