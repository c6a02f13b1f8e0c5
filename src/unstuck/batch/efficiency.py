"""What the branches say of batch sizes: updates and time to a loss, and the law that they follow. Pure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import fdtri, stdtrit

from unstuck.batch.course import Course, Trial
from unstuck.batch.records import Fit, Option, WrongRate
from unstuck.estimate import Estimate, weighted_mean

_LEVEL = 0.95

# Critical sizes that are asked about, as multiples of the smallest and of the largest size: beyond, S(B) is flat or
# falls in proportion, and any further one would fit as well.
_BELOW, _ABOVE, _GRID = 0.03, 30.0, 400

# A rate is wrong beyond this many half octaves: half-way, in octaves, between what still tells the right size (2
# times off) and what no longer does (20 times off; the noise scale is then wrong by as much).
_WRONG = 5

# Of a rate too large less is enough: what it has left behind makes rates near it look good from there. Rates 20 times
# too large came out 2 to 9 times so, those twice too large at most twice.
_TOO_LARGE = 4

# The run's own rate may be tuned to so many half octaves, that is to twice as much or half: in what is wrong with it
# these are not told apart.
_ALIKE = 2

# A rate is wrong if the best one gets in this share of the updates to where the run's own comes at last.
_SURELY_FASTER = 0.5

# Of rates that come to a loss in hardly more updates, a quarter more, the lowest is the one to take.
_HARDLY_MORE = 1.25

# A loss that is higher by no more than this share is none the worse (Merrill et al., 2025, section 3.1).
TOLERANCE = 0.01


def level_of(course: Course, target: float | None) -> float | None:
    """Give the loss that sizes are compared by: the target, or the lowest that half of the sizes have come to.

    None where not even the best has gained anything.
    """
    worst = {size: max(trial.end for trial in course.at(size)) for size in course.rates}
    ends = sorted(worst.values())
    if target is not None and target >= ends[0]:
        return target
    level = ends[(len(ends) - 1) // 2]
    began = max(trial.looks[0][1] for trial in course.trials)
    return level if level < began else None


def options(
    course: Course, level: float, seconds: Mapping[int, float], found: Fit | None
) -> tuple[Option, ...]:
    """Give what each size comes to that was tried."""
    made: list[Option] = []
    for size in sorted(course.rates):
        trials = course.at(size)
        updates = updates_to(trials, level)
        made.append(
            Option(
                size=size,
                factor=trials[0].arm.factor,
                updates=updates,
                seconds=None if updates is None else updates / (1.0 / seconds[size]),
                predicted=None if found is None else found.updates(size),
                loss=_mean([trial.looks[-1][1] for trial in trials]),
                validation=_mean([trial.validation for trial in trials]),
            )
        )
    return tuple(made)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and all(map(math.isfinite, known)) else None


def updates_to(trials: Sequence[Trial], level: float) -> Estimate | None:
    """Give the mean over orders of the updates to a loss; None where most of them did not get there.

    One that did not counts with the updates that it made, since most others needed fewer.
    """
    counts = [math.inf if trial.lost else trial.reached(level) for trial in trials]
    if 2 * sum(map(math.isfinite, counts)) <= len(counts):
        return None
    made = [trial.looks[-1][0] for trial in trials]
    known = [
        count if math.isfinite(count) else float(steps) for count, steps in zip(counts, made, strict=True)
    ]
    return weighted_mean(known, [1.0] * len(known))


def best_rate(trials: Sequence[Trial]) -> float:
    """Give the multiple of the run's rate that is the one to take of those tried; see `_least`."""
    return _least(trials).arm.factor


def alike(halves: int) -> bool:
    """Whether so many half octaves are hardly another rate than the run's own."""
    return -_ALIKE <= halves <= _ALIKE


def _near(halves: int) -> bool:
    return -_TOO_LARGE < halves < _WRONG


def wrong_rate(course: Course) -> WrongRate | None:
    """Say how wrong the run's rate is; None where it is not, or not surely, or was not followed for long enough."""
    found = suspected_rate(course)
    return found if found is not None and found.settled else None


def suspected_rate(course: Course) -> WrongRate | None:
    """Say how wrong the run's rate is by what is known of it, however few updates; None where it looks right.

    It is wrong where, from where the run stands, the best rate is far from it and much better.
    That a rate is too large is to hold for weights made anew as well: near the end of a run any rate is too large to
    be gone on with. For those alone it holds where they overtake all that goes on from where the run stands: what the
    rate has done to the weights is then worse than nothing, and from them the best rate says little.
    """
    anew = _wrong(course.anew, anew=True)
    if anew is not None and anew.factor < 1.0 and _overtaken(course):
        return anew
    found = _wrong(course.scanned(), anew=False)
    if found is not None and found.factor < 1.0 and course.anew and _near(_best(course.anew).arm.halves):
        return None
    return found


