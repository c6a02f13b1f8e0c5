"""How long an evaluation takes, so that what follows can be planned."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch

from unstuck import journal, processes
from unstuck.objective.function import Objective

# The gradient is timed at least so often, and up to so often for so many seconds: a few time slices, so that what
# other programs take of the processor counts.
_TIMED, _OFTEN, _LONG_ENOUGH = 2, 5, 0.03

# One that takes as long as this is timed once, and made by all threads: it is too large for one to be faster.
_LONG = 0.5


def now(device: torch.device) -> float:
    """Give the time once the device has done what it was asked to: an accelerator works on while Python goes on."""
    finish(device)
    return time.perf_counter()


def finish(device: torch.device) -> None:
    """Wait until an accelerator has done what it was asked to; a processor has."""
    there = torch.accelerator.current_accelerator()
    if there is not None and there.type == device.type:
        torch.accelerator.synchronize(device)


def seconds_per_gradient(objective: Objective, only: Sequence[int] | None = None) -> float:
    """Time one gradient: the mean of some, or one that is long; without the first, which pays for starting up."""
    device = objective.theta.device

    def clock() -> float:
        finish(device)
        return processes.clock()

    with journal.unheeded():
        objective.gradient(objective.theta, only)
        begun, taken = clock(), 0
        while taken < _TIMED or (taken < _OFTEN and clock() - begun < _LONG_ENOUGH):
            objective.gradient(objective.theta, only)
            taken += 1
            if clock() - begun > _LONG:
                break
        return (clock() - begun) / taken


@contextmanager
def threads_kept() -> Generator[None]:
    """Put the number of threads back at the end."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fastest(objective: Objective) -> float:
    """Time one gradient, and stay with one thread if more do not pay, as for small models."""
    threads, together = torch.get_num_threads(), seconds_per_gradient(objective)
    if together > _LONG:
        return together
    torch.set_num_threads(1)
    alone = seconds_per_gradient(objective)
    if alone > together:
        torch.set_num_threads(threads)
    return min(alone, together)
