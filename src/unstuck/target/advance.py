"""Train on before diagnosing, with the training's own optimizer and scheduler."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unstuck import processes
from unstuck.errors import TrainingError
from unstuck.objective.sampling import describe, moved
from unstuck.objective.shards import is_divided
from unstuck.optim.closures import step_with_gradients, wants_closure
from unstuck.progress import Told
from unstuck.training import Training


def advance(training: Training, steps: int, progress: Told | None = None) -> None:
    """Train for so many steps, in place: a batch, a gradient, an update each, epoch after epoch.

    The scheduler makes its step after every update, or after as many as `schedule_every` says, but ReduceLROnPlateau,
    which wants to be told the loss, after every epoch, with the mean loss of its batches. Of several processes each
    makes its step on its own part of the batch, with the mean of their gradients, as DistributedDataParallel does.

    Raises:
        TrainingError: There is no optimizer, the data are empty, or a step fails; it names the step.
    """
    if training.optimizer is None:
        msg = "training on needs `optimizer`: pass the one of the run to Training, or leave out the steps"
        raise TrainingError(msg)
    optimizer, scheduler = training.optimizer, training.scheduler
    losses: list[float] = []
    with processes.interrupts_end_all():
        for step, (batch, starts_epoch) in enumerate(islice(_endless(training), steps)):
            if progress is not None:
                progress(f"training {steps} steps", step / steps)
            if isinstance(scheduler, ReduceLROnPlateau) and processes.shared(starts_epoch):
                means = processes.gathered(sum(losses) / len(losses))
                scheduler.step(sum(means) / len(means))
                losses = []
            losses.append(processes.together(partial(_step, training, optimizer, batch, step + 1)))


def _endless(training: Training) -> Iterator[tuple[Any, bool]]:
    """Give batch after batch on the model's device, and whether another epoch begins with it."""
    device = next(training.model.parameters()).device
    for epoch in count():
        number = -1
        for number, batch in enumerate(training.data):
            yield moved(batch, device), epoch > 0 and number == 0
        if number < 0:
            msg = "`data` gave no batch: pass a DataLoader or a list with at least one batch"
            raise TrainingError(msg)


def _step(training: Training, optimizer: Optimizer, batch: Any, number: int) -> float:
    first: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = training.loss(training.model, batch)
        loss.backward()
        _average(training.model)
        if training.clip is not None:
            clip_grad_norm_(training.model.parameters(), training.clip)
        first.append(float(loss.detach()))
        return loss

    try:
        if wants_closure(optimizer):
            optimizer.step(
                cast("Callable[[], float]", closure)
            )  # torch takes tensors, its annotation says float
        else:
            closure()
            step_with_gradients(optimizer, closure)
    except Exception as error:
        reason = " ".join(str(error).split())
        msg = f"training step {number} failed on a batch {describe(batch)}: {type(error).__name__}: {reason:.300}"
        raise TrainingError(msg) from error
    due = number % (training.schedule_every or 1) == 0
    if due and training.scheduler is not None and not isinstance(training.scheduler, ReduceLROnPlateau):
        training.scheduler.step()
    return first[0]


def _average(model: nn.Module) -> None:
    """Take the mean of the processes' gradients, unless the model does so itself."""
    if processes.count() == 1 or isinstance(model, DistributedDataParallel) or is_divided(model):
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    given = processes.total(torch.tensor([float(parameter.grad is not None) for parameter in trained]))
    for parameter, somewhere in zip(trained, given.tolist(), strict=True):
        if somewhere:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = processes.total(gradient).div_(processes.count())
