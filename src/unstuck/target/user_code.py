"""Run the user's own code, and turn whatever goes wrong in it into one line that says where."""

import sys
import sysconfig
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from unstuck.errors import TargetError, UnstuckError

_LONGEST = 300  # characters of the user's own error message: some list every parameter of a model

# May lie below the user's folder, as in a home directory; what is installed is known by its "site-packages".
_LIBRARIES = (sysconfig.get_path("stdlib"), Path(__file__).parents[1])


@contextmanager
def running(what: str, file: Path | None) -> Generator[None]:
    """Run code of the user's as if it were a program of its own, without our command-line arguments.

    Args:
        what: Names the code in messages.
        file: Where its source is, if that is known.

    Raises:
        TargetError: It raised, or called sys.exit(); the original is its cause.
    """
    arguments, sys.argv = sys.argv, [str(file or what)]
    try:
        yield
    except TargetError:
        raise
    except SystemExit as error:
        place = _place(file, error.__traceback__)
        code = "" if error.code is None else repr(error.code)
        msg = f"{what} ended the program with sys.exit({code}){place}: {_instead(error.__traceback__)}"
        raise TargetError(msg) from error
    except SyntaxError as error:
        raise TargetError(_syntax(what, error)) from error
    except Exception as error:
        msg = f"{what} failed{_place(file, error.__traceback__)}: {_summary(error)}"
        raise TargetError(msg) from error
    finally:
        sys.argv = arguments


def _instead(trace: TracebackType | None) -> str:
    parsed = any(Path(frame.filename).stem == "argparse" for frame in traceback.extract_tb(trace))
    if parsed:
        return "it asks for arguments of a command line, and gets none here: give them defaults"
    return 'put what should run only as a script under `if __name__ == "__main__":`'


def _place(file: Path | None, trace: TracebackType | None) -> str:
    """The last line of the user's own that was running: below the target's folder, but not in a library."""
    frames = [frame for frame in traceback.extract_tb(trace) if _is_users(Path(frame.filename), file)]
    return f" at {_short(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else ""


def _is_users(file: Path, target: Path | None) -> bool:
    if target is None or file == target:
        return file == target
    library = "site-packages" in file.parts or any(file.is_relative_to(folder) for folder in _LIBRARIES)
    return file.is_relative_to(target.parent) and not library


def _syntax(what: str, error: SyntaxError) -> str:
    place = f" at {_short(Path(error.filename))}:{error.lineno}" if error.filename else ""
    code = f": `{error.text.strip()}`" if error.text and error.text.strip() else ""
    return f"{what} is not valid Python{place}: {error.msg}{code}"


def _short(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _summary(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    if isinstance(error, UnstuckError):
        return text  # such as what Training says about its arguments; it explains itself
    hint = ""
    if isinstance(error, ImportError) and "relative import" in text:
        hint = " (name the file by its module instead, as in package.module:function)"
    return f"{type(error).__name__}{': ' if text else ''}{text}{hint}"
