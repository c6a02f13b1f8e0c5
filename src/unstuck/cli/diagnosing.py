"""What `unstuck diagnose` does, once its arguments have been read."""

from dataclasses import dataclass

from rich.console import Console

from unstuck import processes
from unstuck.cli.answering import DONE, Delivery
from unstuck.cli.loading import loaded
from unstuck.cli.progress import shown
from unstuck.diagnosis import Diagnosis
from unstuck.pipeline import diagnose
from unstuck.report.words import CAUSES
from unstuck.watching.histories import read_history

ACTION = 1


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
    only: tuple[str, ...]
    memory: float | None
    resume: str | None


def run(request: Request) -> int:
    """Diagnose and write the answer; gives the exit code.

    Raises:
        UnstuckError: The target, the checkpoint or a file to write is no good, or the training cannot be
            evaluated.
    """
    speaks = processes.speaks()
    delivery = Delivery.to(request.html, request.json) if speaks else Delivery.nowhere()
    with delivery.quiet() as errors:
        diagnosis = _diagnosed(request, errors)
    code = delivery.deliver(diagnosis) if speaks else DONE
    processes.leave()
    return ACTION if code == DONE and request.check and _asks_for_action(diagnosis) else code


def _diagnosed(request: Request, errors: Console) -> Diagnosis:
    history = read_history(request.history) if request.history else None
    training = loaded(request.target, request.checkpoint, request.steps, errors, together=True)
    with shown(errors) as progress:
        return diagnose(
            training,
            history=history,
            budget=request.budget,
            trials=request.trials,
            seed=request.seed,
            memory=request.memory,
            only=request.only,
            resume=request.resume,
            progress=progress,
        )


def _asks_for_action(diagnosis: Diagnosis) -> bool:
    return any(CAUSES[finding.cause].tone == "act" for finding in diagnosis.findings)
