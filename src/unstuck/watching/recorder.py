"""What is written down of every step, and how often a step is looked at closely."""

import inspect
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unstuck.processes import alone
from unstuck.watching.files.rows import Rows, as_number
from unstuck.watching.files.store import Store
from unstuck.watching.follower import Follower
from unstuck.watching.graphs.made import made
from unstuck.watching.graphs.stairs import stairs
from unstuck.watching.looking import Looking
from unstuck.watching.models import is_zero, parameters_of
from unstuck.watching.samples import Sampler
from unstuck.watching.scaling import Scaling
from unstuck.watching.schedules import writes_rates
from unstuck.watching.threads import Own, Threads, only

# How many optimizers that are no more are remembered.
_GRAVES = 8

# Share of the time that close looks at steps may take; what else is done at each step takes about as much again.
_SHARE = 0.005

# A run that has just begun is looked at more often, whenever its age has doubled: that is ten samples or so.
_FIRST_GAP = 0.02

# These are looked at whatever the time: what is known by the first tests must not hang on how busy a machine is.
_FIRST_STEPS = frozenset(1 << power for power in range(2, 9))

# Seconds between two samples as a share of the run's age: a run of days has no more than some ten thousand.
_GAP_OF_AGE = 1 / 2000

# So many optimizers are introduced as they come: to find whose parameters they move takes a search of all that lives.
# Of a run that makes a new one every few steps, others are when there is time for it within the share.
_AT_ONCE = 4

# After so much more time, as a share of a run's age, it is asked again whether there is time for a look.
_SOON = 0.02


_compiling = torch.compiler.is_dynamo_compiling


