"""Where the answer goes: standard output, or files that are written completely or not at all."""

import os
from pathlib import Path
from typing import Any

from unstuck.errors import UnstuckError


class OutputError(UnstuckError):
    """The answer cannot be written where it was asked for."""


def put(text: str, stream: Any) -> None:
    """Write to standard output; that nobody listens any more, as in `unstuck demos | head -1`, is no error.

    Raises:
        OutputError: It cannot be written to.
    """
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _drop(stream)
    except OSError as error:
        _drop(stream)
        msg = f"cannot write to standard output: {error.strerror}"
        raise OutputError(msg) from error


def _drop(stream: Any) -> None:
    """Let what is still to be written go nowhere, else Python fails again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def prepare(where: str) -> Path:
    """Make the folder of a file that is to be written, and see that it will be possible.

    Raises:
        OutputError: It will not.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        msg = f"cannot write {where}: it is a folder"
        raise OutputError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot write {where}: cannot make its folder, {error.strerror}"
        raise OutputError(msg) from error
    if not os.access(path.parent, os.W_OK):
        msg = f"cannot write {where}: its folder may not be written to"
        raise OutputError(msg)
    return path


def write(path: Path, text: str) -> None:
    """Write the file through a temporary one beside it, so that no reader ever sees a part of it.

    Raises:
        OutputError: It cannot be written; a file that was there before is as it was.
    """
    final = path.resolve()
    # A device or a pipe, such as /dev/stdout, has to be written to; it cannot be replaced.
    ordinary = not final.exists() or final.is_file()
    draft = final.with_name(f".{final.name}.{os.getpid()}.part") if ordinary else final
    try:
        draft.write_text(text, encoding="utf-8")
        if ordinary:
            draft.replace(final)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise OutputError(msg) from error
    finally:
        if ordinary:
            draft.unlink(missing_ok=True)  # is there only after a failure
