"""What the time of trials is spent on: how many remedies, how far, and over how many orders."""

import math

from unstuck.errors import UnstuckError
from unstuck.remedies.catalogue import MOST

# With less than this nothing shows that a remedy does, and with less than that not much.
_LEAST_STEPS, _SHORT = 12, 40

# Orders of the proof. With fewer than three the interval of Student's law says hardly anything.
ORDERS, FEWEST_ORDERS = 6, 3

# Remedies and orders, of which time allows for one or the other: better few that are followed for long enough.
_PLANS = ((MOST, ORDERS), (6, 4), (4, FEWEST_ORDERS))

# Remedies in the proof. Each more widens the intervals of all.
PROVED = 3

# A look at the held batches may cost this share of a continuation.
LOOK = 0.15

# A gradient takes longer at times than when it is timed, and a proof that is not brought to its end is none.
_MARGIN = 1.5

# What one step of a continuation takes, in gradients of one batch: that, and looks at the loss on the way.
DEARER = _MARGIN * (1.0 + 6.0 * LOOK)

# Proof counts with this many full continuations; the screening with about two thirds of one for each remedy.
_SCREENING = 0.67


def shortest(gradient: float) -> float:
    """Seconds that the shortest trials take where one batch's gradient takes so many."""
    remedies, orders = _PLANS[-1]
    return _LEAST_STEPS * _continuations(remedies, orders) * DEARER * gradient


def _continuations(remedies: int, orders: int) -> float:
    """Full continuations of the run that it takes to screen so many remedies and to prove the best."""
    return _SCREENING * (remedies + 2) + (PROVED + 1) * orders


def plan(room: float, wished: int) -> tuple[float, int, int]:
    """How many batches each continuation may take, how many remedies are tried, and over how many orders.

    Args:
        room: How many batches all continuations together may take.
        wished: How many are enough for one.

    Raises:
        UnstuckError: There is not the time for a few steps of each.
    """
    steps, remedies, orders = 0.0, 0, 0
    for remedies, orders in _PLANS:
        steps = room / _continuations(remedies, orders)
        if steps >= min(wished, _SHORT):
            break
    if steps < _LEAST_STEPS:
        time = f"time for {steps:.0f} steps of each only" if steps >= 1.0 else "no time for it"
        msg = f"there is {time}: give a larger budget"
        raise UnstuckError(msg)
    return float(min(wished, math.floor(steps))), remedies, orders


def provable(left: float, each: float) -> int:
    """How many remedies can be proved in the seconds that are left, where one continuation takes `each`.

    One that is proved tells more than three that come to an end on too few orders.
    """
    return max(1, min(int(left / (FEWEST_ORDERS * each)) - 1, PROVED))
