"""What `unstuck sharpness` does, once its arguments have been read."""

from dataclasses import dataclass

from unstuck.cli.answering import Delivery
from unstuck.cli.loading import loaded
from unstuck.cli.progress import shown
from unstuck.flatness import sharpness


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
    only: tuple[str, ...]
    memory: float | None
    resume: str | None


def run(request: Request) -> int:
    """Measure and write the answer; gives the exit code.

    Raises:
        UnstuckError: The target, the checkpoint or a file to write is no good, or the training cannot be
            evaluated.
    """
    delivery = Delivery.to(request.html, request.json)
    with delivery.quiet() as errors:
        training = loaded(request.target, request.checkpoint, request.steps, errors)
        with shown(errors) as progress:
            found = sharpness(
                training,
                budget=request.budget,
                seed=request.seed,
                memory=request.memory,
                only=request.only,
                resume=request.resume,
                progress=progress,
            )
    return delivery.deliver(found)
