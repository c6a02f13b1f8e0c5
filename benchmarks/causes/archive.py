"""What was computed before, kept in the temporary directory: proving all cases takes an hour.

The key covers the source of a case's setup and remedy and of all that continues it, but not of the helpers beside
the setup: `prove --afresh` looks at nothing that was kept.
"""

import hashlib
import inspect
import pickle
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from benchmarks.causes import case as case_module
from benchmarks.causes import changes, continuing, data, facts
from benchmarks.causes.case import Case

T = TypeVar("T")


def kept(case: Case, seed: int, name: str, compute: Callable[[], T], *, afresh: bool) -> T:
    """Give what is kept under this name, or compute it and keep it."""
    digest = hashlib.sha256(f"{_common()}{_source(case)}{seed}{name}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / "unstuck-benchmarks" / "causes" / f"{case.name}-{digest}.pkl"
    if path.exists() and not afresh:
        return pickle.loads(path.read_bytes())  # noqa: S301 - written below, by this very program
    value = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value))
    return value


def _source(case: Case) -> str:
    functions = [case.setup, *([case.remedy] if case.remedy else [])]
    cells = [cell.cell_contents for one in functions for cell in (getattr(one, "__closure__", None) or ())]
    return "".join(inspect.getsource(one) for one in functions) + repr(
        [cell for cell in cells if isinstance(cell, int | float | str)]
    )


@cache
def _common() -> str:
    return "".join(inspect.getsource(module) for module in (case_module, changes, continuing, data, facts))
