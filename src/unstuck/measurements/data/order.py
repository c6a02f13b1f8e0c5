"""The order that the data come in: whether batches are exchangeable, and what it costs if they are not."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, WeightedRandomSampler

from unstuck.errors import MeasurementError, TrainingError
from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.bill import Claim, unlimited
from unstuck.measurements.data.collating import Take, pooled
from unstuck.measurements.data.exchangeability import most_structured
from unstuck.measurements.judging import Judge
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.records import Order, Reordered, Structure
from unstuck.objective import Batch, Objective, draw
from unstuck.objective import ledger as price
from unstuck.objective.sampling import count_examples, iterate, tensors, total_bytes
from unstuck.training import Training

# Fewer examples than this have no order that could be told from chance.
_FEWEST = 16

# The stream is read as far as the sample goes, then on while this many seconds and bytes last.
_SECONDS, _BYTES = 1.0, 2**26

# Two passes are compared by so many of their first batches.
_COMPARED = 8

# Steps of each continuation: two passes over the data, and at most these steps and gradients over the sample.
_PASSES, _MOST_STEPS, _GRADIENTS = 2, 256, 2.0

# The loss swings with the order, so it is looked at so many times in the last half of the steps ...
_LOOKS = 6

# ... on so many batches, that together are this share of the sample, but of so many examples at least.
_JUDGES, _JUDGING, _FEWEST_JUDGED = 16, 0.25, 128


# The loss of every judging batch at every look.
_Looks = list[list[float]]


def measure_order(training: Training, judge: Judge, *, claim: Claim = unlimited) -> Order:
    """Test whether the batches could have been drawn at random, and measure what shuffling gains if not.

    Costs no evaluation where they could, else about six gradients over the judge's sample, and several times as many
    over one of a few examples only, if `claim` allows that.

    Raises:
        MeasurementError: There is no order to speak of, or the batches hold no numbers for each example.
    """
    order, stream = _looked_at(training, len(judge.objective.batches))
    reordered, reason = _reordered_if(order.structure, training, judge, stream, claim)
    return replace(order, reordered=reordered, reason=reason)


def look_at_order(training: Training, fewest: int) -> Order:
    """Test whether the batches could have been drawn at random, from `fewest` batches or more; evaluates nothing.

    Raises:
        MeasurementError: There is no order to speak of, or the batches hold no numbers for each example.
    """
    return _looked_at(training, fewest)[0]


def _looked_at(training: Training, fewest: int) -> tuple[Order, "_Stream"]:
    stream = _read(training, fewest)
    sizes = stream.sizes
    if len(sizes) < 2:  # noqa: PLR2004
        msg = "all examples come in one batch: there is no order"
        raise MeasurementError(msg)
    if sum(sizes) < _FEWEST:
        msg = f"{sum(sizes)} examples are too few to tell an order from chance"
        raise MeasurementError(msg)
    order = Order(
        examples=sum(sizes),
        batches=len(sizes),
        whole=stream.whole,
        source=_source(training.data),
        repeated=stream.repeated,
        structure=most_structured([batch.content for batch in stream.batches], sizes),
    )
    return order, stream


@dataclass(frozen=True)
class _Stream:
    batches: tuple[Batch, ...]
    whole: bool
    repeated: bool | None

    @property
    def sizes(self) -> list[int]:
        return [batch.examples for batch in self.batches]


class _Passes:
    """Gives the batches of one pass, then the first ones of a second, each with the number of its pass.

    Between them comes -1, with whether the first pass saw all data.
    """

    def __init__(self, data: Iterable[Any], fewest: int) -> None:
        self._data = data
        self._fewest = fewest

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        deadline, room, whole = time.perf_counter() + _SECONDS, float(_BYTES), True
        for number, content in enumerate(iterate(self._data)):
            room -= total_bytes(content)
            if number >= self._fewest and (room < 0.0 or time.perf_counter() > deadline):
                whole = False
                break
            yield 0, content
        yield -1, whole
        for number, content in enumerate(iterate(self._data)):
            if number == _COMPARED:
                break
            yield 1, content


def _read(training: Training, fewest: int) -> _Stream:
    try:
        drawn = draw(_Passes(training.data, fewest), seed=0, enough=_never)
    except TrainingError as error:  # data that can be iterated once only, or fails further on
        msg = f"two passes over the data failed: {error}"
        raise MeasurementError(msg) from error
    passes: dict[int, list[Batch]] = {-1: [], 0: [], 1: []}
    for batch in drawn.batches:
        turn, content = batch.content
        passes[turn].append(Batch(content, count_examples(content), batch.seed))
    first, second = passes[0], passes[1]
    return _Stream(tuple(first), bool(passes[-1][0].content), _same(first, second))


def _same(first: Sequence[Batch], second: Sequence[Batch]) -> bool | None:
    """Whether the passes begin with the same numbers; None where there are none to compare."""
    pairs = list(zip(first, second, strict=False))
    if not any(any(True for _ in tensors(batch.content)) for batch in second):
        return None
    return all(_equal(one.content, other.content) for one, other in pairs)


def _never(batches: int, examples: int) -> bool:
    del batches, examples
    return False


def _equal(one: Any, other: Any) -> bool:
    """Whether two contents hold the same numbers."""
    first, second = list(tensors(one)), list(tensors(other))
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, second, strict=True)
    )


def _source(data: object) -> str:
    if isinstance(data, list | tuple):
        return "list"
    if not isinstance(data, DataLoader):
        return "other"
    loader = cast("DataLoader[Any]", data)
    samplers = [loader.sampler, getattr(loader.sampler, "sampler", None), loader.batch_sampler]
    samplers.append(getattr(loader.batch_sampler, "sampler", None))
    if any(isinstance(sampler, RandomSampler | WeightedRandomSampler) for sampler in samplers):
        return "shuffled"
    return "sequential" if any(isinstance(one, SequentialSampler) for one in samplers) else "other"


def _reordered_if(
    structure: Structure, training: Training, judge: Judge, stream: _Stream, claim: Claim
) -> tuple[Reordered | None, str]:
    if not structure.suspicious:
        return None, "the batches look like ones drawn at random"
    if training.optimizer is None:
        return None, "without an optimizer there are no steps to compare"
    try:
        return _reordered(training, training.optimizer, judge, stream, claim), ""
    except (MeasurementError, TrainingError) as error:
        return None, str(error)


def _reordered(
    training: Training, optimizer: Optimizer, judge: Judge, stream: _Stream, claim: Claim
) -> Reordered:
    """Go on in the order as given and with the examples shuffled, and look at both on the same batches."""
    sizes, ledger = stream.sizes, judge.objective.ledger
    take = pooled([batch.content for batch in stream.batches], sizes)
    generator = torch.Generator().manual_seed(1)
    judged = _judging(take, sizes, judge.objective.examples, generator)
    steps = _steps(stream, judge.objective.examples)
    marks = sorted({steps - (steps // 2) * turn // _LOOKS for turn in range(_LOOKS)})
    early = [mark - steps // 2 for mark in marks]
    looks_at = 1 + len({*marks, *early}) + len(marks)
    stepped = 2 * steps * price.GRADIENT * sum(sizes) / len(sizes)
    looked = looks_at * price.VALUE * sum(batch.examples for batch in judged)
    claim((stepped + looked) / judge.objective.examples)
    judging = Objective(training, judged, ledger=ledger)
    given = Objective(training, stream.batches[:steps], ledger=ledger)
    shuffled = Objective(training, _shuffled(take, stream, steps, generator), ledger=ledger)
    base = judging.values(judging.theta)
    first, *looks = (
        *_looks(given, optimizer, judging, early, marks),
        *_looks(shuffled, optimizer, judging, marks),
    )
    if not all(math.isfinite(value) for arm in looks for look in arm for value in look):
        msg = "a continuation left the finite numbers"
        raise MeasurementError(msg)
    weights = judging.weights
    means = [tuple(weighted_mean(look, weights).value for look in arm) for arm in looks]
    unsteady = [weighted_mean(losses, [1.0] * len(marks)) for losses in means]
    if stream.whole and steps == _PASSES * len(sizes):
        # The looks go once through the whole order, and their spread is the swing itself, not an error.
        unsteady[0] = Estimate(0.0, 0.0)
    return Reordered(
        steps=steps,
        epochs=steps / len(sizes),
        loss=weighted_mean(base, weights).value,
        given_loss=math.fsum(means[0]) / len(marks),
        given_gain=_mean(_less([base] * len(marks), looks[0]), weights, unsteady[0]),
        shuffled_gain=_mean(_less([base] * len(marks), looks[1]), weights, unsteady[1]),
        trend=_mean(_less(first, looks[0]), weights),
        extra=_mean(_less(looks[0], looks[1]), weights, *unsteady),
        marks=tuple(marks),
        given=means[0],
        shuffled=means[1],
    )


def _steps(stream: _Stream, examples: int) -> int:
    """How many steps each continuation may make; beyond what was read the order is not known."""
    affordable = int(_GRADIENTS * examples * len(stream.batches) / sum(stream.sizes))
    known = len(stream.batches) * (_PASSES if stream.whole else 1)
    return max(min(_MOST_STEPS, affordable, known), 2)


def _judging(take: Take, sizes: Sequence[int], examples: int, generator: torch.Generator) -> list[Batch]:
    """Batches of examples drawn from all that was read."""
    total = sum(sizes)
    wanted = min(max(int(_JUDGING * examples), _FEWEST_JUDGED), total)
    rows = torch.randperm(total, generator=generator)[:wanted]
    parts = rows.chunk(max(_JUDGES, wanted // max(sizes)))
    return [Batch(take(part), len(part), seed=10_000 + turn) for turn, part in enumerate(parts)]


def _shuffled(take: Take, stream: _Stream, steps: int, generator: torch.Generator) -> list[Batch]:
    """The same examples in random order, in batches of the same sizes under the same seeds."""
    sizes = stream.sizes
    batches: list[Batch] = []
    while len(batches) < steps:
        rows = torch.randperm(sum(sizes), generator=generator).split(sizes)
        batches += [
            Batch(take(part), batch.examples, batch.seed)
            for part, batch in zip(rows[: steps - len(batches)], stream.batches, strict=False)
        ]
    return batches


def _looks(arm: Objective, optimizer: Optimizer, judging: Objective, *marks: Sequence[int]) -> list[_Looks]:
    """Go on, and look at the loss after so many steps as each of `marks` says."""
    twin, looks = Twin(arm, optimizer), dict[int, list[float]]()
    for taken in range(1, max(map(max, marks)) + 1):
        displacement = twin.step([(taken - 1) % len(arm.batches)])
        if any(taken in wanted for wanted in marks):
            looks[taken] = judging.values(judging.theta + displacement)
    return [[looks[mark] for mark in wanted] for wanted in marks]


def _less(before: _Looks, after: _Looks) -> _Looks:
    return [
        [one - other for one, other in zip(early, late, strict=True)]
        for early, late in zip(before, after, strict=True)
    ]


def _mean(looks: _Looks, weights: Sequence[float], *unsteady: Estimate) -> Estimate:
    """Mean over looks and batches; its error is that over the batches and that of what is `unsteady`."""
    over_batches = weighted_mean([math.fsum(each) / len(looks) for each in zip(*looks, strict=True)], weights)
    errors = [error for error in (over_batches, *unsteady) if error.stderr > 0.0]
    stderr = math.hypot(*(error.stderr for error in errors))
    return Estimate(over_batches.value, stderr, min((error.degrees for error in errors), default=math.inf))
