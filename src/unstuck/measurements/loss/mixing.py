"""Whether outputs follow their examples, when two of these trade places in their batch."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unstuck import processes
from unstuck.errors import MeasurementError
from unstuck.estimate import weighted_mean
from unstuck.measurements.data.collating import Take, pooled
from unstuck.measurements.judging import Judge
from unstuck.measurements.loss.outputs import free_end
from unstuck.measurements.loss.tape import constants, reorders, tail, trace
from unstuck.measurements.records.mixing import Mixing
from unstuck.objective import Batch
from unstuck.objective.sampling import alike, mapped, tensors
from unstuck.training import Training

# Pairs that trade places, one at a time; each costs a third of one batch's gradient.
_SWAPS = 16

# Or as many as take this share of the time that is left.
_SHARE = 0.03

# With fewer examples two of them are most of the batch.
_FEWEST = 8

# What changes by less than so many times the rounding of an output is rounding.
_ROUNDING = 100.0

# Sums over a batch are rounded otherwise in another order.
_FOLLOWS = 1.0 - 1e-6


def measure_mixing(
    training: Training, judge: Judge, *, seed: int, seconds: float = math.inf
) -> Mixing | None:
    """Let two examples of a batch trade places, inputs and targets, and see which outputs change.

    A step on a batch is the mean of what its examples ask for, so that it must not matter where in the batch they
    stand: outputs trade places with their examples, and no other changes. That holds for batch normalisation and for
    losses that compare examples with each other, too. It does not where a reshape in the place of a permute, or a
    recurrent layer that takes the first dimension for time, hands one example's numbers to another's output. Random
    numbers are the same for every place.

    Args:
        training: Whose batches they are.
        judge: Its first batch is looked at.
        seed: Of which examples trade places.
        seconds: That are left for all measurements.

    Returns:
        None where nothing can be mixed: outputs are the same for all inputs, or all targets are the same.

    Raises:
        MeasurementError: Examples, or outputs and targets, cannot be told apart.
    """
    batch = _chosen(judge)
    trading = _Trading(training, judge, batch, seed)
    end = processes.clock() + _SHARE * seconds
    found: list[_Change] = []
    for change in trading.changes():
        found.append(change)
        if processes.clock() > end:
            break
    if not found:
        return None
    if not all(change.follows for change in found):
        if trading.follow_along_the_second(len(found)):
            msg = "examples stand along the second dimension"
            raise MeasurementError(msg)
        if _relates(judge.objective.batches):
            msg = "a square of all examples, as of a graph's edges, says what each is to each other"
            raise MeasurementError(msg)
    even = [1.0] * len(found)
    return Mixing(
        weighted_mean([change.own for change in found], even),
        weighted_mean([change.first for change in found], even),
        len(found),
        batch.examples,
    )


def _chosen(judge: Judge) -> Batch:
    batches = judge.objective.batches
    batch = batches[judge.halves.finds[0]]
    if alike(batches[0], batches[-1]):  # where the loss is random, batches may come twice side by side
        msg = "one batch is all the data there is: its examples may be parts of one whole"
        raise MeasurementError(msg)
    if batch.examples < _FEWEST:
        msg = f"a batch of {batch.examples} examples is too small to see which outputs change"
        raise MeasurementError(msg)
    return batch


@dataclass(frozen=True)
class _Seen:
    """Outputs and targets as they met, a row of one for a row of the other; `given` are outputs in their shape."""

    given: Tensor
    outputs: Float[Tensor, "rows _"]
    targets: tuple[Float[Tensor, "rows _"], ...]


@dataclass(frozen=True)
class _Change:
    own: float
    first: float

    @property
    def follows(self) -> bool:
        return self.own > _FOLLOWS


Pair = tuple[int, int]


class _Trading:
    """One batch, again and again, with two of its examples in each other's places."""

    def __init__(self, training: Training, judge: Judge, batch: Batch, seed: int) -> None:
        self._training, self._objective, self._batch = training, judge.objective, batch
        self._generator = torch.Generator().manual_seed(seed)
        self._heeded: bool | None = None

    def changes(self) -> Iterator[_Change]:
        """Let pairs trade places; those without any difference in their targets say nothing."""
        take = pooled([self._batch.content], [self._batch.examples])
        return self._traded(self._batch.examples, take, 1)

    def follow_along_the_second(self, most: int) -> bool:
        """Whether all is as it should be if examples are told apart by the second dimension, as in (time, batch).

        So many pairs are asked as along the first one.
        """
        sizes = {tensor.shape[1] for tensor in tensors(self._batch.content) if tensor.ndim > 1}
        if len(sizes) != 1:
            return False
        count = sizes.pop()

        def take(rows: Int[Tensor, " rows"]) -> Any:
            def leaf(item: Any) -> Any:
                columns = isinstance(item, Tensor) and item.ndim > 1
                return item.detach()[:, rows.to(item.device)] if columns else item

            return mapped(self._batch.content, leaf)

        try:
            found = list(itertools.islice(self._traded(count, take, 2), most))
        except MeasurementError:
            return False
        return bool(found) and all(change.follows for change in found)

    def _traded(self, count: int, take: Take, dimensions: int) -> Iterator[_Change]:
        before = self._seen(self._batch.content, dimensions)
        for pair in self._pairs(count):
            rows = torch.arange(count)
            rows[list(pair)] = torch.tensor(pair[::-1])
            after = self._seen(take(rows), dimensions)
            if (own := _own(before, after, pair, count)) is None:
                continue
            if _moves(before, after):
                _check_first(before, after, pair, count)
                yield _change(before, after, own)
            elif _alike(before) and self._heed(before, take, rows, dimensions):
                yield _Change(0.0, 0.0)  # outputs of whoever is in the batch, and the same for all

    def _heed(self, before: _Seen, take: Take, rows: Int[Tensor, " rows"], dimensions: int) -> bool:
        """Whether outputs change at all, if an example is left out for another, say; asked once."""
        if self._heeded is None:
            twice = torch.where(rows == torch.arange(len(rows)), rows, int(rows.max()))
            self._heeded = _moves(before, self._seen(take(twice), dimensions))
        return self._heeded

    def _pairs(self, count: int) -> Iterator[Pair]:
        order = torch.randperm(count, generator=self._generator).tolist()
        for number in range(min(_SWAPS, count * (count - 1) // 2)):
            yield order[number % count], order[(number + 1 + number // count) % count]

    def _seen(self, content: Any, dimensions: int) -> _Seen:
        traced = trace(self._training, self._objective, replace(self._batch, content=content))
        free, _ = free_end(tail(traced))
        given = free.present()[0]
        calls = [free.tape.calls[index] for index in free.calls]
        meeting = [call for call in calls if free.starts[0] in call.uses]
        targets = [
            tensor for call in meeting for tensor in constants(free.tape, call) if not reorders(tensor)
        ]
        # In as many dimensions as these have in common; more would tell the parts of one example apart.
        common = [_common(given.shape, tensor.shape, dimensions) for tensor in targets]
        rows = math.prod(given.shape[: min((length for length in common if length), default=0)])
        flat = [t.reshape(rows, -1) for t, length in zip(targets, common, strict=True) if length]
        if not flat or not bool(given.isfinite().all()):
            msg = "the loss does not show which output belongs to which example"
            raise MeasurementError(msg)
        return _Seen(given, given.reshape(rows, -1).double(), tuple(tensor.double() for tensor in flat))


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """In how many dimensions, from the first on, two shapes agree."""
    pairs = zip(one[:most], other[:most], strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _relates(batches: Sequence[Batch]) -> bool:
    """Whether a tensor is a square of all examples in every batch; in one, features may be as many by chance."""
    squares = [
        [tuple(tensor.shape) == (batch.examples, batch.examples) for tensor in tensors(batch.content)]
        for batch in batches
    ]
    return any(all(square) for square in zip(*squares, strict=False))


def _own(before: _Seen, after: _Seen, pair: Pair, count: int) -> Bool[Tensor, " rows"] | None:
    """Give the rows of the two, if their targets differ."""
    shapes = [[tensor.shape for tensor in (seen.outputs, *seen.targets)] for seen in (before, after)]
    if shapes[0] != shapes[1]:
        msg = "outputs are of another shape when examples trade places"
        raise MeasurementError(msg)
    pairs = zip(before.targets, after.targets, strict=True)
    changed = torch.stack([(one != other).any(1) for one, other in pairs]).any(0)
    return _places(changed, pair, count) if bool(changed.any()) else None


def _moves(before: _Seen, after: _Seen) -> bool:
    """Whether outputs change by more than rounding."""
    return not _rounding(after.outputs - before.outputs, before.outputs)


def _alike(seen: _Seen) -> bool:
    """Whether outputs are the same for all: of a few examples they may be, where most units are dead."""
    return _rounding(seen.outputs - seen.outputs[:1], seen.outputs)


def _rounding(change: Float[Tensor, "rows _"], outputs: Float[Tensor, "rows _"]) -> bool:
    rounding = _ROUNDING * torch.finfo(torch.float32).eps
    return float(change.norm()) <= rounding * float(outputs.norm())


def _check_first(before: _Seen, after: _Seen, pair: Pair, count: int) -> None:
    """Make sure that it is not the second dimension by which outputs follow their examples, as those of CTC do.

    Raises:
        MeasurementError: It is, and the first one is as long by chance.
    """
    if before.given.ndim < 2 or before.given.shape[1] != count:  # noqa: PLR2004 - there is no second one
        return
    changes = (after.given - before.given).square().transpose(0, 1).flatten(1).sum(1)
    if float(changes[list(pair)].sum()) > _FOLLOWS * float(changes.sum()):
        msg = "outputs stand along the second dimension, and targets along the first"
        raise MeasurementError(msg)


def _change(before: _Seen, after: _Seen, own: Bool[Tensor, " rows"]) -> _Change:
    changes = (after.outputs - before.outputs).square().sum(1)
    ours, most = float(changes[own].sum()), float(changes.topk(int(own.sum())).values.sum())
    return _Change(ours / float(changes.sum()), ours / most)


def _places(changed: Bool[Tensor, " rows"], pair: Pair, count: int) -> Bool[Tensor, " rows"]:
    """Give all rows of the two, also those where their targets agree by chance, as where both are padded.

    Each example's rows follow each other, or stand as far apart as there are examples.
    """
    rows = torch.arange(len(changed), device=changed.device)
    if len(rows) % count:
        return changed
    for example in (rows // (len(rows) // count), rows % count):
        theirs = (example == pair[0]) | (example == pair[1])
        if not bool((changed & ~theirs).any()):
            return theirs
    return changed
