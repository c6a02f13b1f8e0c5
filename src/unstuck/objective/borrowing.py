"""The training is borrowed: what is needed to give it back bit for bit, also after an exception or Ctrl-C."""

from collections.abc import Sequence
from operator import is_
from types import CellType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unstuck.objective.reach import is_container, modules

_UNBOUND = object()

# Larger tensors, beside parameters and buffers, are data rather than state, and slow to compare.
_LARGEST = 2**22


class Borrowed:
    """Remembers what things hold, and puts it back.

    Attributes of objects and modules (their parameters, buffers, submodules, hooks and modes among them),
    containers, variables of closures, and the content of tensors that are neither parameters nor buffers:
    in the place of those, copies are put while the training is borrowed.

    Args:
        things: Everything that may change, see `within`.
        tensors: Whether the content of tensors is remembered too; a data set's is too much to.
    """

    def __init__(self, things: Sequence[Any], *, tensors: bool = True) -> None:
        self._all_containers = [thing for thing in things if is_container(thing)]
        self._all_cells = [thing for thing in things if isinstance(thing, CellType)]
        registered = {id(tensor) for module in modules(things) for tensor in _registered(module)}
        found = (_as_tensor(thing) for thing in things if tensors and id(thing) not in registered)
        self._all_tensors = [tensor for tensor in found if tensor is not None]
        self.remember()

    def remember(self) -> None:
        """Remember what the things hold now."""
        self._empty = [container for container in self._all_containers if not container]
        self._containers = [
            (container, _shallow(container)) for container in self._all_containers if container
        ]
        self._cells = [(cell, _content(cell)) for cell in self._all_cells]
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in self._all_tensors]

    def restore(self) -> None:
        """Put everything back; what did not change is not touched."""
        for container in self._empty:
            if container:
                container.clear()
        for container, before in self._containers:
            if not _same(container, before):
                _refill(container, before)
        for cell, before in self._cells:
            if _content(cell) is not before:
                _set_content(cell, before)
        changed = [(tensor, before) for tensor, before in self._tensors if not _same_bits(tensor, before)]
        with torch.no_grad():
            for tensor, before in changed:
                tensor.copy_(before)


class Copies:
    """Copies of buffers, new ones for each evaluation: BatchNorm may update them as in training.

    With `dtype`, floating buffers and the parameters that are not being trained are cast as well.
    """

    def __init__(self, found: Sequence[nn.Module], *, dtype: torch.dtype | None) -> None:
        names = ("_buffers",) if dtype is None else ("_buffers", "_parameters")
        self._places: list[dict[str, Tensor | None]] = [
            vars(module)[name] for module in found for name in names if vars(module)[name]
        ]
        self._dtype = dtype

    def place(self) -> None:
        """Put a copy in the place of each; only while the user's own are remembered in a `Borrowed`."""
        copies: dict[int, Tensor] = {}  # what hangs in two places is one thing, and so is its copy
        for place in self._places:
            for name, tensor in place.items():
                if tensor is not None:
                    # Always anew: an update through `.data` leaves no trace that could be asked for.
                    if id(tensor) not in copies:
                        copies[id(tensor)] = self._copy(tensor)
                    place[name] = copies[id(tensor)]

    def _copy(self, tensor: Tensor) -> Tensor:
        cast = self._dtype if self._dtype and tensor.is_floating_point() else tensor.dtype
        return tensor.detach().to(cast, copy=True)


def _registered(module: nn.Module) -> list[Tensor | None]:
    return [*vars(module)["_parameters"].values(), *vars(module)["_buffers"].values()]


def _as_tensor(thing: object) -> Tensor | None:
    if isinstance(thing, Tensor):
        plain = thing.layout == torch.strided and not thing.is_meta and thing.numel() <= _LARGEST
        return thing if plain else None
    if not isinstance(thing, np.ndarray) or not thing.flags.writeable or thing.size > _LARGEST:
        return None
    try:
        return torch.from_numpy(thing)
    except (TypeError, ValueError):  # strings, objects, negative strides
        return None


def _shallow(container: Any) -> Any:
    if isinstance(container, dict):
        return dict(container)
    return set(container) if isinstance(container, set) else list(container)


def _same(container: Any, before: Any) -> bool:
    if isinstance(container, set):
        return container == before
    if len(container) != len(before) or not all(map(is_, container, before)):
        return False
    return not isinstance(container, dict) or all(map(is_, container.values(), before.values()))


def _refill(container: Any, before: Any) -> None:
    container.clear()
    if isinstance(before, list):
        container.extend(before)
    else:
        container.update(before)


def _same_bits(tensor: Tensor, before: Tensor) -> bool:
    if tensor.shape != before.shape or tensor.dtype != before.dtype:
        return True  # resized or given another type through `.data`: nothing that could be copied back
    return torch.equal(_bits(tensor), _bits(before))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return _UNBOUND


def _set_content(cell: CellType, content: object) -> None:
    if content is _UNBOUND:
        del cell.cell_contents
    else:
        cell.cell_contents = content
