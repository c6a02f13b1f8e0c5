"""Everything that a model, a loss or a data set can change: found by walking from it."""

import functools
import random
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# How many things to look at, nearest first, and into how large containers: an end, for strangers' objects may
# lead anywhere. Models of a thousand modules stay below; a list of a million examples is not state but data.
_MOST, _LARGEST = 100_000, 10_000

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_LEAVES = (str, bytes, int, float, complex, Tensor, np.ndarray, type, ModuleType, *_GENERATORS, type(None))

# Where an object's own code may name further objects, such as a generator at the top of a script.
_CODE = ("forward", "__call__", "__getitem__", "__iter__")

# Code that is installed, as opposed to written by the user, keeps no state of theirs at its top level.
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def within(*roots: object, installed: bool = False) -> list[Any]:
    """Find every object that can be reached from `roots`, themselves included, each once.

    The way goes through attributes, containers, bound methods, partial functions, closures and the global
    names that a function of the user's mentions. It goes through objects of `installed` classes only if asked
    to, modules excepted: a data loader is one, but so is a framework's trainer, with its threads and files.
    """
    found: dict[int, object] = {}  # holding the objects keeps their identities from being used again
    ahead = deque(roots)
    while ahead and len(found) < _MOST:
        thing = ahead.popleft()
        if id(thing) not in found:
            found[id(thing)] = thing
            ahead.extend(_members(thing, installed=installed))
    return list(found.values())


def generators(things: Iterable[object]) -> list[Any]:
    """Those of the things that draw random numbers."""
    return [thing for thing in things if isinstance(thing, _GENERATORS)]


def modules(things: Iterable[object]) -> list[nn.Module]:
    """Those of the things that are modules."""
    return [thing for thing in things if isinstance(thing, nn.Module)]


def is_container(thing: object) -> bool:
    """Whether the thing is a container whose content can be put back, and small enough to be watched."""
    return isinstance(thing, dict | list | set | deque) and len(thing) <= _LARGEST


def _members(thing: Any, *, installed: bool) -> Iterable[object]:
    if isinstance(thing, _LEAVES):
        return ()
    if isinstance(thing, Mapping | list | tuple | set | frozenset | deque):
        if len(thing) > _LARGEST:
            return ()
        return list(thing.values() if isinstance(thing, Mapping) else thing)
    for kind, members in _WAYS:
        if isinstance(thing, kind):
            return members(thing)
    enters = isinstance(thing, nn.Module) or not _is_installed(type(thing), but_stdlib=installed)
    return _of_object(thing) if enters and hasattr(thing, "__dict__") else ()


def _of_function(function: FunctionType) -> list[object]:
    members: list[object] = [*(function.__closure__ or ()), function.__dict__, function.__defaults__]
    if not function.__code__.co_filename.startswith(_INSTALLED):
        scope = function.__globals__
        members += [scope[name] for name in function.__code__.co_names if name in scope]
    return members


def _of_object(thing: Any) -> list[object]:
    code = (getattr(type(thing), name, None) for name in _CODE)
    return [thing.__dict__, *(function for function in code if isinstance(function, FunctionType))]


def _of_cell(cell: CellType) -> list[object]:
    try:
        return [cell.cell_contents]
    except ValueError:  # a name that is not bound yet
        return []


_WAYS: tuple[tuple[type, Callable[[Any], list[object]]], ...] = (
    (functools.partial, lambda partial: [partial.func, partial.args, partial.keywords]),
    (MethodType, lambda method: [method.__self__, method.__func__]),
    (FunctionType, _of_function),
    (CellType, _of_cell),
)


@functools.cache
def _is_installed(kind: type, *, but_stdlib: bool) -> bool:
    """Whether a class is the standard library's or (unless `but_stdlib`) an installed package's."""
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return not but_stdlib and bool(file) and str(file).startswith(_INSTALLED)
