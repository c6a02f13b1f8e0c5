"""The run continued on a copy: as before, and with one change each, on the same batches in the same order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.errors import TrainingError
from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.optimizer.schedule import Schedule, updates_per_schedule_step
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.records import Arm, Continuations, Sample
from unstuck.measurements.records.continuations import descending
from unstuck.objective import Batch

# What an arm may cost, in gradients over the sample, its looks at the loss apart: several passes over small data
# show what one noisy pass does not.
_ARM_COST = 4.0

# Fewest and most steps of an arm. Fewer show nothing of momentum; more than some hundred batches show a trend
# whatever the noise.
_FEWEST, _MOST = 6, 400

# When the sample is but a part of the data, what is trained on is passed over at most so often: an optimizer that
# sees the same batches many times learns them by heart, which it would not do in the real run.
_PASSES = 2.0

# Batches beyond the sample that are asked for: with the half that finds enough for one pass of an arm.
FURTHER = 56

# How often the loss is looked at on the way: three looks a half tell a trend from wandering. Of the others only the
# gain is asked, over the last half.
_LOOKS, _LATER = 6, 3

# In random order so many losses fall from each to the next once in 120 times.
_STEADILY = 5

# Fewer batches tell too little of how their losses scatter from pass to pass.
_FEWEST_PAIRS = 8

# A prime that lies further apart than seeds of batches do.
_ANEW = 1_000_003

# Learning rates to try, beside the present one. Rates further up are tried while they gain ever more; where even ten
# times the rate gains next to nothing, with longer strides.
_LOWER, _HIGHER, _HIGHEST = (0.1, 0.01), 10.0, 1e7
_NEXT_TO_NOTHING = 1e-3

# Steps on the gradient of the whole sample.
_WHOLE_STEPS = 6

# The other rates need not be tried once going on gains this share of the loss: a run that does so within its few
# passes does not creep, whatever they would gain (CREEPS in findings/progress.py), and gets far in twenty passes.
_PLENTY = 0.25

# The share of the loss below which a run creeps (as in findings/progress.py).
_CREEPS = 0.1


@dataclass(frozen=True)
class Pace:
    """How long the arms may be.

    Attributes:
        gradients: What all arms together may cost, in gradients over the sample.
        over: Whether the time is over.
        furthest: How many times the present step the best one along -g is: far below that, higher rates gain
            nothing yet.
    """

    gradients: float
    over: Callable[[], bool]
    furthest: float = 1.0


@dataclass(frozen=True)
class Beyond:
    """What the run sees of its data beyond the sample.

    Attributes:
        batches: Some of them, to train on.
        count: How many batches an epoch has in all; infinity where that is unknown.
    """

    batches: Sequence[Batch] = ()
    count: float = math.inf


Explained = Callable[[Continuations], bool]


_NOTHING = Beyond()


def _unexplained(found: Continuations) -> bool:
    """Try everything."""
    del found
    return False


def measure_continuations(
    optimizer: Optimizer,
    judge: Judge,
    sample: Sample,
    pace: Pace,
    explained: Explained = _unexplained,
    *,
    beyond: Beyond = _NOTHING,
) -> Continuations:
    """Go on from here on copies of parameters and optimizer.

    Each arm makes the same number of steps on the same batches in the same order, so that gains are compared
    batch by batch. Where the sample is all the data, it is trained and judged on all of it, as the run is;
    where it is a part, on the half that finds and what there is beyond the sample, and judged on the half that
    judges, which is trained on as often as the run itself comes to each of its batches: what is never seen is
    forgotten, as what the run sees is not. Where it can be told when the run's schedule makes a step, the rates are
    what it sets, times the arm's factor, but no lower than the present ones: whether those are too low is what is
    asked, and where a schedule comes to its end no multiple of what it sets would answer it.

    Gains are those of the loss that the run reports. What weight decay adds to it falls by itself as weights shrink,
    and would hide that nothing else does: it is told apart.

    Args:
        optimizer: Of the run.
        judge: Compares losses.
        sample: What the judge's batches are.
        pace: How long it may take.
        explained: Is asked, once it is known what going on gains, whether no other steps could change the answer.
        beyond: What there is beyond the sample.
    """
    return _Race(optimizer, judge, sample, pace, beyond).run(explained)


class _Race:
    def __init__(
        self, optimizer: Optimizer, judge: Judge, sample: Sample, pace: Pace, beyond: Beyond
    ) -> None:
        everything = tuple(range(len(judge.base)))
        self._decayed, judge = judge.objective, judge.bare
        if sample.whole:
            halves = Halves(everything, everything, exhaustive=sample.exhaustive)
            judge = Judge(judge.objective, halves, judge.base, judge.floor)
        self._judge, self._optimizer, self._pace = judge, optimizer, pace
        self._whole = sample.whole
        training = judge.objective.replay.training
        # A schedule that is not followed need not be copied: a stranger's may hold anything.
        followed = updates_per_schedule_step(training) is not None
        self._training = training if followed else replace(training, scheduler=None)
        self._objective = judge.objective.beyond(beyond.batches)
        self._finds = judge.halves.finds
        trained = (*self._finds, *range(len(judge.base), len(self._objective.batches)))
        share = math.fsum(judge.objective.weights[index] for index in self._finds)
        passes = min(_ARM_COST, pace.gradients / 4.0) / share
        steps = round(passes * len(self._finds))
        steps = steps if sample.whole else min(steps, round(_PASSES * len(trained)))
        steps = min(max(steps, _FEWEST), _MOST)
        judges = [] if sample.whole else [index for index in everything if index not in self._finds]
        order = _interleaved(trained, judges, steps, len(judges) / beyond.count)
        self._order = self._anew(order, sample)
        self._whole_order = self._anew(list(self._finds) * _WHOLE_STEPS, sample)
        self._passes = steps / len(trained)
        self._arms: list[Arm] = []
        self._base: list[float] = []

    def _anew(self, order: list[int], sample: Sample) -> list[int]:
        """Where the loss is random let each step draw anew, as the run's own steps do.

        What is drawn once and for all is learnt by heart within a few passes, which no run does.
        """
        if not sample.stochastic:
            return order
        known = len(self._objective.batches)
        again = [
            replace(batch, seed=batch.seed + _ANEW * (known + number))
            for number, batch in enumerate(self._objective.batches[index] for index in order)
        ]
        self._objective = self._objective.beyond(again)
        return list(range(known, known + len(order)))

    def run(self, explained: Explained) -> Continuations:
        going_on = self._arm("going on", 1.0)
        if not explained(self._found()):
            self._try_others(going_on)
        return self._found()

    def _found(self) -> Continuations:
        return Continuations(tuple(self._arms), self._passes)

    def _try_others(self, going_on: Arm) -> None:
        """Higher rates for a run that might creep, calmer steps for one that does not surely fall."""
        loss = self._judge.scale()
        steadily = descending(going_on.losses)
        falls = going_on.gain.surely_above(0.0) and (steadily or going_on.trend.surely_above(0.0))
        if falls and going_on.gain.value > _PLENTY * loss:
            return
        # Where the loss jumps about, steps are not too small: calmer ones come first, as time may be over after them.
        jumps = not falls and _wander(going_on.losses) > _CREEPS * loss
        if jumps:
            self._calm(going_on)
        if not going_on.gain.surely_below(0.0) and not self._pace.over():
            self._raise(going_on, _NEXT_TO_NOTHING * loss)
        # A run that creeps is asked for both: its steps may be too small, or so large that it gets down by chance.
        creeps = going_on.gain.value <= _CREEPS * loss
        if not jumps and (not falls or (creeps and going_on is self._best())):
            self._calm(going_on, whole=not falls)

    def _calm(self, going_on: Arm, *, whole: bool = True) -> None:
        """Try steps on all the sample, for nothing else tells too large from noisy ones, and lower rates."""
        if whole and len(self._finds) > 1 and not self._pace.over():
            self._arm("whole", 1.0)
        self._lower(going_on)

    def _best(self) -> Arm:
        return max(self._arms, key=lambda arm: arm.gain.value)

    def _raise(self, going_on: Arm, little: float) -> None:
        """Try ever higher rates while they gain ever more."""
        best, factor = going_on.gain.value, _HIGHER
        while factor <= max(_HIGHEST, self._pace.furthest) and not self._pace.over():
            arm, nearer = self._arm("rate", factor), self._nearer(factor)
            nothing = abs(arm.gain.value) <= little
            if not arm.gain.value > best and not (nothing and nearer > 1.0):
                break
            best = max(best, arm.gain.value)
            factor *= max(_HIGHER**2, nearer) if nothing else _HIGHER

    def _nearer(self, factor: float) -> float:
        """Times how much a rate that gains next to nothing comes within three decades of the best step along -g."""
        away = self._pace.furthest / factor / _HIGHER**3
        return _HIGHER ** math.floor(math.log10(away)) if away > 1.0 else 1.0

    def _lower(self, going_on: Arm) -> None:
        """Try ever lower rates while they gain ever more."""
        best = going_on.gain.value
        for factor in _LOWER:
            if self._pace.over():
                break
            arm = self._arm("rate", factor)
            if not arm.gain.value > best:
                break
            best = arm.gain.value

    def _arm(self, name: str, factor: float) -> Arm:
        whole = name == "whole"
        size = len(self._finds) if whole else 1
        order = self._whole_order if whole else self._order
        batches = [order[first : first + size] for first in range(0, len(order), size)]
        twin = Twin(self._objective, self._optimizer)
        schedule, present = Schedule(self._training, twin), twin.rates()
        marks = _marks(len(batches), all_of_them=not self._arms)
        looks: list[list[float]] = []
        penalties: list[float] = []
        slopes: list[float] = []
        values: list[float] = []
        theta = self._judge.objective.theta
        moved: Tensor | None = torch.zeros_like(theta)
        for number, only in enumerate(batches, start=1):
            with twin.scaled(factor, present):
                moved = None if moved is None else _stepped(twin, only, first=number == 1)
            schedule.step()
            slopes.append(math.inf if moved is None else twin.slope)
            values.append(math.inf if moved is None else twin.value)
            if number in marks:
                looks.append(self._look(theta, moved))
                penalties.append(math.inf if moved is None else self._decayed.penalty(theta + moved))
        shrunk = self._decayed.penalty(theta) - math.fsum(penalties[-_LATER:]) / _LATER
        arm = replace(self._judged(name, factor, looks, slopes, values, shrunk), led=schedule.led)
        self._arms.append(arm)
        return arm

    def _look(self, theta: Float[Tensor, " n"], moved: Float[Tensor, " n"] | None) -> list[float]:
        """Look at the loss; one that fails far off must not fail at the point itself."""
        if moved is not None:
            try:
                return self._judge.look(theta + moved)
            except TrainingError:
                self._judge.objective.values(theta, self._judge.halves.judges[:1])
        return [math.inf] * len(self._judge.base)

    def _judged(
        self,
        name: str,
        factor: float,
        looks: Sequence[Sequence[float]],
        slopes: list[float],
        values: list[float],
        shrunk: float,
    ) -> Arm:
        judge = self._judge
        later, earlier = looks[-_LATER:], looks[:-_LATER]
        judged = [judge.judged(look) for look in (judge.base, *looks)]
        # Looks that each lie below the one before tell of a fall, however it bends, and of no wandering.
        steadily = len(judged) >= _STEADILY and descending(judged)
        end = [math.fsum(column) / len(later) for column in zip(*later, strict=True)]
        if not self._base:
            self._base = end
        other = Judge(judge.objective, judge.halves, self._base)
        wander = 0.0 if steadily else _wander(judged[-_LATER:])
        begin = [math.fsum(column) / len(earlier) for column in zip(*earlier, strict=True)]
        unsteady = math.hypot(wander, _wander([judge.judged(look) for look in earlier]))
        return Arm(
            name,
            factor,
            steps=len(values),
            gain=_widened(judge.gain(end), wander),
            trend=_widened(Judge(judge.objective, judge.halves, begin).gain(end), unsteady),
            extra=_widened(other.gain(end), wander if len(self._arms) else 0.0),
            shrunk=shrunk,
            marks=(0, *sorted(_marks(len(values), all_of_them=not self._arms))),
            losses=tuple(judged),
            values=tuple(values),
            slopes=tuple(slopes),
            paired=None if name == "whole" or not self._whole else self._paired(values),
        )

    def _paired(self, values: Sequence[float]) -> Estimate | None:
        count = len(self._finds)
        last = (len(values) // count - 1) * count
        if last < count or count < _FEWEST_PAIRS:
            return None
        pairs = zip(values[:count], values[last : last + count], strict=True)
        return weighted_mean(
            [before - after for before, after in pairs],
            [self._judge.objective.weights[index] for index in self._finds],
        )


def _stepped(twin: Twin, only: Sequence[int], *, first: bool) -> Float[Tensor, " n"] | None:
    """Give the displacement after one more step; None once the run is thrown out for good."""
    try:
        moved = twin.step(only)
    except TrainingError:
        # Far off some losses raise where others give NaN; at the point itself it is the user's own error.
        if first:
            raise
        twin.objective.values(twin.objective.theta, only)
        return None
    return moved if twin.objective.space.finite(moved) else None


def _interleaved(many: Sequence[int], few: Sequence[int], steps: int, share: float) -> list[int]:
    """Go through the many in turn, and at such a share of the steps, evenly spread, through the few."""
    order: list[int] = []
    of_few = 0
    for number in range(1, steps + 1):
        if few and round(number * share) > of_few:
            order.append(few[of_few % len(few)])
            of_few += 1
        else:
            order.append(many[(number - 1 - of_few) % len(many)])
    return order


def _marks(steps: int, *, all_of_them: bool) -> set[int]:
    looks = range(1, _LOOKS + 1) if all_of_them else (2, *range(_LOOKS - _LATER + 1, _LOOKS + 1))
    return {math.ceil(steps * look / _LOOKS) for look in looks}


def _wander(losses: Sequence[float]) -> float:
    """Standard error of the mean of losses on the way, from the differences of neighbours: a trend is no error."""
    steps = [after - before for before, after in pairwise(losses)]
    if not steps or not all(map(math.isfinite, steps)):
        return 0.0 if not steps else math.inf
    middle = math.fsum(steps) / len(steps)
    # The steps' own mean is the trend; what is left of them has twice the variance of one look.
    left = math.hypot(*(step - middle for step in steps)) / math.sqrt(2.0 * max(len(steps) - 1, 1))
    return left / math.sqrt(len(losses))


def _widened(gain: Estimate, wander: float) -> Estimate:
    """Add what the looks wander by; it rests on two differences a half."""
    degrees = gain.degrees if wander <= gain.stderr else min(gain.degrees, 2.0 * _LOOKS / 3.0)
    return Estimate(gain.value, math.hypot(gain.stderr, wander), degrees)
