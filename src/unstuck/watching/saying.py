"""What is said beside a run, on standard error."""

import sys
from contextlib import suppress


def say(message: str, /) -> None:
    """Say it on a line of its own; where nobody can hear it, the run goes on all the same."""
    with suppress(AttributeError, OSError, ValueError):  # None, broken, or closed
        # A progress bar leaves its line open, and draws it anew.
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{clear}unstuck: {message}\n")
        sys.stderr.flush()
