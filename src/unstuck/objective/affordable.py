"""As many batches as time and memory allow, and all of them where they are hardly more."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from unstuck import journal, processes
from unstuck.objective.sampling import Batch, Draw, alike, draw, tensors, total_bytes

Over = Callable[[], bool]

# Half of these judge; with fewer the standard error over batches is hardly known.
FEWEST_BATCHES = 16

# With fewer than three on either side there is hardly any standard error at all.
_BARELY = 6

# Where all the data are no more than so many times what time allows for, they are all taken.
_NEARLY_ALL = 3.0

# But of more batches than this no more are needed: 256 find and 256 judge, and the error of a mean over those is a
# sixteenth of the scatter. Batches of one or two examples cost more than their share of the time, too.
_MOST_BATCHES = 512


def fewest(affordable: float) -> int:
    """How many batches are drawn at least where time allows for so many: a few, which no haste makes fewer."""
    return int(min(max(affordable, _BARELY), FEWEST_BATCHES))


def affordable(
    data: Iterable[Any], *, seed: int, most: float, room: float, least: int = FEWEST_BATCHES
) -> Draw:
    """Draw at least a few batches, else so many examples, within so many bytes.

    Args:
        data: A DataLoader, a list, or whatever else can be iterated.
        seed: Of the global generators.
        most: Examples that time allows for.
        room: Bytes for the sample.
        least: Batches to draw at least, if there are as many.

    Raises:
        TrainingError: The data gave no batch, or failed.
    """
    first = draw(data, seed=seed, enough=lambda batches, _: batches >= 1)
    size = processes.agreed(float(total_bytes(first.batches[0].content)))
    count = processes.agreed(count_of(data))

    def enough(batches: int, examples: int) -> bool:
        # All the data, if they are not much more: then nothing is left to sampling error.
        all_of_them = count <= _MOST_BATCHES and examples * count / batches <= _NEARLY_ALL * most
        affordable_only = batches >= least and examples >= most and not all_of_them
        return affordable_only or batches >= _MOST_BATCHES or batches * size > room

    return _as_before(draw(data, seed=seed, enough=enough), data, seed)


def further(
    sample: Sequence[Batch], data: Iterable[Any], *, seed: int, most: int, room: float, until: Over
) -> tuple[Batch, ...]:
    """Draw again, past a sample that was drawn with this seed, and give what comes behind it.

    None come where other data come the second time: the sample might be among them.

    Args:
        sample: What was drawn first.
        data: Where from.
        seed: Of that draw.
        most: Batches to give, at most.
        room: Bytes for them.
        until: Whether time is over.
    """
    known, size = len(sample), max(processes.agreed(float(total_bytes(sample[0].content))), 1.0)
    wanted = known + min(most, max(int(processes.least(room) / size), 0))
    if wanted == known:
        return ()
    drawn = draw(
        data, seed=seed, enough=lambda batches, _: batches >= wanted or (batches > known and until())
    )
    drawn = _as_before(drawn, data, seed)
    same = len(drawn.batches) > known and alike(drawn.batches[known - 1], sample[-1])
    return drawn.batches[known:] if processes.every(true=same) else ()


def _as_before(drawn: Draw, data: Iterable[Any], seed: int) -> Draw:
    """Draw as many as the run that is gone on with did, whose clock was another one."""
    held = journal.current()
    if held is None:
        return drawn
    first = drawn.batches[0].content
    key = held.turn(f"sample {journal.digest(first, list(tensors(first)), seed)}")
    count = int(held.numbers(key, lambda: len(drawn.batches)))
    if count == len(drawn.batches):
        return drawn
    return draw(data, seed=seed, enough=lambda batches, _: batches >= count)


def count_of(data: Any) -> float:
    """How many batches there are, if the data know; else infinity."""
    try:
        return float(len(data))
    except (TypeError, NotImplementedError):
        return math.inf
