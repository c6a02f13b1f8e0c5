"""The training is borrowed: what is needed to give it back bit for bit, also after an exception or Ctrl-C."""

import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# How deep to look for random generators in data sets, samplers and modules.
_DEPTH = 6


class Modules:
    """The state of every module beside its parameters: buffers and plain attributes.

    The model computes with copies of its buffers, so that BatchNorm may update running statistics
    as in training; `rewind` makes every evaluation start from the same state.
    """

    def __init__(self, model: nn.Module, *, dtype: torch.dtype | None = None) -> None:
        self._modules = list(model.modules())
        self._dtype = dtype
        self._attributes = [dict(module.__dict__) for module in self._modules]
        self._containers = [_containers(module) for module in self._modules]
        self._buffers = [dict(vars(module)["_buffers"]) for module in self._modules]
        self._tensors = [
            (tensor, tensor.detach().clone())
            for attributes in self._attributes
            for tensor in attributes.values()
            if isinstance(tensor, Tensor)
        ]

    def rewind(self) -> None:
        """Put fresh copies of the buffers in place, and every attribute back to its first value."""
        self._reset_attributes()
        for module, originals in zip(self._modules, self._buffers, strict=True):
            for name, original in originals.items():
                # Always anew: an update through `.data` leaves no trace that could be asked for.
                vars(module)["_buffers"][name] = None if original is None else self._copy(original)

    def restore(self) -> None:
        """Put the user's own buffers and attributes back."""
        for module, originals in zip(self._modules, self._buffers, strict=True):
            _refill(vars(module)["_buffers"], originals)
        for tensor, before in self._tensors:
            if not torch.equal(tensor, before):
                with torch.no_grad():
                    tensor.copy_(before)
        self._reset_attributes()
        for module in self._modules:
            if isinstance(module, nn.RNNBase):
                # It caches its weights at every forward pass, ours among them.
                module._init_flat_weights()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def _copy(self, buffer: Tensor) -> Tensor:
        copy = buffer.detach().clone()
        return copy.to(self._dtype) if self._dtype and copy.is_floating_point() else copy

    def _reset_attributes(self) -> None:
        for module, attributes in zip(self._modules, self._attributes, strict=True):
            present = module.__dict__
            if len(present) != len(attributes):
                for name in present.keys() - attributes.keys():
                    del present[name]
            present.update(attributes)
        for containers in self._containers:
            for container, before in containers:
                _refill(container, before)


@contextmanager
def generators_kept(owned: Sequence[Any] = ()) -> Generator[None]:
    """Put the global random generators, and the `owned` ones, back to their states afterwards."""
    states = [(generator, _get_state(generator)) for generator in owned]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if _cuda() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        for generator, state in states:
            _set_state(generator, state)


def seed_everything(seed: int) -> None:
    """Seed the global generators, those a loss may draw from; only inside `generators_kept`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if _cuda():
        torch.cuda.manual_seed_all(seed)


def _cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _containers(module: nn.Module) -> list[tuple[Any, Any]]:
    # The dictionaries of parameters, buffers and submodules are looked after by name.
    own = {"_parameters", "_buffers", "_modules"}
    return [
        (value, value.copy())
        for name, value in module.__dict__.items()
        if name not in own and type(value) in (list, dict, set)
    ]


def _refill(container: Any, before: Any) -> None:
    if len(container) == len(before) and all(a is b for a, b in zip(container, before, strict=True)):
        if not isinstance(container, dict):
            return
        if all(container[key] is before[key] for key in before):
            return
    container.clear()
    if isinstance(container, list):
        container.extend(before)
    else:
        container.update(before)


def generators_within(*roots: object) -> Iterator[Any]:
    """Find random generators within objects, by attributes and containers, a few levels down."""
    seen: set[int] = set()
    level = list(roots)
    for _ in range(_DEPTH):
        below: list[object] = []
        for thing in level:
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(
                thing, torch.Generator | np.random.Generator | np.random.RandomState | random.Random
            ):
                yield thing
            else:
                below.extend(_members(thing))
        level = below


def _members(thing: Any) -> Iterable[object]:
    if isinstance(thing, str | bytes | int | float | Tensor | np.ndarray | type) or thing is None:
        return ()
    if isinstance(thing, Mapping):
        return list(thing.values())[:64]
    if isinstance(thing, list | tuple | set):
        return list(thing)[:64]
    members: list[object] = list(getattr(thing, "__dict__", {}).values())
    for cell in getattr(thing, "__closure__", None) or ():
        try:
            members.append(cell.cell_contents)
        except ValueError:  # a name that is not bound yet
            continue
    return members


def _get_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator | np.random.RandomState):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator | np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state
