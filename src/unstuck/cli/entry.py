"""The way in: arguments to a command, and whatever it ends with to an exit code."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import typer

from unstuck.cli.commands import app
from unstuck.cli.endings import BAD_INPUT, DONE, complain
from unstuck.errors import UnstuckError

# Of an unknown option, a missing argument and the like; typer gives the class no public name.
USAGE_ERROR = cast("type[Exception]", typer.BadParameter.__base__)


def enter(arguments: Sequence[str]) -> None:
    """Run the command and exit with its code."""
    given = list(arguments) or ["--help"]
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a terminal without Unicode is no reason to fail
            stream.reconfigure(errors="replace")
        elif stream is None and given[0] != "run":  # closed, which Python leaves to whoever writes
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end
    ending = _run(given, debug="--debug" in _own(given))
    # What a script raises is the script's, and goes to the interpreter as it is.
    sys.exit(ending if isinstance(ending, int) else ending())


def _own(arguments: list[str]) -> list[str]:
    """Leave out what a script is given."""
    return arguments[:1] if arguments[0] == "run" else arguments


def _run(arguments: list[str], *, debug: bool) -> int | Callable[[], Any]:
    try:
        code: Any = app(arguments, prog_name="unstuck", standalone_mode=False)
    except USAGE_ERROR as error:
        return complain(str(cast("Any", error).format_message()) + _what_came(error, arguments), BAD_INPUT)
    except UnstuckError as error:
        _trace(debug=debug)
        return complain(str(error), BAD_INPUT)
    except Exception as error:  # whatever it is, the user gets one line
        _trace(debug=debug)
        return complain(
            f"{type(error).__name__}: {error}{'' if debug else ' (--debug shows where)'}", BAD_INPUT
        )
    return code if isinstance(code, int) or callable(code) else DONE  # a script still to be run


def _what_came(error: Exception, arguments: Sequence[str]) -> str:
    """Repeat what was passed to the option that an error is about, unless its message does."""
    names: Sequence[str] = getattr(getattr(error, "param", None), "opts", ())
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        value = value if equals else following
        if isinstance(error, typer.BadParameter) and name in names and f"'{value}'" not in str(error):
            return f", not '{value}'"
    return ""


def _trace(*, debug: bool) -> None:
    if debug:
        traceback.print_exc()
