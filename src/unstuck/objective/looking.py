"""What every long look at a training stands on, whatever is looked at."""

from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike

from unstuck import journal, processes
from unstuck.objective.casts import casts_kept
from unstuck.objective.pace import threads_kept
from unstuck.objective.thrift import allowing
from unstuck.objective.warned import warned_once
from unstuck.training import Training


@contextmanager
def looking(training: Training, *, resume: str | PathLike[str] | None, memory: float) -> Generator[Training]:
    """Give the training to be looked at: an interrupt ends it in all processes, and the settings come back after it.

    Args:
        training: The user's own.
        resume: A folder that keeps what is evaluated.
        memory: Bytes to use.
    """
    with (
        processes.interrupts_end_all(),
        warned_once(),
        threads_kept(),
        casts_kept(training) as casting,
        journal.kept(resume),
        allowing(memory),
    ):
        yield casting
