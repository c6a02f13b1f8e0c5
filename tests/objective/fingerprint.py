"""Everything of a training that could change, down to the bits, as one value to compare."""

import random
from collections.abc import Generator
from contextlib import contextmanager
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unstuck import Training


def fingerprint(training: Training) -> dict[str, Any]:
    """Give what must be the same before and after, by the name of the part."""
    parameters = dict(training.model.named_parameters())
    modules = training.model.named_modules()
    return {
        "parameters": {name: (_frozen(p), p._version) for name, p in parameters.items()},
        "grad": {name: _frozen(p.grad) for name, p in parameters.items()},
        "loss": _frozen(training.loss),
        "data": None if isinstance(training.data, DataLoader) else _frozen(training.data),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state(legacy=False)),
        "torch": _bits(torch.get_rng_state()),
        "optimizer": None if training.optimizer is None else _state(training.optimizer.state_dict()),
        "scheduler": None if training.scheduler is None else _state(training.scheduler.state_dict()),
        **{f"module {name}": {key: _frozen(item) for key, item in vars(m).items()} for name, m in modules},
    }


def changed(training: Training, before: dict[str, Any]) -> list[str]:
    """Name the parts that are not as they were."""
    now = fingerprint(training)
    return [name for name in before if now[name] != before[name]]


@contextmanager
def unchanged(training: Training) -> Generator[None]:
    """Assert that a block leaves everything of the training as it was, bit for bit."""
    before = fingerprint(training)
    yield
    assert changed(training, before) == []


def _state(value: Any) -> Any:
    """What a state dictionary says; the dictionary itself is made anew each time."""
    if isinstance(value, dict):
        return [(key, _state(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [_state(item) for item in value]
    return _bits(value) if isinstance(value, Tensor) else repr(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (id(value), *_bits(value.detach()))
    if isinstance(value, np.ndarray):
        return (id(value), value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, torch.Generator):
        return _bits(value.get_state())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, nn.Module):
        return (id(value), value.training, _state(value.state_dict()))
    if isinstance(value, dict):
        return (id(value), [(key, _frozen(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (id(value) if isinstance(value, list) else 0, [_frozen(item) for item in value])
    return _frozen_code(value)


def _frozen_code(value: Any) -> Any:
    if isinstance(value, FunctionType):
        return (id(value), [_frozen(cell) for cell in value.__closure__ or ()])
    if isinstance(value, MethodType):
        return _frozen(value.__self__)
    if isinstance(value, CellType):
        return _frozen(value.cell_contents)
    return value if isinstance(value, str | int | float | bool | None) else id(value)


def _bits(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return (tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
