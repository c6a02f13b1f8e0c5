"""Plain training in batches that are drawn anew each epoch: what the studies of batch size share."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from unstuck.optim import Schedule
from unstuck.study.sets import Part, Score, score


@dataclass(frozen=True)
class Learnt:
    """A training's course.

    Attributes:
        epochs: How many were made.
        updates: How many steps.
        scores: On what it learns from, before the first epoch and after each that was looked at.
        at: Which epochs these are.
    """

    epochs: int
    updates: int
    scores: tuple[Score, ...]
    at: tuple[int, ...]

    @property
    def last(self) -> Score:
        """Where it ended."""
        return self.scores[-1]


def learn(  # noqa: PLR0913 - what a training is made of
    model: nn.Module,
    optimizer: Optimizer,
    part: Part,
    *,
    size: int,
    epochs: int,
    seed: int,
    schedule: Schedule | None = None,
    every: int = 1,
    enough: Callable[[Score], bool] | None = None,
) -> Learnt:
    """Train in place on cross-entropy.

    Args:
        model: The network.
        optimizer: With its rate.
        part: What to learn from.
        size: Examples a batch; the rest of an epoch that makes no whole batch is left out, to come in another.
        epochs: At most so many.
        seed: Of the order.
        schedule: Factor of the rate for every update.
        every: After how many epochs to look.
        enough: Whether a look ends it.
    """
    rate = float(optimizer.param_groups[0]["lr"])
    scores, at = [score(model, part)], [0]
    updates, generator = 0, torch.Generator().manual_seed(seed)
    epoch = 0
    for epoch in range(1, epochs + 1):
        for rows in batches(len(part), size, generator):
            if schedule is not None:
                optimizer.param_groups[0]["lr"] = rate * schedule(updates)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(part.inputs[rows]), part.labels[rows]).backward()
            optimizer.step()
            updates += 1
        if epoch % every == 0 or epoch == epochs:
            scores.append(score(model, part))
            at.append(epoch)
            if not math.isfinite(scores[-1].loss) or (enough is not None and enough(scores[-1])):
                break
    return Learnt(epoch, updates, tuple(scores), tuple(at))


def batches(examples: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Give the numbers of the examples of every batch of an epoch, in an order drawn anew."""
    order = torch.randperm(examples, generator=generator)
    whole = examples - examples % size if examples >= size else examples
    yield from order[:whole].split(size)
