"""What `unstuck sharpness`, `spectrum` and `surface` do, once their arguments have been read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unstuck import processes
from unstuck.cli.answering import DONE, Delivery
from unstuck.cli.loading import loaded
from unstuck.cli.progress import shown


@dataclass(frozen=True)
class Look:
    """What all of them are asked for; the fields are the options of the commands."""

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


def look(asked: Look, at: Callable[..., Any], **own: Any) -> int:
    """Measure and write the answer; gives the exit code.

    Args:
        asked: What it is asked for.
        at: What measures, as the library offers it.
        own: Arguments that it alone takes.

    Raises:
        UnstuckError: The target, the checkpoint or a file to write is no good, or the training cannot be
            evaluated.
    """
    speaks = processes.speaks()
    delivery = Delivery.to(asked.html, asked.json) if speaks else Delivery.nowhere()
    with delivery.quiet() as errors:
        training = loaded(asked.target, asked.checkpoint, asked.steps, errors, together=True)
        with shown(errors) as progress:
            found = at(
                training,
                budget=asked.budget,
                seed=asked.seed,
                memory=asked.memory,
                only=asked.only,
                resume=asked.resume,
                progress=progress,
                **own,
            )
    code = delivery.deliver(found) if speaks else DONE
    processes.leave()
    return code
