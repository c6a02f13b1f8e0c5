"""How the run is seen: PyTorch's own hooks on optimizers, and the two functions that all derivatives go through."""

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from unstuck.watching.kernels.exchange import exchanged


@runtime_checkable
class Listener(Protocol):
    """Who is told; none of these may raise, nor change anything.

    Called several times in each step, so that every microsecond counts: of steps that are not `close` it hears
    nothing but the loss and the end.
    """

    close: bool

    def before_backward(self, tensors: Any, grad_tensors: Any) -> None:
        """Hear that these are about to be differentiated."""
        ...

    def after_backward(self) -> None:
        """Hear, if the step is a close one, that the gradients have been added up."""
        ...

    def differentiating(self, outputs: Any) -> None:
        """Hear that the gradients of these are about to be given to the caller."""
        ...

    def differentiated(self, outputs: Any, gradients: Any) -> None:
        """Hear that these are the gradients of those, given to the caller and added up nowhere."""
        ...

    def scaled(self, loss: Any, scaled: Any) -> None:
        """Hear that a `GradScaler` made the second out of the first."""
        ...

    def asked(self, optimizer: Optimizer) -> None:
        """Hear that a `GradScaler` is about to let the optimizer step, or not."""
        ...

    def skipped(self, scaler: Any) -> None:
        """Hear that a `GradScaler` has had its last word on a step, made or not."""
        ...

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Hear that the optimizer is about to make a step, with these arguments."""
        ...

    def after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Hear that it has made it."""
        ...


def attach(listener: Listener, optimizers: Sequence[Optimizer] | None = None) -> Callable[[], None]:
    """Let the listener hear of every backward pass and of the steps of these optimizers, or of all.

    In a process that is forked off, as data loaders do, it hears nothing. Gives what undoes it.
    """
    attached = ExitStack()
    _through(listener, attached)
    if optimizers is None:
        attached.callback(register_optimizer_step_pre_hook(listener.before_step).remove)
        attached.callback(register_optimizer_step_post_hook(listener.after_step).remove)
    for optimizer in optimizers or ():
        attached.callback(optimizer.register_step_pre_hook(listener.before_step).remove)
        attached.callback(optimizer.register_step_post_hook(listener.after_step).remove)
    _through_scalers(listener, optimizers, attached)
    os.register_at_fork(after_in_child=attached.close)
    return attached.close


def _through(listener: Listener, attached: ExitStack) -> None:
    original, heard = torch.autograd.backward, listener.before_backward

    @functools.wraps(original)
    def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
        heard(tensors, grad_tensors)
        original(tensors, grad_tensors, *args, **kwargs)
        if listener.close:
            listener.after_backward()

    given = torch.autograd.grad

    @functools.wraps(given)
    def grad(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # what is compiled must not have us in it
            return given(outputs, *args, **kwargs)
        listener.differentiating(outputs)
        gradients = given(outputs, *args, **kwargs)
        listener.differentiated(outputs, gradients)
        return gradients

    attached.enter_context(exchanged(torch.autograd, "backward", backward))
    attached.enter_context(exchanged(torch.autograd, "grad", grad))


def _through_scalers(listener: Listener, optimizers: Sequence[Optimizer] | None, attached: ExitStack) -> None:
    scaler = torch.amp.GradScaler
    original_scale, original_step, original_update = scaler.scale, scaler.step, scaler.update

    @functools.wraps(original_scale)
    def scale(self: Any, outputs: Any) -> Any:
        scaled = original_scale(self, outputs)
        listener.scaled(outputs, scaled)
        return scaled

    @functools.wraps(original_step)
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if optimizers is None or any(optimizer is one for one in optimizers):
            listener.asked(optimizer)
        return original_step(self, optimizer, *args, **kwargs)

    @functools.wraps(original_update)
    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        original_update(self, *args, **kwargs)
        listener.skipped(self)

    for name, ours in (("scale", scale), ("step", step), ("update", update)):
        attached.enter_context(exchanged(scaler, name, ours))
