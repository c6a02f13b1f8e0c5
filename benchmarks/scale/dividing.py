"""Labelled trainings divided over processes: every batch into shards, the model by `fully_shard` or not at all."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from unstuck import Training, processes
from unstuck.objective.sampling import count_examples


class Shard:
    """One process's part of every batch: each so-manieth example, so that all together see the very same batches."""

    def __init__(self, data: Iterable[Any]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        for content in self.data:
            yield _part(content, count_examples(content))

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]


def _part(content: Any, examples: int) -> Any:
    def rows(item: Any) -> Any:
        whole = isinstance(item, Tensor) and item.ndim and len(item) == examples
        return item[processes.rank() :: processes.count()] if whole else item

    return tree_map(rows, content)


def divided(training: Training, *, model: bool) -> Training:
    """Divide the data over all processes, and the `model` too or not."""
    validation = None if training.validation is None else Shard(training.validation)
    training = replace(training, data=Shard(training.data), validation=validation)
    return _sharded(training) if model else training


def _sharded(training: Training) -> Training:
    """Divide the model, and let its optimizer hold the shards, state included, as if it had been so all along."""
    old = list(training.model.parameters())
    for child in training.model.children():
        if any(True for _ in child.parameters()) and not isinstance(child, nn.ModuleList):
            fully_shard(child)
    fully_shard(training.model)
    if training.optimizer is not None:
        _follow(training.optimizer, old, list(training.model.parameters()))
    return training


def _follow(optimizer: Optimizer, old: list[nn.Parameter], new: list[nn.Parameter]) -> None:
    of = {id(parameter): shard for parameter, shard in zip(old, new, strict=True)}

    def moved(value: Any, parameter: Tensor, shard: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and value.shape == parameter.shape:
            return distribute_tensor(value, shard.device_mesh, shard.placements)
        return value

    states = {id(parameter): state for parameter, state in optimizer.state.items()}
    optimizer.state.clear()
    for group in optimizer.param_groups:
        before, group["params"] = group["params"], [of.get(id(each), each) for each in group["params"]]
        for parameter, shard in zip(before, group["params"], strict=True):
            if id(parameter) in states:
                state = states[id(parameter)]
                optimizer.state[shard] = {key: moved(value, parameter, shard) for key, value in state.items()}


def large(width: int) -> Training:
    """A perceptron of about four times the square of `width` parameters, in float32."""
    torch.manual_seed(0)
    layers = [nn.Linear(width, width), nn.Tanh()] * 4
    model = nn.Sequential(
        *[type(layer)(width, width) if isinstance(layer, nn.Linear) else layer for layer in layers]
    )
    inputs = torch.randn(16, width)
    return Training(
        model, lambda made, batch: (made(batch) - batch).square().mean(), [inputs[:8], inputs[8:]]
    )
