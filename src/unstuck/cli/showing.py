"""What `unstuck show` does, once its arguments have been read."""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.live import Live

from unstuck.cli.loading import say
from unstuck.cli.output import prepare, put, write
from unstuck.report.run.document import to_json
from unstuck.report.run.terminal import render, to_text
from unstuck.watching.files.reading import read
from unstuck.watching.files.recorded import Recorded

DONE = 0

STANDARD_OUTPUT = "-"

# Seconds from one drawing to the next.
_EACH = 1.0

# What the report is written with; a stream that cannot take it gets plain characters.
_LETTERS = "\u2016\u00b1\u00d7\u2013\u2502\u2501\u28ff"


@dataclass(frozen=True)
class Show:
    """What was asked for; the fields are the options of the command."""

    run: str
    html: str | None
    json: str | None
    follow: bool = False


def show(request: Show) -> int:
    """Read the run and write it out; gives the exit code.

    Raises:
        UnstuckError: There is no such run, it cannot be read, or a file cannot be written.
    """
    html = prepare(request.html) if request.html else None
    json = prepare(request.json) if request.json and request.json != STANDARD_OUTPUT else None
    recorded = read(request.run)
    errors = Console(stderr=True)
    if request.follow and sys.stdout.isatty():
        recorded = _followed(recorded, Console(file=sys.stdout), ascii_only=not _takes(sys.stdout, _LETTERS))
    if request.json == STANDARD_OUTPUT:
        put(to_json(recorded) + "\n", sys.stdout)
    else:
        _answer(recorded, sys.stdout)
    if html is not None:
        from unstuck.report.run.page import to_html  # noqa: PLC0415 - Plotly takes half a second to import

        write(html, to_html(recorded))
        say(errors, f"wrote {html}")
    if json is not None:
        write(json, to_json(recorded))
        say(errors, f"wrote {json}")
    return DONE


def _followed(recorded: Recorded, console: Console, *, ascii_only: bool) -> Recorded:
    """Draw it again and again on a screen of its own until it ends, or somebody has seen enough."""
    with Live(console=console, screen=True, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while recorded.state == "running":
            live.update(render(recorded, ascii_only=ascii_only), refresh=True)
            time.sleep(_EACH)
            recorded = replace(read(recorded.path), others=recorded.others)
    return recorded


def _answer(recorded: Recorded, stream: Any) -> None:
    ascii_only = not _takes(stream, _LETTERS)
    if stream.isatty():
        Console(file=stream).print(render(recorded, ascii_only=ascii_only))
    else:
        put(to_text(recorded, ascii_only=ascii_only) + "\n", stream)


def _takes(stream: Any, letters: str) -> bool:
    try:
        letters.encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
