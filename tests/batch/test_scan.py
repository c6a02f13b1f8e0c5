"""Rates side by side: none is given up for being slow only because it is smaller."""

import math
from dataclasses import dataclass, field

from unstuck.batch.compare import Comparison, Plan
from unstuck.batch.course import Arm, standing
from unstuck.batch.efficiency import wrong_rate
from unstuck.batch.records import LONG
from unstuck.batch.scan import SCAN, Scan


@dataclass
class Falling:
    """A branch that falls as fast as its rate, down to a floor that its noise leaves, which grows with the rate."""

    arm: Arm
    looks: list = field(default_factory=lambda: [(0, 1.0)])

    @property
    def standing(self):
        return standing(self.looks)

    def advance(self, steps):
        made = range(self.looks[-1][0] + 1, steps + 1)
        factor = self.arm.factor
        self.looks += [(step, max(math.exp(-0.01 * factor * step), 0.02 * factor)) for step in made]


def scanned(*lengths):
    scan = Scan(lambda arm, _order, _seconds: Falling(arm), SCAN)
    for steps in lengths:
        for halves in scan.going_on(32):
            scan.branch(Arm(32, halves), 1.0).advance(steps)
    return scan


def test_a_rate_that_leads_at_first_and_then_stalls_is_not_the_best():
    early, late = scanned(8), scanned(8, 13, 21, 34, 55, 60)
    assert Arm(32, early.best(32)).factor == 16.0
    assert Arm(32, late.best(32)).factor == 4.0
    assert late.branches[Arm(32, 4)].looks[-1][0] == 60


def test_what_is_far_behind_and_far_below_the_best_is_given_up():
    scan = scanned(8, 13)
    assert -10 not in scan.going_on(32)
    assert scan.branches[Arm(32, -10)].looks[-1][0] == 8


def compared(rate_off, left):
    """What comes of so many updates for all rates, if the best is so many times the run's, and what is left."""

    @dataclass
    class Run(Falling):
        lost = False
        validation = None

        @property
        def steps(self):
            return self.looks[-1][0]

        def advance(self, steps, over):
            nonlocal left
            left -= steps - self.steps
            factor = self.arm.factor / rate_off
            made = range(self.steps + 1, steps + 1)
            self.looks += [(step, 1.0 - 0.005 * step * factor * (2.0 - factor)) for step in made]
            return not over()

    comparison = Comparison(
        lambda arm, _order, _seconds: Run(arm), None, Plan({32: 1.0}, 32, None, lambda: left)
    )
    comparison.run(lambda _share: None)
    return comparison.known, left


def test_a_rate_that_looks_wrong_is_followed_for_as_long_as_it_takes_to_be_sure():
    known, left = compared(16.0, 400)
    assert wrong_rate(known).after >= LONG
    assert 0 < left < 0.5 * 400
    assert {trial.arm.size for trial in known.trials} == {32}  # and then no size is tried with it
