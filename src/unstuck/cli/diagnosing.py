"""What `unstuck diagnose` does, once its arguments have been read."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from unstuck.cli.loading import loaded, say
from unstuck.cli.output import prepare, put, write
from unstuck.cli.progress import shown
from unstuck.diagnosis import Diagnosis
from unstuck.pipeline import diagnose
from unstuck.report.words import CAUSES
from unstuck.watching.histories import read_history

DONE, ACTION, INTERRUPTED = 0, 1, 130

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Request:
    """What was asked for; the fields are the options of the command."""

    target: str
    checkpoint: str | None
    steps: int
    history: str | None
    budget: float
    trials: bool
    html: str | None
    json: str | None
    seed: int
    check: bool


def run(request: Request) -> int:
    """Diagnose and write the answer; gives the exit code.

    Raises:
        UnstuckError: The target, the checkpoint or a file to write is no good, or the training cannot be
            evaluated.
    """
    html = prepare(request.html) if request.html else None
    json = prepare(request.json) if request.json and request.json != STANDARD_OUTPUT else None
    errors = Console(stderr=True)
    # Whatever the user's own code prints must not get between the lines of the answer.
    with redirect_stdout(sys.stderr):
        diagnosis = _diagnosed(request, errors)
    _answer(diagnosis, sys.stdout, as_json=request.json == STANDARD_OUTPUT)
    for path, text in ((html, diagnosis.to_html), (json, diagnosis.to_json)):
        if path is not None:
            write(path, text())
            say(errors, f"wrote {path}")
    if diagnosis.interrupted:
        say(errors, "interrupted: this is what was known by then")
        return INTERRUPTED
    return ACTION if request.check and _asks_for_action(diagnosis) else DONE


def _diagnosed(request: Request, errors: Console) -> Diagnosis:
    history = read_history(request.history) if request.history else None
    training = loaded(request.target, request.checkpoint, request.steps, errors)
    with shown(errors) as progress:
        return diagnose(
            training,
            history=history,
            budget=request.budget,
            trials=request.trials,
            seed=request.seed,
            progress=progress,
        )


def _answer(diagnosis: Diagnosis, stream: Any, *, as_json: bool) -> None:
    if as_json:
        put(diagnosis.to_json() + "\n", stream)
    elif stream.isatty():
        Console(file=stream).print(diagnosis.render())
    else:
        put(str(diagnosis) + "\n", stream)


def _asks_for_action(diagnosis: Diagnosis) -> bool:
    return any(CAUSES[finding.cause].tone == "act" for finding in diagnosis.findings)
