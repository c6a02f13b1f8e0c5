"""What each thread of a training has differentiated since its last step."""

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from unstuck.watching.follower import Follower
from unstuck.watching.graphs.made import NOT_SEEN

# Losses that a step is made for, at most: of a thread that differentiates and never steps the oldest are dropped.
_MOST = 10_000


def _losses(those: Iterable[Any] = ()) -> deque[Any]:
    return deque(those, _MOST)


class Own:
    """What one thread has differentiated.

    Attributes:
        steps: Whether the thread ever made a step.
        differentiates: Whether it ever had a loss of its own for one.
        losses: Since its last step, numbers, or tensors on a device; the last of them.
        unscaled: What a `GradScaler` made the loss from that comes next, and the number of what it made.
        made: What the last loss that was looked at is made of.
        last: Whose step it made last.
        given: The first of the gradients that were last given, not added up, and the loss they are of.
        steps_along: Whether its last step was along such.
    """

    __slots__ = (
        "_inside",
        "_outside",
        "_threads",
        "differentiates",
        "given",
        "last",
        "losses",
        "made",
        "steps",
        "steps_along",
        "unscaled",
    )

    def __init__(self, threads: dict[int, "Own"]) -> None:
        threads[threading.get_ident()] = self
        self._threads = threads
        self.steps = self.differentiates = self.steps_along = False
        self.losses = _losses()
        self.unscaled: tuple[int, Any] | None = None
        self.made = NOT_SEEN
        self.last: Follower | None = None
        self.given: tuple[weakref.ref[Tensor], Any] | None = None
        self._inside: Optimizer | None = None
        self._outside = _losses()

    def give(self, loss: Tensor | None, gradients: Sequence[Tensor | None]) -> None:
        """Remember a loss whose gradients the caller has for himself: he may step along them yet."""
        first = next((gradient for gradient in gradients if gradient is not None), None)
        if loss is not None and first is not None:
            with suppress(RuntimeError):  # inside a transform of torch.func, which has no single number
                self.given = weakref.ref(first), loss.item() if loss.is_cpu else loss.detach()

    def taken(self, optimizer: Optimizer) -> list[Any]:
        """The loss whose gradients were given, if the optimizer has them for its own."""
        given, self.given = self.given, None
        first = None if given is None else given[0]()
        own = (parameter.grad for group in optimizer.param_groups for parameter in group["params"])
        self.steps_along = first is not None and any(gradient is first for gradient in own)
        return [given[1]] if given is not None and self.steps_along else []

    def begin_closure(self, optimizer: Optimizer) -> None:
        """Keep apart what is differentiated from now on: the first of it is where the step starts from."""
        self._inside, self._outside, self.losses = optimizer, self.losses, _losses()

    def end_closure(self, optimizer: Optimizer) -> None:
        """Keep that first one, if it was this optimizer's closure."""
        if self._inside is optimizer:
            self.losses = _losses([*self._outside, *islice(self.losses, 1)])
            self._inside = None

    def forget(self) -> None:
        """No step is made for what has been differentiated."""
        self.losses = _losses()

    def aimless(self) -> bool:
        """Whether losses are differentiated, here or elsewhere, that no step has come of."""
        return any(own.losses for own in [*self._threads.values()])

    def handed_over(self) -> list[Any]:
        """What threads that make no steps have differentiated, if this one makes all and does nothing else."""
        if self.differentiates:
            return []
        others = [own for own in [*self._threads.values()] if own is not self]
        if any(own.steps for own in others):
            return []
        losses: list[Any] = []
        for own in others:
            losses += own.losses
            own.forget()
        return losses


class Threads(threading.local):
    """Gives the thread that asks what is its `own`: to be asked for once, for it costs more than an attribute."""

    def __init__(self, threads: dict[int, Own]) -> None:
        self.own = Own(threads)


def only(outputs: Any) -> Tensor | None:
    """Give the one number that is differentiated, if it is one."""
    one = outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs
    return one if isinstance(one, Tensor) and one.numel() == 1 else None
