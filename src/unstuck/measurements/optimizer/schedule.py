"""The run's own learning-rate schedule, gone on with on a copy of the optimizer."""

import copy
import warnings
from collections.abc import Callable, Sequence, Sized
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau

from unstuck.measurements.optimizer.steps import Twin
from unstuck.training import Training

# How far the ratio of the two counts of steps may be from what is usual: a step or two may have been skipped.
_ROUGHLY = 0.1

# Which are made to step after every update, by their documentation.
_EACH_UPDATE = (OneCycleLR, CyclicLR)

# What the rates of a schedule are computed from, in the optimizer's groups and in the scheduler itself.
_OF_GROUPS = ("lr", "initial_lr", "max_lr", "min_lr")
_OF_SCHEDULERS = ("base_lrs", "max_lrs")


class Schedule:
    """A copy of the run's scheduler, which sets the rates of a copied optimizer as the run goes on.

    Attributes:
        led: The highest rate so far over that of the beginning, of the first group that had one other than 0.
        scheduler: The copy; None where there is none, or where it cannot be copied, as a stranger's may not.
        every: How many updates lie between two of its steps; None where that cannot be told: the rates then stay.
    """

    def __init__(self, training: Training, twin: Twin) -> None:
        self.every = updates_per_schedule_step(training)
        self.scheduler = _copied(training.scheduler, twin)
        self._twin, self._begun, self._made = twin, rate_of(twin.optimizer), 0
        self.led = 1.0

    def step(self) -> None:
        """One more update has been made; past the end of the schedule the rates stay."""
        self._made += 1
        if self.scheduler is not None and self.every is not None and self._made % self.every == 0:
            if not stepped(self.scheduler):
                self.every = None
            if self._begun:
                self.led = max(self.led, (rate_of(self._twin.optimizer) or 0.0) / self._begun)

    def set_for(self, twin: Twin) -> None:
        """Go on with another optimizer object of the same kind."""
        self._twin = twin
        for nested in _nested(self.scheduler):
            nested.optimizer = twin.optimizer

    def change_rate(self, change: Callable[[Any], Any]) -> None:
        """Change every learning rate of the copied optimizer, and what the schedule computes it from."""
        for group in self._twin.optimizer.param_groups:
            group |= {key: change(group[key]) for key in _OF_GROUPS if key in group}
        for nested in _nested(self.scheduler):
            for name in _OF_SCHEDULERS:
                if hasattr(nested, name):
                    setattr(nested, name, [change(rate) for rate in getattr(nested, name)])


def stepped(scheduler: Any) -> bool:
    """Let the copy of a scheduler make a step; False past its end, as OneCycleLR has one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # it cannot know of steps that the optimizer has made, or would make
            scheduler.step()
    except Exception:  # a stranger's may raise anything
        return False
    return True


def rate_of(optimizer: Optimizer) -> float | None:
    """The rate of the first group that has one other than 0."""
    return next((float(group["lr"]) for group in optimizer.param_groups if group.get("lr")), None)


def updates_per_schedule_step(training: Training) -> int | None:
    """How many updates the run makes between two steps of its scheduler; None where that cannot be told.

    What the training says of it holds. Else an adaptive optimizer counts its updates, a scheduler its own steps; the
    ratio is 1, or as many as an epoch has batches. Where nothing tells, or the schedule was left behind, the rate is
    better left as it is than run through an epoch's schedule in so many updates.
    """
    scheduler, optimizer = training.scheduler, training.optimizer
    if scheduler is None or optimizer is None or isinstance(scheduler, ReduceLROnPlateau):
        return None
    if training.schedule_every is not None:
        return training.schedule_every
    scheduled = float(getattr(scheduler, "last_epoch", 0) or 0)
    counts = [float(state["step"]) for state in optimizer.state.values() if "step" in state]
    if scheduled < 1.0:
        return None
    if not counts:
        return 1 if isinstance(scheduler, _EACH_UPDATE) else None
    ratio = max(counts) / scheduled
    usual = (1, len(training.data)) if isinstance(training.data, Sized) else (1,)
    return next((each for each in usual if abs(ratio - each) <= _ROUGHLY * each), None)


def _copied(scheduler: Any, twin: Twin) -> Any:
    """Copy a scheduler so that it sets the rates of the copied optimizer; None if it cannot be copied."""
    if scheduler is None:
        return None
    memo: dict[int, Any] = {id(optimizer): twin.optimizer for optimizer in _optimizers(scheduler)}
    try:
        return copy.deepcopy(scheduler, memo)
    except Exception:  # a stranger's; the rate then stays as it is
        return None


def _optimizers(scheduler: Any) -> list[Any]:
    return [each.optimizer for each in _nested(scheduler) if hasattr(each, "optimizer")]


def _nested(scheduler: Any) -> list[Any]:
    """A scheduler and those that it is made of, as SequentialLR and ChainedScheduler are."""
    if scheduler is None:
        return []
    parts: Sequence[Any] = getattr(scheduler, "_schedulers", ())
    return [scheduler, *(deeper for part in parts for deeper in _nested(part))]
