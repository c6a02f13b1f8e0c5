"""One labelled training, and the plain loop that gets it to where it is stuck."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from unstuck import Cause, Training
from unstuck.training import Loss

Setup = Callable[[int], Training]
Remedy = Callable[[Training], Training]

KINDS = ("mlp", "conv", "conv-bn", "rnn", "transformer", "autoencoder", "linear")


@dataclass(frozen=True)
class Case:
    """A training as it stands where it is stuck, and the cause that it is stuck for.

    Attributes:
        name: Unique, in kebab-case.
        cause: The label.
        setup: From a seed to the training, already trained up to where it is stuck; seconds at most.
        remedy: What the label says should help, applied to a fresh training, which it may change and give
            back; None for healthy runs and minima, which nothing should help.
        kind: Of network, one of `KINDS`.
        note: How it got stuck, in one line.
        also: Other causes that are just as true of it; each needs its own proof.
    """

    name: str
    cause: Cause
    setup: Setup
    remedy: Remedy | None
    kind: str
    note: str = ""
    also: frozenset[Cause] = frozenset()

    def training(self, seed: int) -> Training:
        """Build it; no random generator outside is moved."""
        with seeded(seed):
            return self.setup(seed)

    def remedied(self, seed: int) -> Training:
        """Build it afresh and apply its own remedy, if it has one."""
        with seeded(seed):
            training = self.setup(seed)
            return self.remedy(training) if self.remedy is not None else training


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator inside, and put it back after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def trained(
    model: nn.Module,
    loss: Loss,
    data: Iterable[Any],
    optimizer: Optimizer,
    *,
    epochs: int | None = None,
    steps: int | None = None,
) -> nn.Module:
    """Train in place with a plain loop for so many epochs or steps; gives the model back."""
    if (epochs is None) == (steps is None):
        msg = "say how long to train: either `epochs` or `steps`"
        raise ValueError(msg)
    taken = 0
    for _ in range(epochs if epochs is not None else steps or 0):
        for batch in data:
            if taken == steps:
                return model
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
            taken += 1
    return model
