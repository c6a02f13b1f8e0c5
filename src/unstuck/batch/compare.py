"""Batch sizes compared by branches: each with the rate that suits it, for equal time on the user's machine."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from unstuck.batch.branches import Branch, Brancher
from unstuck.batch.efficiency import wrong_rate
from unstuck.batch.records import Arm, Course, Trial

# Half octaves of the run's rate that are tried at its own size: far enough to see a rate that is twenty times off.
SCAN = tuple(range(-10, 11, 2))

# Half octaves beside the best rate known so far, or that of the neighbouring size, that are tried at each size. The
# best one grows with the size in proportion at most, and not at all where the curvature bounds it (McCandlish et al.,
# 2018, equation 2.7). There the number of updates goes with the inverse rate, so that later passes look more closely.
COARSE, FINE = (-2, 0, 2), (-1, 0, 1)

# Passes that look coarsely.
_COARSELY = 2

# Orders of the data: one to choose on, three to judge on; with fewer an interval says hardly anything.
ORDERS = 4

# What the first pass gives each branch: so many updates of the run's own size.
_FIRST = 8

# After so many updates of the run's own size a wrong rate is believed; the first few favour large steps.
_SETTLED = 60

# From one pass to the next everything goes on this much longer.
_LONGER = 1.6

# A rate that is behind the best by more than this share of what that has gained is not gone on with.
_BEHIND = 0.5

# A size that takes this many times as long as the best to the same loss is not gone beyond.
_FAR_BEHIND = 3.0


@dataclass(frozen=True)
class Plan:
    """What the branches may take.

    Attributes:
        seconds: Of an update of each size, on the user's machine.
        present: The run's own size.
        target: Where the run wants to get; None: as far as the time allows.
        left: Seconds that are left for them.
    """

    seconds: Mapping[int, float]
    present: int
    target: float | None
    left: Callable[[], float]


class Comparison:
    """All sizes side by side: first rates and sizes are chosen on one order of the data, then judged on others.

    The choice is made in passes, each longer than the one before, as long as time is left to judge as far.
    """

    def __init__(self, make: Brancher, plan: Plan) -> None:
        self._make, self._plan = make, plan
        self._branches: dict[tuple[Arm, int], Branch] = {}
        self._rates: dict[int, int] = {}
        self._span = 0.0
        self._passes = 0
        # What was gone on for, in seconds of the user's machine, and what that took here.
        self._gone = self._took = 0.0

    def run(self, told: Callable[[float], None]) -> Course | None:
        """Give what was found; None where there was no time for a pass and its judgement."""
        whole = self._plan.left()

        def tell() -> None:
            told(1.0 - max(self._plan.left(), 0.0) / whole)

        span, rates, reached = _FIRST * self._plan.seconds[self._plan.present], None, 0.0
        while True:
            self._span = span
            if not self._through(self._stages(), tell):
                break
            self._passes += 1
            rates, reached = dict(self._rates), span
            if span >= _SETTLED * self._plan.seconds[self._plan.present] and wrong_rate(self._course()):
                return self._course()  # nobody takes a size from it
            if self._arrived() or self._plan.left() < self._judging(_LONGER * span) + self._next(span):
                break
            span *= _LONGER
        if rates is None:
            return None
        self._rates, self._span = rates, min(reached, self._affordable())
        self._through(self._replicas(), tell)
        return self._course()

    def _through(self, stages: Iterator[None], tell: Callable[[], None]) -> bool:
        """Whether all was done before the time was over."""
        for _ in stages:
            tell()
            if self._plan.left() <= 0.0:
                return False
        return True

    def _next(self, span: float) -> float:
        """Seconds that the next pass takes, roughly."""
        arms = len(COARSE) * len(self._rates) + len(SCAN) // 2
        return arms * (_LONGER - 1.0) * span * self._pace

    def _judging(self, span: float) -> float:
        """Seconds that judging takes to a span."""
        return (ORDERS - 1) * len(self._rates) * span * self._pace

    def _affordable(self) -> float:
        """How far the time that is left lets all be judged."""
        return max(self._plan.left(), 0.0) / max((ORDERS - 1) * len(self._rates) * self._pace, 1e-9)

    @property
    def _pace(self) -> float:
        return self._took / self._gone if self._gone else 1.0

    def _arrived(self) -> bool:
        target = self._plan.target
        return target is not None and all(
            self._standing(Arm(size, halves)) <= target for size, halves in self._rates.items()
        )

    def _replicas(self) -> Iterator[None]:
        for order in range(1, ORDERS):
            for size, halves in self._rates.items():
                self._advance(Arm(size, halves), order)
                self._branches[Arm(size, halves), order].validate()
                yield

    def _stages(self) -> Iterator[None]:
        own = self._plan.present
        scanned = [halves for halves in SCAN if self._goes_on(Arm(own, halves))]
        yield from self._at(own, scanned if self._passes < _COARSELY else [*scanned, *self._near(own, 0)])
        sizes = sorted(self._plan.seconds)
        up = [size for size in sizes if size > own]
        down = [size for size in reversed(sizes) if size < own]
        for way in (up, down):
            halves = self._rates[own]
            for size in way:
                yield from self._at(size, self._near(size, halves))
                halves = self._rates[size]
                if self._far_behind(size):
                    break

    def _near(self, size: int, neighbour: int) -> list[int]:
        """Give the rates to try at a size."""
        near = COARSE if self._passes < _COARSELY else FINE
        return [self._rates.get(size, neighbour) + beside for beside in near]

    def _at(self, size: int, rates: Sequence[int]) -> Iterator[None]:
        """Find the best rate of a size on one order, and go on with it on the others."""
        arms = [Arm(size, halves) for halves in dict.fromkeys(rates)]
        for arm in arms:
            self._advance(arm, 0)
            yield
        best = min(arms, key=lambda arm: (self._standing(arm), arm.halves))
        self._rates[size] = best.halves

    def _advance(self, arm: Arm, order: int) -> None:
        branch = self._branches.get((arm, order))
        if branch is None:
            branch = self._branches[arm, order] = self._make(arm, order)
        begun, before = time.perf_counter(), branch.steps
        each = self._plan.seconds[arm.size]
        branch.advance(max(round(self._span / each), 1), self._over)
        self._took += time.perf_counter() - begun
        self._gone += (branch.steps - before) * each

    def _over(self) -> bool:
        return self._plan.left() <= 0.0

    def _standing(self, arm: Arm) -> float:
        return self._branches[arm, 0].standing

    def _goes_on(self, arm: Arm) -> bool:
        branch = self._branches.get((arm, 0))
        if branch is None:
            return True
        best = min(
            self._standing(each) for each, order in self._branches if each.size == arm.size and order == 0
        )
        gained = branch.looks[0][1] - best
        return self._standing(arm) <= best + _BEHIND * gained

    def _far_behind(self, size: int) -> bool:
        trials = [trial for trial in self._course().best() if trial.order == 0]
        level = min(trial.after(0.5) for trial in trials)
        times = {
            trial.arm.size: trial.reached(level) * self._plan.seconds[trial.arm.size] for trial in trials
        }
        return times[size] > _FAR_BEHIND * min(times.values())

    def _course(self) -> Course:
        trials = [
            Trial(arm, order, tuple(branch.looks), branch.lost, branch.validation)
            for (arm, order), branch in self._branches.items()
        ]
        return Course(self._plan.present, tuple(trials), dict(self._rates), self._span)
