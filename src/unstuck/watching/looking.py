"""When the live loss is looked at, and for how long: on a stall, and now and then, within a share of the time."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unstuck.errors import MeasurementError
from unstuck.measurements.records.live import Glimpse, Look
from unstuck.objective.generators import generators_kept
from unstuck.objective.sampling import reason
from unstuck.watching.graphs.activations import flat_layers, flat_outputs
from unstuck.watching.graphs.bounded import beyond
from unstuck.watching.graphs.unrolled import unrolled
from unstuck.watching.kernels.guard import Guard, obstacle
from unstuck.watching.looks import COST, FEWEST, PRODUCTS, Looker, differentiable
from unstuck.watching.models import as_written, names_of
from unstuck.watching.others import PATIENCE, foreign, several

# Looks that nothing called for come after this much more time each, and may take half of what all may: the other
# half waits for a stall.
_LATER, _HALF = 1.5, 0.5

# Share of the free memory for the vectors of a look; its graph may need about as much as the process has by now.
_VECTORS = 0.1

# After so many looks in a row that failed, none is tried any more.
_MOST_FAILURES = 3

# Gradients that a glimpse costs, at most: a pass back to what recurrent layers give, and a walk along the graph.
_GLIMPSE = 4.0

# How much later another one may follow.
_AGAIN = 2

_COPIES = 2  # of each vector of the space: itself and its image


@runtime_checkable
class Subject(Protocol):
    """Whose loss is looked at: the steps of one optimizer.

    Attributes:
        step: Its last step.
        micro: How many backward passes make a step.
        wanted: Whether its loss stands still, and a look is to say why.
    """

    step: int
    micro: int
    wanted: bool

    def seconds_per_step(self) -> float:
        """How long one takes."""
        ...


class Looking:
    """Plans looks at the loss of one optimizer and makes them.

    Args:
        share: Of the time of the run that looks may take.
        told: Is told of a look that is done, or of why there is none; says whether more batches should judge.
        glimpsed: Is told of what a graph shows by itself, where there is no time for a look yet.
    """

    def __init__(
        self,
        share: float,
        told: Callable[[Look | None, str], bool],
        glimpsed: Callable[[Glimpse], None],
    ) -> None:
        self._share = share
        self._told = told
        self._glimpsed = glimpsed
        self._names: Mapping[int, str] | None = None  # of what is to be glimpsed at
        self._last_glimpse = 0
        self._guard: Guard | None = None
        self._looker: Looker | None = None
        self._unsure: Looker | None = None
        self._spent = self._counted = 0.0
        self._per_gradient = 0.0
        self._next = 0.0
        self._failures = 0
        self._checked = (
            False  # at once, so that it is known early if there will be none; and again before each
        )
        self._limit = 0.0
        self.subject: Subject | None = None
        self.why_not = "" if share > 0.0 else "looks are turned off"

    @property
    def open(self) -> bool:
        """Whether a look has begun."""
        return self._looker is not None or self._names is not None

    def consider(self, optimizer: Optimizer, model: nn.Module | None, subject: Subject, now: float) -> None:
        """After a step: begin a look if it is time and there is enough of it."""
        if self.open or self.why_not or not (subject.wanted or now >= self._next):
            return
        if not subject.wanted:
            self._unsure = None
        allowed = self._allowed(now, wanted=subject.wanted)
        products = self._affordable(subject, allowed)
        if self._checked and products < FEWEST and not self._may_glimpse(subject, allowed):
            return
        self._checked = True
        leaves = differentiable(optimizer)
        why_not = obstacle(model, leaves) if leaves else "it has no parameter that can be differentiated by"
        why_not = why_not or self._too_long(subject)
        if why_not:
            self._end_all(why_not)
        elif products >= FEWEST:
            self._begin(optimizer, _named(model, leaves), subject, products)
            self._limit = allowed
        elif self._may_glimpse(subject, allowed):
            self._names = _named(model, leaves)
            self._guard, self.subject, self._last_glimpse = Guard(), subject, subject.step

    def _begin(self, optimizer: Optimizer, names: Mapping[int, str], subject: Subject, products: int) -> None:
        if self._unsure is not None and self.subject is subject:
            self._looker, self._unsure = self._unsure, None
            self._looker.ask_more()
            self._guard = Guard()
        elif (fitting := _fitting(differentiable(optimizer))) >= FEWEST:
            most = min(products, fitting)
            self._looker = Looker(optimizer, subject.step + 1, most, seed=subject.step, names=names)
            self._guard, self.subject = Guard(), subject

    def before_backward(self, loss: Tensor, scale: float) -> None:
        """Before a backward pass of the subject: look at the graph of its loss, multiplied by `scale`."""
        guard, looker = self._guard, self._looker
        if guard is None or self.subject is None:
            return
        guard.down()
        self._guard = None
        seen = guard.seen or _talks(loss)
        if looker is None:
            self._glimpse(loss, seen)
            return
        factor = self.subject.micro / scale
        try:
            if seen:
                raise MeasurementError(seen)  # noqa: TRY301 - as if the look had failed
            if looker.found:
                looker.judge(loss, factor)
            else:
                limit = time.perf_counter() + self._limit
                looker.find(loss, factor, lambda: time.perf_counter() < limit)
        except (RuntimeError, MeasurementError, TypeError) as error:  # as autograd complains
            self._fail(looker, error)

    def _glimpse(self, loss: Tensor, seen: str) -> None:
        names, self._names = self._names, None
        if names is None or seen:
            return
        started = time.perf_counter()
        try:
            with generators_kept():
                found = Glimpse(
                    flat=flat_layers(loss, names),
                    flat_outputs=flat_outputs(loss, names),
                    unrolled=unrolled(loss, names),
                    beyond=beyond(loss),
                )
        except RuntimeError:  # as autograd complains
            return
        finally:
            self._spent += time.perf_counter() - started
        self._glimpsed(found)

    def before_step(self) -> None:
        """Before a step of the subject."""
        if self._looker is not None and self._guard is None:
            self._looker.before()

    def after_step(self, now: float) -> None:
        """After a step of the subject: go on, or sum up."""
        looker = self._looker
        if looker is None:
            return
        if self._guard is not None:
            looker.miss()
            return
        looker.after()
        if looker.moved and not looker.wanting:
            self._end(looker, now)
        elif looker.moved:
            self._guard = Guard()

    def give_up(self) -> None:
        """Put everything back; nothing more is looked at."""
        if self._guard is not None:
            self._guard.down()
        self._guard = self._looker = self._unsure = self._names = None

    def refuse(self, why: str) -> None:
        """Look at nothing any more, for a reason that lies outside."""
        if not self.why_not:
            self.give_up()
            self._end_all(why)

    def _end(self, looker: Looker, now: float) -> None:
        self._looker, self._failures = None, 0
        self._spent += looker.seconds - self._counted
        self._counted = 0.0
        self._per_gradient = looker.seconds / looker.gradients
        self._next = now * _LATER
        if self._told(looker.look(), ""):
            self._unsure, self._counted = looker, looker.seconds

    def _fail(self, looker: Looker, error: Exception) -> None:
        self.give_up()
        self._spent += looker.seconds - self._counted
        self._counted = 0.0
        self._failures += 1
        if self._failures >= _MOST_FAILURES or isinstance(error, torch.OutOfMemoryError):
            self._end_all(reason(error))

    def _end_all(self, why: str) -> None:
        self.why_not = why
        self._told(None, why)

    def _allowed(self, now: float, *, wanted: bool) -> float:
        return (1.0 if wanted else _HALF) * self._share * now - self._spent

    def _may_glimpse(self, subject: Subject, allowed: float) -> bool:
        """Whether a stall waits, no look is under way or to be gone on with, and there is time for a glimpse."""
        due = subject.wanted and self._unsure is None and subject.step >= _AGAIN * self._last_glimpse
        return due and 0.0 < _GLIMPSE * subject.seconds_per_step() <= allowed

    def _too_long(self, subject: Subject) -> str:
        """Say that the other processes would wait for a look for too long, if there are others."""
        seconds = COST * (self._per_gradient or subject.seconds_per_step())
        return (
            f"the other processes would wait for it for {seconds:.0f} seconds"
            if several() and seconds > PATIENCE
            else ""
        )

    def _affordable(self, subject: Subject, allowed: float) -> int:
        """How many products there is time for; the judging takes as much as it takes."""
        per_gradient = self._per_gradient or subject.seconds_per_step()
        if per_gradient <= 0.0:
            return 0
        spare = allowed / per_gradient - COST
        return min(PRODUCTS, PRODUCTS + int(spare / 2.0))


def _talks(loss: Tensor) -> str:
    name = foreign(loss)
    return name and f"it is one of several processes, and {name} may talk to the others"


def _named(model: nn.Module | None, leaves: list[Tensor]) -> dict[int, str]:
    return dict(zip(map(id, leaves), map(as_written, names_of(model, leaves)), strict=True))


def _fitting(leaves: list[Tensor]) -> int:
    """How many products there is memory for."""
    device = leaves[0].device
    free = psutil.virtual_memory().available
    used = psutil.Process().memory_info().rss
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        used = total - free
    vector = 4 * sum(leaf.numel() for leaf in leaves)
    return int(_VECTORS * free / (_COPIES * vector)) if free > used else 0
