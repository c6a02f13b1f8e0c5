"""The examples of a training, to be put together in batches of any size."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.utils.data import DataLoader

from unstuck.errors import MeasurementError
from unstuck.measurements.data.collating import Take, pooled
from unstuck.objective import Batch, Draw, Objective, draw
from unstuck.objective.sampling import total_bytes
from unstuck.training import Training

# The mean of the gradients of two halves is the gradient of the whole to this relative error, where examples do not
# meet within a batch: a hundred times the rounding of a sum in float32.
_SEPARABLE = 1e-3

# That is seen on so many examples as well as on more: the more they are, the less has each to do with another.
_TOGETHER = 16

Update = tuple[Batch, ...]


@dataclass(frozen=True)
class Pool:
    """Examples taken from the training's own data.

    Attributes:
        batches: As the data gave them.
        whole: Whether these are all the data.
        total: How many examples all the data hold; None where that is not known.
        take: Gives the examples of some numbers as one batch; None where the batches cannot be taken apart.
        reason: Why not.
    """

    batches: tuple[Batch, ...]
    whole: bool
    total: int | None
    take: Take | None
    reason: str = ""

    @property
    def examples(self) -> int:
        """How many there are."""
        return sum(batch.examples for batch in self.batches)

    @cached_property
    def present(self) -> int:
        """The size that most batches have."""
        sizes = [batch.examples for batch in self.batches]
        return max(sizes, key=sizes.count)

    @property
    def unit(self) -> int:
        """The smallest size that updates can have, and what larger ones are multiples of."""
        return 1 if self.take else self.present

    def sizes(self, most: int) -> list[int]:
        """Give the sizes that are asked about: the present one times and over powers of two, none above `most`."""
        ways = range(-30, 31)
        every = {self.present * 2**way if way >= 0 else self.present / 2**-way for way in ways}
        whole = {round(size) for size in every if size >= 1.0}
        return sorted(size for size in whole if self.unit <= size <= max(most, self.present))

    def update(self, rows: Sequence[int], seed: int) -> Update:
        """Give the batches of one update: one, or where batches cannot be taken apart several to be averaged.

        Args:
            rows: Numbers of the examples, or of the batches where `unit` is not 1.
            seed: Of the batch's dropout.
        """
        if self.take is None:
            chosen = (self.batches[row] for row in rows)
            return tuple(Batch(each.content, each.examples, seed + n) for n, each in enumerate(chosen))
        return (Batch(self.take(torch.as_tensor(rows)), len(rows), seed),)

    def order(self, size: int, seed: int) -> Iterator[Update]:
        """Give updates of `size` without end: pass after pass, each in a random order of its own.

        For one seed the examples come in the same order whatever the size.
        """
        items = self.examples if self.take else len(self.batches)
        each = size if self.take else max(round(size / self.present), 1)
        drawn = torch.Generator().manual_seed(seed)
        rows: list[int] = []
        made = 0
        while True:
            while len(rows) < each:
                rows += torch.randperm(items, generator=drawn).tolist()
            yield self.update(rows[:each], seed + made)
            del rows[:each]
            made += each


class Pieces(Sequence[Batch]):
    """Some examples of a pool in batches of one size, but for a smaller last one; each is made when it is asked for.

    Args:
        pool: Of batches that can be taken apart.
        rows: Numbers of the examples.
        size: Of a batch.
    """

    def __init__(self, pool: Pool, rows: Sequence[int], size: int = 1) -> None:
        self._pool, self._rows = pool, rows
        self.size = size

    @property
    def full(self) -> int:
        """How many have the size."""
        return len(self._rows) // self.size

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self.size)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Batch]: ...

    def __getitem__(self, index: int | slice) -> Batch | Sequence[Batch]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return self._pool.update(self._of(numbers), numbers)[0]

    def together(self, numbers: Sequence[int]) -> Batch:
        """Give several as one batch."""
        rows = [row for number in numbers for row in self._of(number)]
        return self._pool.update(rows, numbers[0])[0]

    def _of(self, number: int) -> Sequence[int]:
        return self._rows[number * self.size : (number + 1) * self.size]


def read(training: Training, *, seed: int, room: float, enough: Callable[[int, int], bool]) -> Pool:
    """Read the training's data until there is enough, or no more room.

    Raises:
        TrainingError: The data gave no batch, or failed.
    """
    held = 0.0

    def full(batches: int, examples: int) -> bool:
        return enough(batches, examples) or held * batches > room

    held = float(total_bytes(draw(training.data, seed=seed, enough=lambda n, _: n >= 1).batches[0].content))
    return of(training, draw(training.data, seed=seed, enough=full))


def of(training: Training, drawn: Draw) -> Pool:
    """Pool the examples of a draw."""
    batches = drawn.batches
    take: Take | None = None
    reason = ""
    try:
        take = pooled([batch.content for batch in batches], [batch.examples for batch in batches])
    except MeasurementError as error:
        reason = str(error)
    total = drawn.examples if drawn.exhausted else _length(training)
    return Pool(batches, drawn.exhausted, total, take, reason)


def _length(training: Training) -> int | None:
    data = training.data
    if not isinstance(data, DataLoader):
        return None
    try:
        return len(data.dataset)  # type: ignore[arg-type]  # what has no length says so
    except (TypeError, NotImplementedError):
        return None


def separable(pool: Pool, objective: Objective) -> bool:
    """Whether a batch's gradient is the mean of its examples'; not so with BatchNorm or in-batch negatives."""
    training = objective.replay.training
    normalized = any(
        isinstance(module, _BatchNorm | nn.SyncBatchNorm) and module.training
        for module in training.model.modules()
    )
    if normalized or pool.take is None or pool.examples < 2:  # noqa: PLR2004
        return False
    if objective.stochastic:
        return True  # another dropout for each half: nothing to compare
    rows = list(range(min(pool.present, pool.examples, _TOGETHER) // 2 * 2))
    if not rows:
        rows = [0, 1]
    half = len(rows) // 2
    with objective.replay.session():
        whole, first, second = (
            objective.replay.gradient(pool.update(part, 0)[0], objective.theta)[1].double()
            for part in (rows, rows[:half], rows[half:])
        )
    return float((whole - 0.5 * (first + second)).norm()) <= _SEPARABLE * float(
        torch.maximum(first.norm(), second.norm())
    )