def _best(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=lambda trial: (trial.standing, abs(trial.arm.halves)))


def _least(trials: Sequence[Trial]) -> Trial:
    """Give the best; of rates above the run's own the lowest that comes in hardly more updates to where it comes."""
    best = _best(trials)
    between = [trial for trial in trials if 0 < trial.arm.halves < best.arm.halves]
    return min(
        (trial for trial in between if not trial.lost and _hardly_slower(trial, best)),
        key=lambda trial: trial.arm.halves,
        default=best,
    )


def _hardly_slower(one: Trial, best: Trial) -> bool:
    level = one.standing
    return one.reached(level) <= _HARDLY_MORE * best.reached(level)


def _overtaken(course: Course) -> bool:
    """Whether weights made anew come lower than all that goes on from where the run stands, at as many updates."""
    best = _best(course.anew)
    return all(trial.lost or best.standing < trial.at(float(best.updates)) for trial in course.scanned())


def _wrong(trials: Sequence[Trial], *, anew: bool) -> WrongRate | None:
    """Whether the best of the rates is far from the run's own, and much better."""
    own = [trial for trial in trials if alike(trial.arm.halves)]
    if not own:
        return None
    best, other = _least(trials), _best(own)
    if _near(best.arm.halves) or best.lost or best.lowest >= best.looks[0][1]:
        return None
    after = math.inf if other.lost else float(min(best.updates, other.updates))
    if other.standing >= other.looks[0][1]:
        return WrongRate(best.arm.factor, best.lowest, best.reached(best.lowest), math.inf, anew, after)
    updates = best.reached(other.standing)
    if updates >= _SURELY_FASTER * other.updates:
        return None
    return WrongRate(best.arm.factor, other.standing, updates, float(other.updates), anew, after)


def fit(course: Course, level: float) -> Fit | None:
    """Fit the law of diminishing returns (McCandlish et al., 2018, equation 2.11) to updates to a loss.

    By least squares of logarithms over all orders and sizes; the interval is where the sum of squares is not
    surely larger than at its lowest (F test). None with fewer than three sizes.
    """
    points = [
        (float(trial.arm.size), trial.reached(level))
        for size in course.rates
        for trial in course.at(size)
        if not trial.lost and 0.0 < trial.reached(level) < math.inf
    ]
    sizes = np.array([size for size, _ in points])
    if len(set(sizes.tolist())) < 3:  # noqa: PLR2004 - two numbers are fitted
        return None
    counts = np.log([count for _, count in points])
    criticals = np.geomspace(_BELOW * sizes.min(), _ABOVE * sizes.max(), _GRID)
    shapes = np.log1p(criticals[:, None] / sizes)
    rests = counts - shapes
    means = rests.mean(1)
    squares = ((rests - means[:, None]) ** 2).sum(1)
    best = int(squares.argmin())
    degrees = len(points) - 2
    allowed = squares[best] * (1.0 + float(fdtri(1.0, degrees, _LEVEL)) / degrees)
    inside = np.flatnonzero(squares <= allowed)
    low, high = int(inside[0]), int(inside[-1])
    return Fit(
        critical=float(criticals[best]),
        low=0.0 if low == 0 else float(criticals[low]),
        high=math.inf if high == _GRID - 1 else float(criticals[high]),
        fewest=float(math.exp(means[best])),
    )


def lossless(course: Course) -> int | None:
    """Give the largest size that loses nothing at equal examples against the run's own.

    Each larger size up to the first that does, by Student's law over the orders, which are paired.
    """
    own = course.at(course.present)
    kept = course.present
    for size in sorted(size for size in course.rates if size > course.present):
        pairs = [
            _at_equal_examples(one, other)
            for one, other in zip(own, course.at(size), strict=False)
            if one.order == other.order
        ]
        if len(pairs) < 2:  # noqa: PLR2004 - no spread
            return kept
        rises = weighted_mean([_rise(below, above) for below, above in pairs], [1.0] * len(pairs))
        margin = -float(stdtrit(rises.degrees, 1.0 - _LEVEL)) * rises.stderr
        if rises.value - margin > TOLERANCE:
            return kept
        kept = size
    return kept


def _at_equal_examples(one: Trial, other: Trial) -> tuple[float, float]:
    """The losses of both at the most examples that both have seen."""
    seen = min(trial.looks[-1][0] * trial.arm.size for trial in (one, other))
    first, second = (trial.at(seen / trial.arm.size) for trial in (one, other))
    return first, second


def _rise(below: float, above: float) -> float:
    return (above - below) / (abs(below) or 1.0)
