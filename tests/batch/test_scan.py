"""Rates side by side: none is given up for being slow only because it is smaller."""

import math
from dataclasses import dataclass, field

from unstuck.batch.records import Arm, standing
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
