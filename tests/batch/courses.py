"""Courses as they would be by the law of diminishing returns, for tests."""

import math
from collections.abc import Mapping, Sequence

from unstuck.batch.course import Arm, Course, Trial

BEGAN = 1.0


def course(
    updates: Mapping[int, Sequence[float]],
    *,
    present: int,
    level: float = 0.1,
    rates: Mapping[int, float] | None = None,
) -> Course:
    """Give a course in which each size reaches `level` after so many updates, one number an order of the data.

    Args:
        updates: By size.
        present: The run's own size.
        level: Each branch falls exponentially from 1, and goes on for as long again.
        rates: Updates to the level for other half octaves of the rate, at the present size and on the first order.
    """
    trials = [
        trial(Arm(size, 0), order, count, level)
        for size, counts in updates.items()
        for order, count in enumerate([counts[0], *counts])
    ]
    trials += [trial(Arm(present, halves), 0, count, level) for halves, count in (rates or {}).items()]
    best = 0
    if rates and min(rates.values()) < updates[present][0]:
        best = min(rates, key=lambda halves: rates[halves])
    chosen = dict.fromkeys(updates, 0) | {present: best}
    if best:
        trials += [trial(Arm(present, best), 1 + n, rates[best], level) for n in range(3)]
    return Course(present, tuple(trials), chosen, span=1.0)


def trial(arm: Arm, order: int, count: float, level: float, *, steps: int = 4000) -> Trial:
    """A branch that reaches the level after `count` updates."""
    decay = -math.log(level / BEGAN) / count
    looks = sorted({0, *(round(1.1**power) for power in range(100) if 1.1**power <= steps)})
    return Trial(arm, order, tuple((step, BEGAN * math.exp(-decay * step)) for step in looks), lost=False)


def by_law(
    fewest: float, critical: float, sizes: Sequence[int], spread: Sequence[float]
) -> dict[int, list[float]]:
    """Updates by S(B) = S_min (1 + B_crit / B), times a factor for each order."""
    return {size: [fewest * (1.0 + critical / size) * factor for factor in spread] for size in sizes}
