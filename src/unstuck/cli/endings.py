"""What every way of ending means: exit codes, one line for each mistake, and Ctrl-C that says so."""

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from unstuck.cli import INTERRUPTED
from unstuck.interrupts import noted

DONE, BAD_INPUT = 0, 2

Given = ParamSpec("Given")


def interruptible(
    words: str = "interrupted",
) -> Callable[[Callable[Given, int]], Callable[Given, int]]:
    """Let a command say so when Ctrl-C ends it, or another of several processes: typer would end without a word."""

    def decorate(command: Callable[Given, int]) -> Callable[Given, int]:
        @wraps(command)
        def run(*given: Given.args, **named: Given.kwargs) -> int:
            with noted() as interrupted:
                try:
                    return command(*given, **named)
                except KeyboardInterrupt:
                    return complain(words, INTERRUPTED)
                except Exception:
                    if interrupted():
                        return complain(words, INTERRUPTED)
                    raise
                except BaseException as error:
                    _end_if_lost(error)
                    raise

        return run

    return decorate


def _end_if_lost(error: BaseException) -> None:
    """Where other processes are gone, a usual end would wait for them."""
    if "RANK" not in os.environ:
        return
    from unstuck.processes import LostError, end_at_once  # noqa: PLC0415 - see the package

    if isinstance(error, LostError):
        end_at_once(complain(str(error), INTERRUPTED if error.interrupted else BAD_INPUT))


def complain(message: str, code: int) -> int:
    """Say it in one line; of several processes that end the first to fail does."""
    if "RANK" in os.environ:
        from unstuck import processes  # noqa: PLC0415 - see the package

        if not processes.first_to_speak():
            return code
        if processes.started_together() and not message.startswith("process "):
            message = f"process {os.environ['RANK']}: {message}"
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return code
