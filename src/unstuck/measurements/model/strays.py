"""Tensors that the model computes with and that are to be trained, but that it does not know as its parameters."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import Tensor, nn

from unstuck.measurements.model.cuts import gradients_of, some
from unstuck.objective import Objective
from unstuck.objective.parameters import Slot

# What a module keeps of itself, where nothing of the user's hangs but what is registered.
_OWN = frozenset(vars(nn.Module()))

# Longer lists hold data, not layers; deeper ones nobody writes.
_LARGEST, _DEEPEST = 1_000, 4

# A container, the key or place in it, and the name of what is there.
_Place = tuple[Any, Any, str]


def strays(model: nn.Module) -> tuple[Slot, ...]:
    """Leaves that require a gradient in lists, dictionaries or attributes of the model's modules.

    Layers in a Python list are the usual case: `parameters()` does not know them, so that no optimizer moves them.
    What does not require a gradient was hidden on purpose, as a teacher is.
    """
    known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, tuple[Tensor, list[_Place]]] = {}
    for place in _hidden(model):
        tensor = place[0][place[1]]
        if id(tensor) not in known:
            found.setdefault(id(tensor), (tensor, []))[1].append(place)
    return tuple(
        Slot(places[0][2], tensor, tuple((place, key) for place, key, _ in places))
        for tensor, places in found.values()
    )


def felt(wide: Objective, index: int, some_of: Sequence[Slot]) -> tuple[Slot, ...]:
    """Those of the slots, the last ones of the objective, to which a gradient of one batch comes."""
    gradients, _ = gradients_of(wide, index)
    last = gradients[len(gradients) - len(some_of) :]
    return tuple(slot for slot, gradient in zip(some_of, last, strict=True) if some(gradient))


def _hidden(model: nn.Module) -> Iterator[_Place]:
    seen: set[int] = {id(module) for module in model.modules()}
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in _OWN:
                path = f"{prefix}.{name}" if prefix else name
                yield from _within(value, (vars(module), name, path), seen, _DEEPEST)


def _within(thing: Any, place: _Place, seen: set[int], depth: int) -> Iterator[_Place]:
    container, _, path = place
    if isinstance(thing, Tensor):
        trained = thing.is_leaf and thing.requires_grad and thing.is_floating_point() and not thing.is_meta
        if trained and not isinstance(container, tuple):
            yield place
        return
    if id(thing) in seen or not depth:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        yield from _of_module(thing, path)
    elif isinstance(thing, list | tuple | dict) and len(cast("list[Any]", thing)) <= _LARGEST:
        pairs = thing.items() if isinstance(thing, dict) else enumerate(cast("Sequence[Any]", thing))
        for key, value in cast("list[tuple[Any, Any]]", list(pairs)):
            yield from _within(value, (thing, key, f"{path}.{key}"), seen, depth - 1)


def _of_module(module: nn.Module, path: str) -> Iterator[_Place]:
    for prefix, inner in module.named_modules():
        for name, tensor in cast("dict[str, Tensor | None]", vars(inner)["_parameters"]).items():
            if tensor is not None and tensor.requires_grad and tensor.is_floating_point():
                yield vars(inner)["_parameters"], name, ".".join(filter(None, (path, prefix, name)))
