"""The command line. Every mistake is one clear line, and standard output holds the answer and nothing else.

What needs PyTorch is imported by the commands when they run: help and usage errors need not wait for it.
"""

import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code: 0 done, 1 action needed (--check), 2 bad input, 130 Ctrl-C."""
    try:
        from unstuck.cli.entry import enter  # noqa: PLC0415 - takes long enough to be interrupted
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    enter(sys.argv[1:] if arguments is None else arguments)


__all__ = ["main"]
