"""What `unstuck batch` does, once its arguments have been read."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass

from rich.console import Console

from unstuck.cli.loading import loaded, say
from unstuck.cli.output import prepare, put, write
from unstuck.cli.progress import shown
from unstuck.sizing import batch_size

DONE, INTERRUPTED = 0, 130

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Size:
    """What was asked for; the fields are the options of the command."""

    target: str
    checkpoint: str | None
    steps: int
    to: float | None
    budget: float
    html: str | None
    json: str | None
    seed: int


def run(request: Size) -> int:
    """Measure, and write the answer; gives the exit code.

    Raises:
        UnstuckError: The target, the checkpoint or a file to write is no good, or the training cannot be evaluated.
    """
    html = prepare(request.html) if request.html else None
    json = prepare(request.json) if request.json and request.json != STANDARD_OUTPUT else None
    errors = Console(stderr=True)
    # Whatever the user's own code prints must not get between the lines of the answer.
    with redirect_stdout(sys.stderr):
        training = loaded(request.target, request.checkpoint, request.steps, errors)
        with shown(errors) as progress:
            answer = batch_size(
                training, budget=request.budget, target=request.to, seed=request.seed, progress=progress
            )
    if request.json == STANDARD_OUTPUT:
        put(answer.to_json() + "\n", sys.stdout)
    elif sys.stdout.isatty():
        Console(file=sys.stdout).print(answer.render())
    else:
        put(str(answer) + "\n", sys.stdout)
    for path, text in ((html, answer.to_html), (json, answer.to_json)):
        if path is not None:
            write(path, text())
            say(errors, f"wrote {path}")
    if answer.interrupted:
        say(errors, "interrupted: this is what was known by then")
        return INTERRUPTED
    return DONE