class Recorder:
    """Hears of backward passes and steps, and writes rows.

    Args:
        store: Takes the rows.
        heard: Is told of every step's loss: follower, step, loss, learning rate.
        broken: Is told of the first of the steps that a `GradScaler` no longer makes.
        looking: Looks at the live loss now and then.
        troubled: Is told of every exception in here; none goes further.
        model: Whose parameters these are, if the caller knows.
    """

    def __init__(
        self,
        store: Store,
        heard: Callable[[Follower, int, float, float | None], None],
        broken: Callable[[Follower, int], None],
        looking: Looking,
        troubled: Callable[[Exception], None],
        model: nn.Module | None = None,
    ) -> None:
        self._rows = Rows(store)
        self._heard = heard
        self._broken = broken
        self._looking = looking
        self._troubled = troubled
        self._model = model
        self._start = time.perf_counter()
        self._followers: dict[int, Follower] = {}
        self._from_zero: dict[int, bool] = {}  # of those that are about to make their first step
        self._gone: deque[Follower] = deque(maxlen=_GRAVES)
        self._threads = Threads({})
        self._scaling = Scaling()
        self._count = self._introduced = 0
        self._introducing = 0.0  # seconds
        # What the thread that writes has still to go through: a loop over many steps is far cheaper than the same
        # work between the user's steps, where nothing of it is in the cache.
        self._pile: deque[tuple[Follower, int, float, float | Tensor | None, float | None]] = deque()
        self.close = False

    @property
    def alive(self) -> list[Follower]:
        """One an optimizer."""
        return list(self._followers.values())

    @property
    def single(self) -> bool:
        """Whether there are no two of them."""
        return len(self._followers) < 2  # noqa: PLR2004

    @property
    def followers(self) -> list[Follower]:
        """Those, and the last of those that are gone."""
        return [*self._gone, *self._followers.values()]

    @property
    def aimless(self) -> bool:
        """Whether losses have been differentiated since the last step."""
        return self._threads.own.aimless()

    def listed(self) -> list[Tensor]:
        """All parameters of all optimizers that stepped."""
        return [tensor for sampler in self._samplers() for tensor in sampler.parameters()]

    def reached(self) -> set[int]:
        """Ids of those that ever had a gradient when they were looked at."""
        return set().union(*(sampler.reached for sampler in self._samplers()))

    def _samplers(self) -> list[Sampler]:
        return [one.sampler for one in self.alive if one.sampler is not None]

    def _here(self) -> list[Follower]:
        """Those whose steps this thread makes: what others train may change while it is looked at."""
        thread = threading.get_ident()
        return [one for one in self.alive if one.thread == thread]

    def _samplers_here(self) -> list[Sampler]:
        return [one.sampler for one in self._here() if one.sampler is not None]

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def before_backward(self, tensors: Any, grad_tensors: Any) -> None:
        """Note the loss: that which the gradient will be the gradient of."""
        try:
            own = self._threads.own
            if self.close:
                self._see(tensors, own)
                self._note(tensors, grad_tensors, own)
            elif type(tensors) is Tensor and grad_tensors is None and own.unscaled is None:
                own.losses.append(tensors.item() if tensors.is_cpu else tensors.detach())
            else:
                self._note(tensors, grad_tensors, own)
        except Exception as error:  # the training must not hear of it
            self._troubled(error)

    def _see(self, loss: Any, own: Own) -> None:
        """Look at what is about to be differentiated."""
        own.made = made(loss)
        # A scaler would divide what is left there once more, which makes nothing of it.
        for sampler in self._samplers_here() if own.unscaled is None else ():
            sampler.before_micro_batch()
        self._see_stairs(loss)

    def _see_stairs(self, loss: Any) -> None:
        """Where no gradient came to a parameter, see whether it could."""
        for follower in self._here() if isinstance(loss, Tensor) else ():
            sampler = follower.sampler
            numb = bool(follower.samples) and follower.samples[-1][2].numb
            if sampler is not None and sampler.close and (numb or follower.twin):
                started = time.perf_counter()
                found, own = stairs(loss), set(map(id, sampler.parameters()))
                follower.met |= found.open if follower.twin else set()
                if own & (found.open | found.behind):
                    follower.stairs = found
                follower.cost += time.perf_counter() - started

    def after_backward(self) -> None:
        """Look at the micro-batch."""
        try:
            for sampler in self._samplers_here():
                sampler.micro_batch()
        except Exception as error:
            self._troubled(error)

    def differentiating(self, outputs: Any) -> None:
        """Look at the loss of a training that steps along gradients that it was given."""
        try:
            own = self._threads.own
            if own.steps_along and (loss := only(outputs)) is not None:
                self._let_look(loss, loss, own)
        except Exception as error:
            self._troubled(error)

    def differentiated(self, outputs: Any, gradients: Any) -> None:
        """Remember the loss, in case that its gradients are put where an optimizer finds them."""
        try:
            self._threads.own.give(only(outputs), gradients)
        except Exception as error:
            self._troubled(error)

    def scaled(self, loss: Any, scaled: Any) -> None:
        """Remember what a scaled loss was made from."""
        if isinstance(loss, Tensor) and scaled is not loss:
            self._threads.own.unscaled = (id(scaled), loss.detach())

    def asked(self, optimizer: Optimizer) -> None:
        """Remember whose step a `GradScaler` is about to decide on."""
        try:
            self._meet(optimizer)
            self._scaling.ask(self._followers.get(id(optimizer)) or self._follow(optimizer))
        except Exception as error:
            self._troubled(error)

    def skipped(self, scaler: Any) -> None:
        """Forget what was differentiated for a step that a `GradScaler` did not make."""
        self._threads.own.forget()
        try:
            self._scaling.decided(scaler)
        except Exception as error:
            self._troubled(error)

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Remember what has to be known from before."""
        if _compiling():  # a step that is compiled must not have us in it
            return
        if (len(args) > 1 or kwargs) and _has_closure(args, kwargs):
            self._threads.own.begin_closure(optimizer)
        if self.close or id(optimizer) not in self._followers:
            try:
                self._meet(optimizer)
                self._remember(optimizer)
            except Exception as error:
                self._troubled(error)

    def after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Write the step down."""
        del args, kwargs
        if _compiling():
            return
        try:
            own = self._threads.own
            follower = self._followers.get(id(optimizer)) or self._follow(optimizer)
            step = follower.step = follower.step + 1
            if self._scaling.asked:
                self._scaling.stepped(follower, optimizer)
            own.end_closure(optimizer)
            losses = own.losses
            if len(losses) == 1:
                follower.loss, follower.micro, follower.previous = losses.pop(), 1, own.last
                own.steps = own.differentiates = True
            else:
                self._gather_loss(follower, optimizer, own)
            own.last = follower
            rate = optimizer.param_groups[0].get("lr")
            if type(rate) is not float:
                rate = as_number(rate)
            now = time.perf_counter() - self._start
            self._pile.append((follower, step, now, follower.loss, rate))
            if self.close or now >= follower.due or step in _FIRST_STEPS:
                self._look_closely(follower, optimizer, now)
        except Exception as error:
            self._troubled(error)

    def _gather_loss(self, follower: Follower, optimizer: Optimizer, own: Own) -> None:
        """Find what the step was made for where it is not the one loss that its thread has differentiated."""
        own.steps = True
        losses = own.losses or own.taken(optimizer)
        if losses:
            own.differentiates = True
        elif losses := own.handed_over():
            # It might go on with steps while the other thread is at a look.
            self._looking.refuse("gradients come from another thread than the one that makes the steps")
        if losses:
            follower.loss, follower.micro, follower.previous = sum(losses), len(losses), own.last
            losses.clear()
        else:
            _share_loss(follower, own.last)

    def _note(self, tensors: Any, grad_tensors: Any, own: Own) -> None:
        scaled = tensors
        if own.unscaled is not None:
            number, loss = own.unscaled
            own.unscaled = None
            tensors = loss if number == id(tensors) else tensors
        if grad_tensors is None:
            several = tensors if isinstance(tensors, list | tuple) else [tensors]
            losses = [one.detach() for one in several if isinstance(one, Tensor) and one.numel() == 1]
            own.losses += [loss.item() if loss.is_cpu else loss for loss in losses]
            if isinstance(tensors, Tensor) and tensors.numel() == 1:
                self._let_look(scaled, tensors, own)

    def _let_look(self, scaled: Tensor, loss: Tensor, own: Own) -> None:
        subject = self._looking.subject
        if self._looking.open and isinstance(subject, Follower) and subject.previous is own.last:
            value = float(loss.detach())
            scale = 1.0 if scaled is loss or value == 0.0 else float(scaled.detach()) / value
            if scale > 0.0:  # a scaler that refuses every step ends there
                self._looking.before_backward(scaled, scale)

    def _meet(self, optimizer: Optimizer) -> None:
        if id(optimizer) not in self._followers:
            self._from_zero[id(optimizer)] = is_zero(optimizer)

    @alone()
    def _remember(self, optimizer: Optimizer) -> None:
        follower = self._followers.get(id(optimizer))
        if follower is not None and self._looking.subject is follower:
            self._looking.before_step()
        if follower is not None and follower.sampler is not None and follower.sampler.close:
            started = time.perf_counter()
            follower.sampler.before()
            follower.cost += time.perf_counter() - started

    def go_through(self) -> None:
        """Write down the steps since the last call; the thread that writes calls it."""
        pile = self._pile
        while pile:
            follower, step, now, loss, rate = pile.popleft()
            value = loss if loss is None or type(loss) is float else float(loss)
            self._rows.step(follower, step, now, value, rate)
            self._heard(follower, step, math.nan if value is None else follower.sign * value, rate)
        for follower in self._scaling.broken():
            self._broken(follower, follower.step + 1)

    def _follow(self, optimizer: Optimizer) -> Follower:
        key = id(optimizer)
        follower = self._followers[key] = Follower(self._count, optimizer, self._model)
        follower.from_zero = self._from_zero.pop(key, True)
        # Another one may get the same address later.
        weakref.finalize(optimizer, self._bury, key)
        self._count += 1
        return follower

    def _bury(self, key: int) -> None:
        """Remember a few of those whose optimizer is gone: what they were about may still have to be said."""
        follower = self._followers.pop(key, None)
        if follower is not None:
            self._gone.append(follower)

    @alone()
    def _look_closely(self, follower: Follower, optimizer: Optimizer, now: float) -> None:
        sampler = follower.sampler
        if sampler is None and self._introduced >= _AT_ONCE and self._introducing > _SHARE * now:
            self._put_off(follower, optimizer)
            return
        if sampler is None or sampler.close or now >= follower.next_sample or follower.step in _FIRST_STEPS:
            self._sample(follower, optimizer, now)
        if self._looking.open:
            if self._looking.subject is follower:
                self._looking.after_step(now)
        elif sampler is not None and not sampler.close:
            self._looking.consider(optimizer, sampler.outer, follower, now)
        # Where a look is wanted, and there was no time for it yet, ask again soon.
        soon = now + _SOON * now if follower.wanted else math.inf
        follower.due = min(follower.next_sample, soon)
        self.close = self._looking.open or any(one.close for one in self._samplers())

    def _put_off(self, follower: Follower, optimizer: Optimizer) -> None:
        """Let its introduction wait until there is time for it."""
        if follower.due == 0.0:
            size = sum(tensor.numel() for tensor in parameters_of(optimizer))
            self._rows.optimizer(follower, optimizer, None, size)
        follower.due = self._introducing / _SHARE
        self.close = self._looking.open or any(one.close for one in self._samplers())

    def _sample(self, follower: Follower, optimizer: Optimizer, now: float) -> None:
        sampler = follower.sampler or self._introduce(follower, optimizer, now)
        own = self._threads.own
        follower.made |= own.made
        started = time.perf_counter()
        sample = sampler.after()
        if sample is not None:
            follower.samples.append((follower.step, now, sample))
            follower.first = follower.first or sample
            self._rows.sample(follower, optimizer, sample, now)
        follower.cost += time.perf_counter() - started
        if not sampler.close:  # else the very next step belongs to it
            gap = max(follower.cost / _SHARE, _GAP_OF_AGE * now)
            follower.next_sample = now + min(gap, max(now - follower.begun, _FIRST_GAP))
            follower.cost = 0.0

    def _introduce(self, follower: Follower, optimizer: Optimizer, now: float) -> Sampler:
        sampler = follower.sampler = Sampler(optimizer, follower.model and follower.model())
        follower.by_hand = writes_rates(inspect.currentframe())
        own = set(map(id, sampler.parameters()))
        inside = [set(map(id, one.parameters())) for one in self._samplers() if one is not sampler]
        follower.around = follower.shares and any(own <= other for other in inside)
        follower.twin = own in inside and not follower.shares
        model = None if sampler.model is None else type(sampler.model).__name__
        self._rows.optimizer(follower, optimizer, model, sampler.size)
        follower.begun = now
        self._introduced += 1
        self._introducing += self.now - now
        return sampler


def _share_loss(follower: Follower, last: Follower | None) -> None:
    """Nothing was differentiated since the step of another optimizer: the two share its backward pass."""
    if last is None or last is follower:
        follower.loss = None
    else:
        follower.shares = True
        follower.loss, follower.micro, follower.previous = last.loss, last.micro, last.previous


def _has_closure(args: Any, kwargs: Any) -> bool:
    # The optimizer itself comes first.
    return (len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None
