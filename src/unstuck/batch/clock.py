"""Seconds per update against batch size, measured on this machine with this model."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.stats import binom

from unstuck.batch.copied import Copied, borrowed
from unstuck.batch.pool import Pool, Update
from unstuck.batch.records import Clock, Loading, Timing
from unstuck.errors import MeasurementError
from unstuck.objective import Objective, draw
from unstuck.objective.pace import now
from unstuck.objective.sampling import count_examples, iterate, one_line
from unstuck.training import Training

# Rounds of timing, each through all sizes in an order of its own: a machine that slows down slows all of them.
_FEWEST, _MOST = 5, 60

# A size is not gone on to where one update may take longer than this share of the time for timing.
_PATIENCE = 0.05

# What is predicted for an update's memory is the graph's, times this for gradients and intermediate results.
_MARGIN = 2.5

# Of the memory that is free.
_ROOM = 0.6

# The time per update has begun to grow where it is surely this much above the fastest.
GROWN = 1.1

_LEVEL = 0.95


@dataclass
class _Size:
    size: int
    update: Update
    memory: int
    seconds: list[float] = field(default_factory=list[float])


@dataclass(frozen=True)
class Patience:
    """What timing may take.

    Attributes:
        seconds: Altogether.
        memory: Bytes beyond what is in use.
        told: Is told which share is behind.
    """

    seconds: float
    memory: float
    told: Callable[[float], None]


class Stopwatch:
    """Times updates of each size, in turn, after a first one of each that does not count.

    Raises:
        MeasurementError: The model cannot be copied.
    """

    def __init__(self, training: Training, objective: Objective, pool: Pool, patience: Patience) -> None:
        self._copied = Copied(training, objective)
        self._copied.scale_rate(0.0)  # it stays where it is
        self._objective, self._pool, self._patience = objective, pool, patience
        self._found: list[_Size] = []
        self._limit = "it was interrupted"

    def run(self, sizes: Sequence[int]) -> None:
        """Time them, the smallest first.

        Sizes go up until the next update is predicted not to fit into memory or to try the user's patience, or there
        are no more examples. On a GPU it ends where there is no memory left.
        """
        with borrowed(self._objective):
            self._limit = _sizes(self._copied, self._pool, sizes, self._patience, self._found)
            _rounds(self._copied, self._found, self._patience)

    @property
    def known(self) -> Clock | None:
        """What is known by now; None where no size was timed often enough."""
        timings = tuple(_timing(each) for each in self._found if len(each.seconds) >= _FEWEST)
        if not timings:
            return None
        return Clock(
            timings=timings,
            grows_from=_growth(timings),
            limit=self._limit,
            threads=torch.get_num_threads(),
            device=str(self._copied.device),
        )


def measure_time(
    training: Training, objective: Objective, pool: Pool, sizes: Sequence[int], patience: Patience
) -> Clock:
    """Time updates of each size.

    Raises:
        MeasurementError: The model cannot be copied, or there was no size that it takes.
    """
    stopwatch = Stopwatch(training, objective, pool, patience)
    stopwatch.run(sizes)
    if (known := stopwatch.known) is None:
        msg = f"no update of {list(sizes)} examples could be timed"
        raise MeasurementError(msg)
    return known


def measure_loading(training: Training, *, seconds: float) -> Loading | None:
    """Time what the data take to give a batch; None where one batch is all there is.

    Raises:
        TrainingError: The data failed.
    """
    drawn = draw(_Timed(training.data, seconds), seed=0, enough=lambda _batches, _examples: False)
    (first, _), *rest = (batch.content for batch in drawn.batches)
    each = [spent / count for spent, count in rest]
    if not each:
        return None
    low, high = _interval(each)
    beside = bool(getattr(training.data, "num_workers", 0))
    return Loading(first=first, beside=beside, example=_median(each), low=low, high=high)


class _Timed:
    """Gives for each batch of the data the seconds that it took and its examples, for some seconds."""

    def __init__(self, data: Iterable[Any], seconds: float) -> None:
        self._data, self._seconds = data, seconds

    def __iter__(self) -> Iterator[tuple[float, int]]:
        begun = time.perf_counter()
        iterator = None
        while time.perf_counter() - begun < self._seconds:
            before = time.perf_counter()
            # A loader's iterator may have no length, which its truth would ask for.
            iterator = iterate(self._data) if iterator is None else iterator
            content = next(iterator, None)
            if content is None:
                return
            yield time.perf_counter() - before, count_examples(content)


def _sizes(copied: Copied, pool: Pool, sizes: Sequence[int], patience: Patience, found: list[_Size]) -> str:
    """Time an update of each, which is put to those `found`; gives the reason why there is no larger one."""
    for size in sizes:
        # The run's own size is timed whatever it takes: the run does take it.
        if found and size > pool.present and (limit := _too_much(found[-1], size, patience)):
            return limit
        try:
            found.append(_first(copied, pool, size))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return f"{size} examples do not fit into the device's memory"
        except Exception as error:
            # A stranger's model may want two examples at least, as BatchNorm does, or no more than so many.
            if size > pool.present:
                return f"with {size} examples the loss fails: {one_line(error)}"
            if size == pool.present:
                raise
    return f"no more than {pool.examples:,} examples were read"


def _too_much(last: _Size, size: int, patience: Patience) -> str:
    """Say why a larger size is not tried, by what the last one took; "" if it is."""
    needed = _MARGIN * last.memory * size / last.size
    if needed > _ROOM * patience.memory:
        return f"{size} examples would need about {needed / 2**30:.2g} GiB"
    seconds = min(last.seconds) * size / last.size
    if seconds > _PATIENCE * patience.seconds:
        return (
            f"an update of {size} examples may take {seconds:.2g} s: with a larger budget it would be timed"
        )
    return ""


def _first(copied: Copied, pool: Pool, size: int) -> _Size:
    made = _Size(size, _update(pool, size), 0)
    made.memory = copied.graph_bytes(made.update)
    copied.step(made.update)
    # Two, since what is next is judged by the shorter: another program may be met by either.
    made.seconds += [_timed(copied, made.update) for _ in range(2)]
    return made


def _timed(copied: Copied, update: Update) -> float:
    """Seconds of an update, until an accelerator has done it."""
    before = now(copied.device)
    copied.step(update)
    return now(copied.device) - before


def _update(pool: Pool, size: int) -> Update:
    if pool.take is None:
        count = max(round(size / pool.present), 1)
        return pool.update([row % len(pool.batches) for row in range(count)], 0)
    return pool.update([row % pool.examples for row in range(size)], 0)


def _rounds(copied: Copied, found: Sequence[_Size], patience: Patience) -> None:
    begun = time.perf_counter()
    turn = random.Random(0)  # noqa: S311 - an order, not a secret
    for number in range(_MOST):
        passed = time.perf_counter() - begun
        patience.told(min(passed / patience.seconds, 1.0))
        if number >= _FEWEST and passed > patience.seconds:
            return
        for each in turn.sample(list(found), len(found)):
            # Long updates need not be timed as often as short ones to be known as well.
            if len(each.seconds) > _FEWEST and sum(each.seconds) > patience.seconds / len(found):
                continue
            each.seconds.append(_timed(copied, each.update))


def _timing(each: _Size) -> Timing:
    low, high = _interval(each.seconds)
    return Timing(each.size, _median(each.seconds), low, high, int(_MARGIN * each.memory), len(each.seconds))


def _growth(timings: Sequence[Timing]) -> int | None:
    """The size from which time per update grows: from where all are surely above the fastest."""
    fastest = min(timing.high for timing in timings)
    grown = [timing.low > GROWN * fastest for timing in timings]
    flat = [index for index, yes in enumerate(grown) if not yes]
    after = flat[-1] + 1 if flat else 0
    return timings[after].size if after < len(timings) else None


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The median's interval whatever the law of the values: two of them, by rank (David & Nagaraja, 2003, 7.1)."""
    ordered, count = sorted(values), len(values)
    rank = max(int(binom.ppf(0.5 * (1.0 - _LEVEL), count, 0.5)), 0)
    return ordered[min(rank, count - 1)], ordered[max(count - 1 - rank, 0)]
