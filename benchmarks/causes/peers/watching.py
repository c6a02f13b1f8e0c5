"""What every peer is given: a copy of the training to go on with, and a record to put its words in."""

import math
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.causes.continuing import Run, mean_loss, rows, size_of
from unstuck import Cause, Training

FEWEST, MOST = 200, 400  # steps; in between it is two epochs
HELD_EVERY = 10  # steps between two looks at the held-out loss

Words = dict[str, tuple[Cause, ...]]


@dataclass(frozen=True)
class Said:
    """One verdict of a peer.

    Attributes:
        words: The peer's own.
        causes: What they are taken for, the likeliest first; empty: a problem that we have no name for.
        note: The peer itself says that it is no problem, or only a remark.
    """

    words: str
    causes: tuple[Cause, ...]
    note: bool = False


@dataclass(frozen=True)
class Moment:
    """A step after the backward pass and before the optimizer moves.

    Attributes:
        number: From 0.
        batch: That the step is taken on.
        loss: Of that batch.
        held: Held-out loss, where the training has held-out data and it is time to look.
    """

    number: int
    batch: Any
    loss: Tensor
    held: float | None


class Whole(nn.Module):
    """Model and loss as one module, from rows of one batch to the loss: for a peer that calls `loss(model(x), y)`."""

    def __init__(self, run: Run, batch: Any) -> None:
        super().__init__()
        self.model = run.model
        self._loss, self._batch = run.loss, batch

    def forward(self, chosen: Tensor) -> Tensor:
        """Give the loss of the chosen rows."""
        whole = len(chosen) == size_of(self._batch)
        return self._loss(self.model, self._batch if whole else rows(self._batch, chosen))


def as_it_comes(output: Tensor, _: Tensor) -> Tensor:
    """Give the loss that `Whole` has computed."""
    return output


def to_watch(training: Training) -> Run:
    """Draw the batches that all peers will see; each peer gets a copy of the run."""
    first = list(training.data)
    wanted = min(max(2 * len(first), FEWEST), MOST)
    steps = list(first)
    while len(steps) < wanted:
        steps.extend(training.data)
    held = list(training.validation) if training.validation is not None else []
    assert training.optimizer is not None
    return Run(training.model, training.loss, training.optimizer, steps[:wanted], first, held)


def moments(run: Run) -> Iterator[Moment]:
    """Go on with the user's loop, at the rate that it has come to; stops before each step for the peer to look."""
    for number, batch in enumerate(run.steps):
        look = run.held and number % HELD_EVERY == 0
        held = mean_loss(run, run.held, training=False) if look else None
        run.optimizer.zero_grad()
        loss = run.loss(run.model, batch)
        if loss.requires_grad:
            loss.backward()
        yield Moment(number, batch, loss.detach(), held)
        run.optimizer.step()


def gradient_norm(model: nn.Module) -> float:
    """Give what `clip_grad_norm_` gives."""
    squares = [
        float(one.grad.detach().float().norm()) ** 2 for one in model.parameters() if one.grad is not None
    ]
    return math.sqrt(sum(squares)) if squares else 0.0


def rate_of(optimizer: torch.optim.Optimizer) -> float | None:
    """Give the first group's learning rate."""
    return optimizer.param_groups[0].get("lr")


def inputs_and_labels(batch: Any) -> tuple[Any, Tensor | None]:
    """Take the labels out of a batch, where it has any; targets of other kinds stay with the inputs."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, labels = batch
    elif isinstance(batch, MutableMapping) and "labels" in batch:
        beside = {"labels", "attention_mask"}  # a mask of ones is no constant input
        inputs, labels = {name: one for name, one in batch.items() if name not in beside}, batch["labels"]
    else:
        return batch, None
    one_each = isinstance(labels, Tensor) and (labels.ndim == 1 or not labels.is_floating_point())
    return (inputs, labels) if one_each else (batch, None)
