"""What `unstuck sharpness` does, once its arguments have been read."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from unstuck.cli.loading import loaded, say
from unstuck.cli.output import prepare, put, write
from unstuck.cli.progress import shown
from unstuck.flatness import Sharpness, sharpness

DONE, INTERRUPTED = 0, 130

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Request:
    """What was asked for; the fields are the options of the command."""

    target: str
    checkpoint: str | None
    steps: int
    budget: float
    html: str | None
    json: str | None
    seed: int


def run(request: Request) -> int:
    """Measure and write the answer; gives the exit code.

    Raises:
        UnstuckError: The target, the checkpoint or a file to write is no good, or the training cannot be
            evaluated.
    """
    html = prepare(request.html) if request.html else None
    json = prepare(request.json) if request.json and request.json != STANDARD_OUTPUT else None
    errors = Console(stderr=True)
    # Whatever the user's own code prints must not get between the lines of the answer.
    with redirect_stdout(sys.stderr):
        training = loaded(request.target, request.checkpoint, request.steps, errors)
        with shown(errors) as progress:
            found = sharpness(training, budget=request.budget, seed=request.seed, progress=progress)
    _answer(found, sys.stdout, as_json=request.json == STANDARD_OUTPUT)
    for path, text in ((html, found.to_html), (json, found.to_json)):
        if path is not None:
            write(path, text())
            say(errors, f"wrote {path}")
    if found.interrupted:
        say(errors, "interrupted: this is what was known by then")
        return INTERRUPTED
    return DONE


def _answer(found: Sharpness, stream: Any, *, as_json: bool) -> None:
    if as_json:
        put(found.to_json() + "\n", stream)
    elif stream.isatty():
        Console(file=stream).print(found.render())
    else:
        put(f"{found}\n", stream)
