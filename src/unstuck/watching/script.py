"""Run somebody's script as Python itself would: its arguments, its `__main__`, its exceptions, its exit code.

Nothing in here imports PyTorch: a script may still be setting the environment that PyTorch reads when it is imported.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from unstuck.errors import RunError


@dataclass(frozen=True)
class Script:
    """What is to be run.

    Attributes:
        name: A file, a folder or archive with a `__main__.py`, or with `module` the name of a module.
        arguments: What it is given.
        module: Whether it is run as by `python -m`.
    """

    name: str
    arguments: Sequence[str] = ()
    module: bool = False

    def check(self) -> None:
        """See that it is there.

        Raises:
            RunError: It is not.
        """
        if self.module:
            return  # to look for a submodule imports its parents; Python will say what is missing
        if not Path(self.name).exists():
            msg = f"cannot run {self.name}: there is no such file"
            raise RunError(msg)

    def run(self) -> None:
        """Run it; what it raises, it raises."""
        sys.argv = [self.name, *self.arguments]
        if self.module:
            _exchange_path(str(Path.cwd()) if not sys.flags.safe_path else None)
            _run_module(self.name)
        elif Path(self.name).is_file() and not _is_archive(self.name):
            _exchange_path(str(Path(self.name).resolve().parent) if not sys.flags.safe_path else None)
            _run_file(self.name)
        else:
            _exchange_path(None)
            runpy.run_path(self.name, run_name="__main__")


def _run_module(name: str) -> None:
    """As `python -m` does, which says of a module that is not there no more than that."""
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if without_us(error.__traceback__) is not error.__traceback__:
            raise  # what the module imports is its own affair
        message = f"{sys.executable}: {error}"
        raise SystemExit(message) from None


def _run_file(name: str) -> None:
    """As `__main__`, which stays there: functions of the script may be called when it has ended, and be pickled."""
    name = str(Path(name).absolute())
    main = ModuleType("__main__")
    main.__dict__.update(
        __file__=name,
        __cached__=None,
        __builtins__=__builtins__,
        __loader__=importlib.machinery.SourceFileLoader("__main__", name),
    )
    sys.modules["__main__"] = main
    code = compile(Path(name).read_bytes(), name, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # noqa: S102 - that is what it is for


def _exchange_path(first: str | None) -> None:
    """Put in the place of our own folder that which Python would search first."""
    if not sys.flags.safe_path:
        sys.path.pop(0)
    if first is not None:
        sys.path.insert(0, first)


def _is_archive(name: str) -> bool:
    with Path(name).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def without_us(trace: TracebackType | None) -> TracebackType | None:
    """Leave out of a traceback the frames above the script's own: this package's and `runpy`'s."""
    ours = (str(Path(__file__).resolve().parents[1]), "<frozen runpy>")
    own = trace
    seen = False
    while own is not None:
        is_ours = own.tb_frame.f_code.co_filename.startswith(ours)
        if seen and not is_ours:
            return own
        seen = seen or own.tb_frame.f_code.co_filename == str(Path(__file__).resolve())
        own = own.tb_next
    return trace


def once_imported(name: str, call: Callable[[], None]) -> None:
    """Call when a module has been imported; at once if it has been already."""
    if name in sys.modules:
        call()
    else:
        sys.meta_path.insert(0, _AfterImport(name, call))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Lets the others find the module, and puts a call behind its execution."""

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self._name, self._call = name, call

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find it, once."""
        del path, target
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader, call = spec.loader, self._call
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                call()

            loader.exec_module = exec_module  # type: ignore[method-assign]  # on this one loader
        return spec
