"""Batch sizes compared by branches: each with the rate that suits it, for equal time on the user's machine."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from unstuck.batch.branches import Branch, Brancher
from unstuck.batch.course import Arm, Course, Trial
from unstuck.batch.efficiency import suspected_rate, wrong_rate
from unstuck.batch.records import WrongRate
from unstuck.batch.scan import SCAN, SMALLER, Scan

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

# Rates are tried for so many updates of the run's own size; the first few favour large steps.
_SETTLED = 60

# Share of the time for branches that trying rates may take before sizes are compared. Where the run's looks wrong all
# of it is theirs; half where those from weights made anew are to come, which have a say in whether it is too large.
_SCANNING, _SUSPECTED = 0.4, 0.5

# From one pass to the next everything goes on this much longer.
_LONGER = 1.6

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

    Rates come first, at the run's own size: with one that is wrong there is no more to compare. The choice is made in
    passes, each longer than the one before, as long as time is left to judge as far.

    Args:
        make: Makes branches from where the run stands.
        anew: Makes branches from weights made anew; None where they cannot be.
        plan: What may be spent.
    """

    def __init__(self, make: Brancher, anew: Brancher | None, plan: Plan) -> None:
        self._make, self._plan, self._own = make, plan, plan.present
        self._scans = [Scan(make, SCAN), *([Scan(anew, SMALLER)] if anew else [])]
        # Those that choose, and those that judge.
        self._branches, self._judges = self._scans[0].branches, dict[tuple[Arm, int], Branch]()
        self._rates: dict[int, int] = {}
        self._span = 0.0
        self._passes = 0
        self._known: Course | None = None
        # What was gone on for, in seconds of the user's machine, and what that took here.
        self._gone = self._took = 0.0

    @property
    def known(self) -> Course | None:
        """What is known by now: as far as all that are compared have been gone on with."""
        return self._course() if self._judges else self._known

    def run(self, told: Callable[[float], None]) -> Course | None:
        """Give what was found; None where there was no time for anything."""
        whole = self._plan.left()

        def tell() -> None:
            told(1.0 - max(self._plan.left(), 0.0) / whole)

        self._try_rates(tell)
        if self._plan.left() <= 0.0 or self._suspected():
            return self._known  # nobody takes a size from a wrong rate
        span, reached = _FIRST * self._plan.seconds[self._own], 0.0
        while True:
            self._span = span
            if not self._through(self._stages(), tell):
                break
            self._passes, self._known, reached = self._passes + 1, self._course(), span
            if span >= _SETTLED * self._plan.seconds[self._own] and wrong_rate(self._known):
                return self._known
            if self._arrived() or self._plan.left() < self._judging(_LONGER * span) + self._next(span):
                break
            span *= _LONGER
        if self._known and self._passes:
            self._rates, self._span = dict(self._known.rates), min(reached, self._affordable())
            self._through(self._replicas(), tell)
        return self.known

    def _try_rates(self, tell: Callable[[], None]) -> None:
        """Try rates at the run's own size, from where it stands and from weights made anew."""
        whole = self._plan.left()
        for scan in self._scans:
            steps = 0
            while steps < _SETTLED:
                arms = scan.going_on(self._own)
                more = min(math.ceil(steps * _LONGER), _SETTLED) if steps else _FIRST
                cost = len(arms) * (more - steps) * self._plan.seconds[self._own] * self._pace
                if steps and self._plan.left() - cost < self._kept(scan) * whole:
                    break
                steps = more
                if not self._through(self._each(scan, arms, steps), tell):
                    return
                self._known = self._course()

    def _kept(self, scan: Scan) -> float:
        """Share of the time that is not for trying these rates."""
        wrong = self._suspected()
        if wrong is None:
            return 1.0 - _SCANNING
        return _SUSPECTED if wrong.factor < 1.0 and scan is not self._scans[-1] else 0.0

    def _suspected(self) -> WrongRate | None:
        return None if self._known is None else suspected_rate(self._known)

    def _each(self, scan: Scan, halves: Sequence[int], steps: int) -> Iterator[None]:
        for arm in (Arm(self._own, each) for each in halves):
            self._advance(scan.branch(arm, self._plan.seconds[arm.size]), steps)
            yield
        if scan is self._scans[0]:
            self._rates[self._own] = scan.best(self._own)

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
            self._branches[Arm(size, halves)].standing <= target for size, halves in self._rates.items()
        )

    def _replicas(self) -> Iterator[None]:
        for order in range(1, ORDERS):
            for size, halves in self._rates.items():
                branch = self._make(Arm(size, halves), order, self._plan.seconds[size])
                # One that the end of the time has cut short would look slow.
                if self._advance(branch, self._steps(size)):
                    branch.validate()
                    self._judges[branch.arm, order] = branch
                yield

    def _stages(self) -> Iterator[None]:
        own, scanned = self._own, self._scans[0].going_on(self._own)
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
            self._advance(self._scans[0].branch(arm, self._plan.seconds[size]), self._steps(size))
            yield
        best = min(arms, key=lambda arm: (self._branches[arm].standing, arm.halves))
        self._rates[size] = best.halves

    def _steps(self, size: int) -> int:
        """Updates that a span has time for."""
        return max(round(self._span / self._plan.seconds[size]), 1)

    def _advance(self, branch: Branch, steps: int) -> bool:
        begun, before = time.perf_counter(), branch.steps
        done = branch.advance(steps, self._over)
        self._took += time.perf_counter() - begun
        self._gone += (branch.steps - before) * self._plan.seconds[branch.arm.size]
        return done

    def _over(self) -> bool:
        return self._plan.left() <= 0.0

    def _far_behind(self, size: int) -> bool:
        seconds = self._plan.seconds
        trials = [self._trial(self._branches[Arm(*each)]) for each in self._rates.items()]
        level = min(trial.at(0.5 * self._span / seconds[trial.arm.size]) for trial in trials)
        times = {trial.arm.size: trial.reached(level) * seconds[trial.arm.size] for trial in trials}
        return times[size] > _FAR_BEHIND * min(times.values())

    def _trial(self, branch: Branch, order: int = 0) -> Trial:
        return Trial(branch.arm, order, tuple(branch.looks), branch.lost, branch.validation)

    def _course(self) -> Course:
        chosen, *anew = ([self._trial(each) for each in scan.branches.values()] for scan in self._scans)
        judged = [self._trial(branch, order) for (_, order), branch in self._judges.items()]
        rates = dict(self._rates)
        return Course(
            self._own, (*chosen, *judged), rates, self._span, tuple(each for one in anew for each in one)
        )
