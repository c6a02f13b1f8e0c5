"""What a remedy leaves to do where its state is loaded, and where the run's own schedule will lead it."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from unstuck.measurements.optimizer.schedule import rate_of, stepped
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, Treatment

LEFT = {
    Left.NOTHING: "what is saved holds this change: load it, with the optimizer's state, and do not make it twice",
    Left.BEFORE: "make this change in your script, then load what is saved",
    Left.ALWAYS: "make this change in your script: without it the gain is lost again",
}

# Of a change of the code, which the weights that come of it are made for.
_FIRST = "make this change in your script first: the weights are made for it"

# Where no optimizer's state is saved.
ALONE = "what is saved is the model alone: make this change in your script if it is one of the optimizer or its steps"

# Of an escape that was only looked at.
UNSAVED = "nothing is saved: name a checkpoint to write by --out FILE"

# Rates are proved for what was tried; so far beyond, they are others.
_BEYOND = 2.0

# Steps of the schedule that are looked ahead.
_AHEAD = 1_000


def left(treatment: Treatment) -> str:
    """What is left to do with the lines of code of a remedy."""
    return LEFT[treatment.left] if treatment.in_place else _FIRST


def schedule_note(scheduler: Any, run: Run, tried: tuple[float | None, float | None]) -> str | None:
    """Say what becomes of the run's own schedule; None where it has nothing to say.

    Args:
        scheduler: The training's own.
        run: The copy, as it has become; its schedule is used up.
        tried: Rates at the beginning and at the end of what was gone on for.
    """
    if scheduler is None:
        return None
    name = type(scheduler).__name__
    if run.exchanged:
        return (
            f"{name} set the rates of the optimizer that was replaced, and ends with it: the new rate stays"
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        return f"{name} goes on, and lowers the rate again when the loss stands still"
    if run.scheduler is None:
        return f"{name} could not be followed: see that it leaves the rate as it is"
    beyond = _beyond(run, *_ends(tried))
    return beyond and f"{name} goes on: {beyond}"


def _beyond(run: Run, low: float, high: float) -> str | None:
    """When the rate will be another than what was tried, and where it leads; None where it will not."""
    if not low < math.inf:
        return None
    ahead = list(itertools.islice(_rates(run), _AHEAD))
    leaves = next((n for n, rate in enumerate(ahead) if not low / _BEYOND <= rate <= high * _BEYOND), None)
    if leaves is None:
        return None
    rates = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    further = f", {ahead[-1]:.3g} after {len(ahead):,}" if ahead[-1] != ahead[leaves] else ""
    return f"rate {ahead[leaves]:.3g} after {leaves + 1:,} of its steps{further}; what was tried is {rates}"


def _ends(tried: tuple[float | None, float | None]) -> tuple[float, float]:
    known = [rate for rate in tried if rate is not None]
    return min(known, default=math.inf), max(known, default=0.0)


def _rates(run: Run) -> Iterator[float]:
    """The rates after each further step of the schedule, as long as it has any."""
    while stepped(run.scheduler):
        yield rate_of(run.optimizer) or 0.0
