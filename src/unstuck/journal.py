"""What a long command has evaluated, kept in a folder, so that after its end it can go on where it was.

Every expensive thing that is computed here is a function of what goes into it: the model, the data, a point, a
vector. So it is kept under a digest of these, and whoever asks for the same again is given it, in whatever order. A
run that was killed is gone on with by running it again. Each of several processes keeps its own part, under a digest
of all their parts, and recalls it when all of them can.
"""

import hashlib
import inspect
import json
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unstuck import processes
from unstuck.errors import UnstuckError
from unstuck.space import is_distributed

# What takes fewer seconds is sooner made again than kept.
_QUICK = 0.05

# Bytes of the disk that are left to others.
_SPARE = 1 << 30

_NUMBERS = "numbers.jsonl"


class Journal:
    """A folder of results.

    Args:
        folder: Made if it is not there; what it holds is gone on with. Each of several processes has a folder in it.

    Raises:
        UnstuckError: It cannot be written to, or holds other things.
    """

    def __init__(self, folder: Path) -> None:
        if processes.count() > 1:
            folder = folder / f"process-{processes.rank()}-of-{processes.count()}"
        self.folder = folder
        self._full = False
        self._turns: Counter[str] = Counter()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._numbers = _read(folder / _NUMBERS)
            (folder / _NUMBERS).touch()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"`resume` must be a folder that can be written to, and {folder} is none: {error}"
            raise UnstuckError(msg) from error

    def turn(self, key: str) -> str:
        """Tell apart what is decided several times under one key: its turns are the same in a later run."""
        self._turns[key] += 1
        return f"{key} {self._turns[key]}"

    def numbers(self, key: str, make: Callable[[], Any], *, final: Callable[[], bool] | None = None) -> Any:
        """Recall what can be written as JSON, or make it and keep it, unless it was cut short and is not `final`."""
        key = _key_of_all(key)
        if processes.every(true=key in self._numbers):
            return self._numbers[key]
        value = make()
        if final is None or final():
            self._numbers[key] = value
            line = json.dumps({"key": key, "value": value})
            self._write(lambda: _append(self.folder / _NUMBERS, line), len(line))
        return value

    def tensors(self, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Recall tensors, or make them and keep them if that took long."""
        path = self.folder / f"{_key_of_all(key)}.safetensors"
        recalled = _load(path)
        if processes.every(true=recalled is not None):
            return cast("dict[str, Tensor]", recalled)
        begun = time.monotonic()
        made = make()
        if processes.agreed(time.monotonic() - begun) >= _QUICK:
            size = sum(tensor.nbytes for tensor in made.values())
            self._write(lambda: _save(made, path), size)
        return made

    @property
    def size(self) -> int:
        """Bytes that the folder takes."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def _write(self, write: Callable[[], None], size: int) -> None:
        if self._full:
            return
        try:
            if shutil.disk_usage(self.folder).free < size + _SPARE:
                self._give_up("the disk is nearly full")
                return
            write()
        except OSError as error:
            self._give_up(str(error))

    def _give_up(self, why: str) -> None:
        self._full = True
        warnings.warn(f"nothing more is kept in {self.folder}: {why}", stacklevel=2)


_CURRENT: ContextVar[Journal | None] = ContextVar("journal", default=None)


def current() -> Journal | None:
    """The journal that is kept, if one is."""
    return _CURRENT.get()


@contextmanager
def kept(folder: str | os.PathLike[str] | None) -> Generator[Journal | None]:
    """Keep what is evaluated inside in that folder, and recall what it holds; None: nothing is kept."""
    journal = None if folder is None else processes.together(lambda: Journal(Path(folder)))
    token = _CURRENT.set(journal)
    try:
        yield journal
    finally:
        _CURRENT.reset(token)


@contextmanager
def unheeded() -> Generator[None]:
    """Evaluate everything inside, as where it is timed."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def digest(*parts: Any) -> str:
    """Give a name that only the same parts have: texts, numbers, arrays, tensors, and lists and dicts of them.

    Of anything else only its kind counts.
    """
    found = hashlib.blake2b(digest_size=16)
    for part in _leaves(parts):
        if isinstance(part, Tensor):
            whole = (part.to_local() if is_distributed(part) else part).detach().cpu().contiguous()
            found.update(f"{whole.dtype} {tuple(whole.shape)} ".encode())
            found.update(whole.flatten().view(torch.uint8).numpy().data)
        elif isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape} ".encode())
            found.update(np.ascontiguousarray(part).tobytes())
        else:
            found.update(f"{type(part).__name__} {part!r} ".encode())
    return found.hexdigest()


def digest_of(model: nn.Module, *others: Any) -> str:
    """Digest a model, with its mode and its code, as far as that can be read, and that of `others`."""
    modules = [(name, type(module).__qualname__, module.training) for name, module in model.named_modules()]
    kinds = {type(module) for module in model.modules()} | {_kind(other) for other in others}
    codes = sorted(_code(kind) for kind in kinds)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return digest(modules, codes, [_described(other) for other in others], tensors)


def _kind(of: Any) -> Any:
    return of if inspect.isfunction(of) or inspect.isclass(of) else type(of)


def _code(of: Any) -> str:
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):
        return f"{getattr(of, '__module__', '')}.{getattr(of, '__qualname__', '')}"


def _described(of: Any) -> str:
    """Say what is told of a thing by itself, without the address that it happens to have."""
    return repr(of) if " at 0x" not in repr(of) else ""


def _leaves(parts: Iterable[Any]) -> Generator[Any]:
    for part in parts:
        if isinstance(part, dict):
            yield from _leaves([len(part), *part.items()])
        elif isinstance(part, list | tuple):
            yield from _leaves([len(part), *part])
        elif part is None or isinstance(part, Tensor | np.ndarray | str | bytes | int | float):
            yield part
        else:
            yield type(part).__qualname__


def _key_of_all(key: str) -> str:
    """Name what several processes evaluate together: a vector may be the same in one of them and not in another."""
    return key if processes.count() == 1 else digest(processes.gathered(key))


def _load(path: Path) -> dict[str, Tensor] | None:
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError):  # cut short by something that wrote past our backs
            path.unlink(missing_ok=True)
    return None


def _read(path: Path) -> dict[str, Any]:
    """Read what was written, up to a line that was cut short."""
    found: dict[str, Any] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                found[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError):
                continue
    return found


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")  # on a line of its own, whatever a killed process has left
        file.flush()
        os.fsync(file.fileno())


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write under another name first: a process that is killed leaves no half of it."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
