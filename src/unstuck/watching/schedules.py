"""Whether the code that trains writes learning rates by itself, as a schedule of its own does."""

import linecache
import re
import sysconfig
from types import FrameType

# `group["lr"] = ...`, `/= 10` and the like; of a file that speaks of an optimizer's groups.
_WRITES, _GROUPS = re.compile(r"""\[\s*["']lr["']\s*\]\s*[-+*/]?=(?!=)"""), "param_groups"

# What is installed has schedules that nobody need use.
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def writes_rates(frame: FrameType | None) -> bool:
    """Whether a file of a function that is being called, by this frame or around it, writes rates, by its text."""
    files: set[str] = set()
    while frame is not None:
        files.add(frame.f_code.co_filename)
        frame = frame.f_back
    return any(map(_writes, files))


def _writes(file: str) -> bool:
    if file.startswith(_INSTALLED):
        return False
    text = "".join(linecache.getlines(file))
    return _GROUPS in text and _WRITES.search(text) is not None
