"""Everything of a training that could change, down to the bits, as one value to compare."""

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FunctionType
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
    # Under pytest, beartype itself draws from Python's generator, to choose the items that it checks.
    different = [name for name in changed(training, before) if name != "python"]
    assert not different, different


def _state(value: Any) -> Any:
    """What a state dictionary says; the dictionary itself is made anew each time."""
    if isinstance(value, dict):
        return [(key, _state(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [_state(item) for item in value]
    return _bits(value) if isinstance(value, Tensor) else repr(value)


def _frozen(value: Any) -> Any:
    """What a value says, and which object says it."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, tuple):  # made anew, it is the same
        return [_frozen(item) for item in value]
    return (id(value), _content(value))


def _content(value: Any) -> Any:
    for kind, content in _CONTENTS:
        if isinstance(value, kind):
            return content(value)
    return None


_CONTENTS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Tensor, lambda tensor: _bits(tensor.detach())),
    (np.ndarray, lambda array: (array.dtype.str, array.shape, array.tobytes())),
    (torch.Generator, lambda generator: _bits(generator.get_state())),
    (np.random.Generator, lambda generator: repr(generator.bit_generator.state)),
    (random.Random, lambda generator: generator.getstate()),
    (nn.Module, lambda module: (module.training, _state(module.state_dict()))),
    (dict, lambda mapping: [(key, _frozen(item)) for key, item in mapping.items()]),
    (list, lambda items: [_frozen(item) for item in items]),
    (FunctionType, lambda function: [_frozen(cell.cell_contents) for cell in function.__closure__ or ()]),
)


def _bits(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return (tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
