"""Train on before diagnosing, with the training's own optimizer and scheduler."""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, cast

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unstuck.errors import TrainingError
from unstuck.objective.sampling import describe, moved
from unstuck.optim.closures import wants_closure
from unstuck.progress import Told
from unstuck.training import Training


def advance(training: Training, steps: int, progress: Told | None = None) -> None:
    """Train for so many steps, in place: a batch, a gradient, an update each, epoch after epoch.

    The scheduler makes its step after every update, but ReduceLROnPlateau, which wants to be told the
    loss, after every epoch, with the mean loss of its batches.

    Raises:
        TrainingError: There is no optimizer, the data are empty, or a step fails; it names the step.
    """
    if training.optimizer is None:
        msg = "training on needs `optimizer`: pass the one of the run to Training, or leave out the steps"
        raise TrainingError(msg)
    losses: list[float] = []
    for step, (batch, starts_epoch) in enumerate(islice(_endless(training), steps)):
        if progress is not None:
            progress(f"training {steps} steps", step / steps)
        if starts_epoch and isinstance(training.scheduler, ReduceLROnPlateau):
            training.scheduler.step(sum(losses) / len(losses))
            losses = []
        losses.append(_step(training, training.optimizer, batch, step + 1))


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
            optimizer.step()
    except Exception as error:
        reason = " ".join(str(error).split())
        msg = f"training step {number} failed on a batch {describe(batch)}: {type(error).__name__}: {reason:.300}"
        raise TrainingError(msg) from error
    if training.scheduler is not None and not isinstance(training.scheduler, ReduceLROnPlateau):
        training.scheduler.step()
    return first[0]
