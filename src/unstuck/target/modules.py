"""Import the module that a TARGET names, from a file or by its dotted name."""

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

from unstuck.errors import TargetError
from unstuck.target.user_code import running


@dataclass(frozen=True)
class Loaded:
    """A module of the user's.

    Attributes:
        module: Already executed.
        shown: As the user wrote it, for messages.
        file: Where its source is, if it has a source.
    """

    module: ModuleType
    shown: str
    file: Path | None


def is_file(where: str) -> bool:
    """Whether the part before the colon means a file rather than a dotted name."""
    return where.endswith(".py") or os.sep in where or Path(where).expanduser().is_file()


def import_file(where: str) -> Loaded:
    """Run a file as a module of its own stem's name, its folder first on the path as `python file.py` has it.

    The folder stays on the path: a function of the file may import its neighbours later.

    Raises:
        TargetError: There is no such Python file, its name is taken, or it raised.
    """
    file = Path(where).expanduser()
    _check_file(file, where)
    file = file.resolve()
    _check_name(file)
    _put_first(str(file.parent))
    loader = SourceFileLoader(file.stem, str(file))
    spec = importlib.util.spec_from_file_location(file.stem, file, loader=loader)
    assert spec is not None  # noqa: S101  # with a loader given there always is one
    module = importlib.util.module_from_spec(spec)
    loaded = Loaded(module, where, file)
    sys.modules[file.stem] = module
    try:
        with running(where, file):
            # Not loader.exec_module, which would leave a __pycache__ beside the user's file and trust a stale one.
            code = loader.source_to_code(file.read_bytes(), str(file))
            exec(code, vars(module))  # noqa: S102  # running the user's file is what was asked for
    except BaseException:
        sys.modules.pop(file.stem, None)
        raise
    return loaded


def import_named(where: str) -> Loaded:
    """Import a module by its dotted name, from the current folder or what is installed.

    Raises:
        TargetError: There is no such module, or it raised.
    """
    _put_first(str(Path.cwd()))
    importlib.invalidate_caches()
    file = _find(where)
    with running(where, file):
        module = importlib.import_module(where)
    return Loaded(module, where, file)


def _find(where: str) -> Path | None:
    parts = where.split(".")
    if not all(part.isidentifier() for part in parts):
        msg = f"'{where}' is neither a Python file (file.py) nor the dotted name of a module"
        raise TargetError(msg)
    spec = None
    with running(where, None):
        for count in range(1, len(parts) + 1):
            spec = _spec(".".join(parts[:count]))
            if spec is None:
                raise TargetError(_no_module(where, ".".join(parts[:count])))
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # an import inside its parent package fails
            raise
        return None  # its parent is a module, not a package


def _no_module(where: str, missing: str) -> str:
    of = "" if missing == where else f" (nor, so, '{where}')"
    near = get_close_matches(where, [path.stem for path in Path().glob("*.py")], n=1)
    hint = f", did you mean '{near[0]}'?" if near else ""
    return (
        f"there is no module '{missing}'{of} in the current folder or installed{hint}; "
        "a file is named with its ending, as in train.py:setup"
    )


def _check_file(file: Path, where: str) -> None:
    if file.is_dir():
        msg = f"{where} is a folder: name a Python file in it"
        raise TargetError(msg)
    if not file.is_file():
        folder = file.parent
        if not folder.is_dir():
            msg = f"there is no file {where}: its folder {folder} does not exist"
            raise TargetError(msg)
        near = get_close_matches(file.name, [path.name for path in folder.glob("*.py")], n=1)
        hint = f", did you mean {file.with_name(near[0])}?" if near else f" in {folder.resolve()}"
        msg = f"there is no file {where}{hint}"
        raise TargetError(msg)
    if file.suffix != ".py":
        msg = f"{where} is not a Python file (.py)"
        raise TargetError(msg)


def _check_name(file: Path) -> None:
    """A module of that name which something else has imported must not be pushed out."""
    present = sys.modules.get(file.stem)
    if present is None:
        return
    origin = getattr(present, "__file__", None)
    if origin is None or Path(origin).resolve() != file:
        msg = f"{file.name} has the name of the module '{file.stem}', which is in use: rename the file"
        raise TargetError(msg)


def _put_first(folder: str) -> None:
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
