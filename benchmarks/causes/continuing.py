"""Going on with a training from where it stands, again and again, each time from the very same state."""

import copy
import math
import time
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.causes.case import seeded
from unstuck import Training
from unstuck.training import Loss

EPOCHS = 4  # how far a run is continued, as long as that is between so many steps
FEWEST, MOST = 80, 160
SECONDS = 5.0  # of the processor for one change; the whole batch at every step takes longest, and may get fewer steps
LOOKS = 5  # at the loss over all data, in the last fifth: a bouncing run is not to be judged by one moment
TAIL = 0.2


@dataclass
class Run:
    """A training that may be changed, and the batches that it will see.

    Attributes:
        model: A copy.
        loss: As the user gave it.
        optimizer: A copy that moves the parameters of `model`.
        steps: The batch of each step to come.
        every: All of the training data, in batches, for the loss over it.
        held: Validation batches, if any.
        dtype: What floating tensors of batches are turned to, if anything.
    """

    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    steps: list[Any]
    every: list[Any]
    held: list[Any]
    dtype: torch.dtype | None = None

    def copy(self) -> "Run":
        """Give the same state again; batches are shared."""
        model, optimizer = copy.deepcopy((self.model, self.optimizer))
        return replace(self, model=model, optimizer=optimizer)


@dataclass(frozen=True)
class Outcome:
    """Loss over the training data and over the held-out data, before and after; NaN counts as infinite."""

    start: float
    end: float
    held_start: float | None = None
    held: float | None = None


def beginning(training: Training, *, seed: int = 0) -> Run:
    """Take the training as it stands, with the batches that it would draw next."""
    with seeded(seed):
        epochs = [list(training.data)]
        wanted = min(max(EPOCHS * len(epochs[0]), FEWEST), MOST)
        while sum(map(len, epochs)) < wanted:
            epochs.append(list(training.data))
    steps = [batch for epoch in epochs for batch in epoch][:wanted]
    held = list(training.validation) if training.validation is not None else []
    assert training.optimizer is not None
    return Run(training.model, training.loss, training.optimizer, steps, epochs[0], held)


def finish(run: Run, *, seed: int = 0) -> Outcome:
    """Train through the steps to come; the state of `run` is used up."""
    with seeded(seed):
        start = mean_loss(run, run.every)
        held_start = mean_loss(run, run.held, training=False) if run.held else None
        deadline = time.process_time() + SECONDS
        marks = {round(len(run.steps) * (1 - TAIL * index / LOOKS)) for index in range(LOOKS)}
        ends = []
        for number, batch in enumerate(run.steps, 1):
            late = time.process_time() > deadline
            run.optimizer.zero_grad()
            loss = run.loss(run.model, as_dtype(batch, run.dtype))
            if loss.requires_grad:
                loss.backward()
            run.optimizer.step()
            if number in marks or late:
                ends.append(mean_loss(run, run.every))
            if late:
                break
        held = mean_loss(run, run.held, training=False) if run.held else None
    return Outcome(start, sum(ends) / len(ends), held_start, held)


def mean_loss(run: Run, data: Iterable[Any], *, training: bool | None = None) -> float:
    """Give the mean over examples, in the mode of the model or, where told, in another."""
    modes = [(module, module.training) for module in run.model.modules()]
    if training is not None:
        run.model.train(training)
    total, examples = 0.0, 0
    with torch.no_grad(), seeded(1):
        kept = {name: buffer.clone() for name, buffer in run.model.named_buffers()}
        for batch in data:
            count = size_of(batch)
            total += float(run.loss(run.model, as_dtype(batch, run.dtype))) * count
            examples += count
        for name, buffer in run.model.named_buffers():
            buffer.copy_(kept[name])
    for module, mode in modes:
        module.training = mode
    value = total / examples
    return value if math.isfinite(value) else math.inf


def size_of(batch: Any) -> int:
    """Give the number of examples."""
    return next((len(tensor) for tensor in tensors_of(batch) if tensor.ndim), 1)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Give the tensors in a batch, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, MutableMapping):
        for item in batch.values():
            yield from tensors_of(item)
    elif isinstance(batch, list | tuple):
        for item in batch:
            yield from tensors_of(item)


def rebuilt(batch: Any, tensors: Iterator[Tensor]) -> Any:
    """Give a batch of the same form that holds the given tensors."""
    if isinstance(batch, Tensor):
        return next(tensors)
    if isinstance(batch, MutableMapping):
        again = copy.copy(batch)
        for key, item in batch.items():
            again[key] = rebuilt(item, tensors)
        return again
    if isinstance(batch, list | tuple):
        return type(batch)([rebuilt(item, tensors) for item in batch])
    return batch


def joined(batches: list[Any]) -> Any:
    """Make one batch of several."""
    columns = zip(*(list(tensors_of(batch)) for batch in batches), strict=True)
    return rebuilt(batches[0], iter([torch.cat(column) for column in columns]))


def rows(batch: Any, chosen: Tensor) -> Any:
    """Give some of a batch's examples."""
    return rebuilt(batch, iter([tensor[chosen] for tensor in tensors_of(batch)]))


def as_dtype(batch: Any, dtype: torch.dtype | None) -> Any:
    """Turn floating tensors of a batch."""
    if dtype is None:
        return batch
    turned = [one.to(dtype) if one.is_floating_point() else one for one in tensors_of(batch)]
    return rebuilt(batch, iter(turned))
