r"""Whether the loss of a running training has stopped improving, and since when.

*Stalled* is a statement about how little is still gained, not a failure to see a gain: the upper confidence bound of
what the loss falls *while the number of steps doubles* lies below 2 % of its level, and below 10 % of what it fell
since the beginning where it surely did; of a run of fewer than a thousand steps, what the next thousand would gain at
this pace. That is an equivalence test (Schuirmann, J. Pharmacokinet. Biopharm. 15,
1987): a short or noisy run is not called stalled for want of data. Both bounds scale with the loss; the second one
sees that 2 % of a loss with a great offset (100 and a small part) may be all there is to learn.

The fall per doubling is fitted over the last quarter, half, three quarters and more of the run (`gains`): a
long run need not stand still for half its age, a noisy one may have to for longer. It is fitted to batches of two
lengths and the higher bound counts, since where shorter batches are correlated the longer ones scatter more than the
shorter ones let expect.

Looks are geometrically spaced. Look $k = 0, 1, \ldots$ spends $\alpha E / ((k + E)(k + E + 1))$ of $\alpha$ = 5 %,
which sums to $\alpha$ over any number of looks, and divides it among the windows (Bonferroni; Lan & DeMets,
Biometrika 70, 1983): no more than 5 % of the runs that always fall faster ever get an alarm, however long they are.
What is measured stands in `benchmarks/results/stalls.md`. The bound rests on noise that `gains` sees through; slow
noise under much white noise, on a run that gains hardly more than the bound, may take more.

A rise of the learning rate may raise the loss of a healthy run. A window therefore begins well after the last rise,
or is compared whole cycle by whole cycle where the rate goes up and down (`blocks`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from unstuck.estimate import Estimate
from unstuck.measurements.records.live import LEAST_OF_LEVEL, PACE_ERRORS
from unstuck.watching.losses.blocks import END, Blocks, estimate, mean
from unstuck.watching.losses.gains import FEWEST, Curve, bounded, gains, slope
from unstuck.watching.losses.lows import LAST, LOWER, stood_half_as_high, stood_lower

# Chance that a run that falls faster than the bounds below is ever called stalled: the usual level of a test.
FALSE_ALARMS = 0.05

# What a doubling of the steps must gain of the fall so far, beside LEAST_OF_LEVEL: a loss that falls as slowly as the
# logarithm of the steps still gains this at step 1000.
LEAST_OF_FALL = 0.1

# Where the run is younger than this, it is asked what so many steps would gain: one that has just begun, and creeps
# evenly as with a small rate, is not stuck yet.
HORIZON = 1000

# Fewer steps do not fill the windows with batches, and the first steps are seldom like those that follow.
FIRST_LOOK = 128

# Steps from look to look: what is added to the delay, against what is spent on looks.
_SPACING = 1.2

# Looks that share half of what may be spent: as many as it takes from 100 to 500 steps.
_EARLY = 8

# Shares of the run: two short ones, which soon see a stall that little noise hides, and two, three and four whole
# doublings, whose errors are a half, a quarter and less of one's. Below a quarter all curves are level for a moment.
_WINDOWS = (1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16)

# Errors by which a shorter window gainsays a longer one: it need not be sure to be heard.
_DOUBT = 1.0

# Batches in a window, the fewer first: fewer widen Student's interval, more are correlated.
_BATCHES = (12, 24)

# Steps of the shortest window: five in each of the longer batches.
_SHORTEST = 60

# A window is flat as far back as the means of batches stay within so many of their own deviations of its level.
_BAND = 2.0

# Steps whose mean is where the run began, and errors by which the loss must have left it, or rise.
_BEGINNING, _SURE = 16, 3.0

# Over these shares it is said how fast a loss falls, whether it stands still or not: one doubling of the steps, two
# and three. The surest is chosen, see PACE_ERRORS.
_PACES = (1 / 2, 3 / 4, 7 / 8)

# A change by a smaller share of the loss may be the rounding of its sums.
_ROUNDING = 1e-9

# A loss beyond it squares to infinity and is as good as infinite.
_HUGE = 1e100

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Stall:
    """The loss has stopped improving.

    Attributes:
        step: When this is said, in steps counted from 1.
        since: First step of the flat part; of the lowest part, if the loss rises.
        level: Mean loss of the window that was looked at.
        gain: Fall of the loss per doubling of the steps; below zero where it rises.
        most: Upper confidence bound of `gain`.
        rising: Whether the loss surely rises.
        confidence: Share of the runs that still improve which are never called stalled, at the least.
    """

    step: int
    since: int
    level: float
    gain: Estimate
    most: float
    rising: bool
    confidence: float = 1.0 - FALSE_ALARMS


@dataclass(frozen=True)
class Moving:
    """The loss has fallen surely below where it stood still: at `step`, from `since` on, to `level`."""

    step: int
    since: int
    level: float


@dataclass(frozen=True)
class Pace:
    """How fast a loss falls, by shares of itself while the number of steps doubles.

    Attributes:
        falls: Over the window that bounds it best.
        lately: Over the last half of the steps.
        level: Its mean there.
    """

    falls: Estimate
    lately: Estimate
    level: float


@dataclass(frozen=True)
class _Flat:
    gain: Estimate
    most: float
    level: float
    least: float
    scatter: float
    cuts: Sequence[int]


class Stalls:
    """Watches a loss, step by step, in constant memory: `add` says when it stalls and when it moves again.

    Attributes:
        stall: The stall that holds now.
    """

    __slots__ = (
        "_beginning",
        "_blocks",
        "_closed",
        "_count",
        "_floor",
        "_left",
        "_look",
        "_looks",
        "_rate",
        "_rise",
        "_rising",
        "_starts",
        "_sum",
        "stall",
    )

    def __init__(self) -> None:
        self.stall: Stall | None = None
        self._blocks = Blocks()
        self._closed, self._left = 0, 1
        self._sum, self._count, self._rise, self._starts = 0.0, 0, 0.0, 0
        self._rate: float | None = None
        self._rising = False
        self._look, self._looks = FIRST_LOOK, 0
        self._beginning = Estimate(0.0, math.inf)
        self._floor = -math.inf

    @property
    def steps(self) -> int:
        """Steps seen."""
        return self._closed + self._blocks.length - self._left

    def add(self, loss: float, rate: float | None = None) -> Stall | Moving | None:
        """Take the loss of one more step, and its learning rate if known; losses that are not finite are left out."""
        if -_HUGE < loss < _HUGE:
            self._sum += loss
            self._count += 1
        if rate != self._rate:
            self._turn(rate)
        self._left -= 1
        return None if self._left else self._close()

    def stood_lower(self) -> tuple[int, float] | None:
        """Where it surely stood lower than now, by a tenth and more: middle and mean of the lowest part."""
        found = stood_lower(self._blocks.means)
        return None if found is None else (round(found[0] * self._blocks.length), found[1])

    def stood_half_as_high(self) -> tuple[int, float] | None:
        """Where it surely stood less than half as high as anywhere in the last eighth of the run, at this rate."""
        settled = self._blocks.settled()
        found = stood_half_as_high(self._blocks.means[settled:])
        return None if found is None else (round((settled + found[0]) * self._blocks.length), found[1])

    def pace(self) -> Pace | None:
        """Give what it falls while the steps double; None where that is not known, or the rate has just risen."""
        if self._closed < FIRST_LOOK:
            return None
        settled = self._blocks.settled()
        falls = [self._pace(share, settled) for share in _PACES]
        if falls[0] is None:
            return None
        surest = min(
            (one for one in falls if one is not None),
            key=lambda one: one[0].value + one[0].margin(PACE_ERRORS),
        )
        return Pace(surest[0], *falls[0])

    def _pace(self, share: float, settled: int) -> tuple[Estimate, float] | None:
        """Over a window, as a share of its level, and that; of batches of two lengths that with the higher bound."""
        cuts = self._window(share, settled)
        curves = [self._blocks.curve(cuts, most) for most in _BATCHES] if cuts else []
        if not curves or any(len(curve) < FEWEST for curve in curves):
            return None
        level = fmean(value for _, value in curves[-1])
        _, gain = max((bounded(curve, PACE_ERRORS) for curve in curves), key=lambda bound: bound[0])
        return (gain / level, level) if level > 0.0 else None

    def conclude(self) -> Stall | None:
        """Look once more, at the end: what spacing the looks has put off is not lost."""
        return self._stalled() if self.stall is None and self._closed >= FIRST_LOOK else None

    def forget(self) -> None:
        """Take back the stall that was told last, as one that is none."""
        self.stall = None

    def _turn(self, rate: float | None) -> None:
        before, self._rate = self._rate, rate
        if rate is None or before is None:
            return
        if rate > before:
            self._rise += rate - before
            self._starts += not self._rising
        self._rising = rate > before

    def _close(self) -> Stall | Moving | None:
        self._closed += self._blocks.length
        self._blocks.append(self._sum, self._count, self._rate, self._rise, self._starts)
        self._sum, self._count, self._rise, self._starts = 0.0, 0, 0.0, 0
        self._left = self._blocks.length
        if self._closed == _BEGINNING:
            self._beginning = estimate(self._blocks.means)
        if self.stall is not None:
            return self._moving()
        return self._stalled() if self._closed >= self._look else None

    def _stalled(self) -> Stall | None:
        spent = FALSE_ALARMS * _EARLY / ((self._looks + _EARLY) * (self._looks + _EARLY + 1))
        self._looks += 1
        self._look = math.ceil(self._closed * _SPACING)
        errors = -_NORMAL.inv_cdf(spent / len(_WINDOWS))
        settled = self._blocks.settled()
        windows = [self._window(share, settled) for share in _WINDOWS]
        for number, cuts in enumerate(windows):
            flat = self._flat(cuts, errors)
            if flat is not None and not self._falling(windows[:number], flat.least):
                return self._told(flat)
        return None

    def _told(self, flat: _Flat) -> Stall:
        rising = flat.gain.surely_below(-_ROUNDING * abs(flat.level), sigmas=_SURE)
        since = self._since(flat, rising=rising)
        self._floor = self._lowest(since) - flat.least
        step = since * self._blocks.length + 1
        self.stall = Stall(self._closed, step, flat.level, flat.gain, flat.most, rising)
        return self.stall

    def _window(self, share: float, settled: int) -> Sequence[int]:
        blocks = len(self._blocks.means)
        start = blocks - round(share * blocks)
        return (
            self._blocks.cuts(start, settled) if (blocks - start) * self._blocks.length >= _SHORTEST else ()
        )

    def _falling(self, windows: Sequence[Sequence[int]], least: float) -> bool:
        """Whether the loss falls in a shorter window, as after a bump that a longer one takes for level."""
        curves = [self._blocks.curve(cuts, _BATCHES[-1]) for cuts in windows if cuts]
        falls = [gains(curve)[0] for curve in curves if len(curve) >= FEWEST]
        return any(fall.value - _DOUBT * fall.stderr > least for fall in falls)

    def _flat(self, cuts: Sequence[int], errors: float) -> _Flat | None:
        """Hold a window to the bounds; None if more may be gained, or is not known to be less."""
        flats: list[_Flat] = []
        for most in _BATCHES if cuts else ():
            flat = self._held(self._blocks.curve(cuts, most), cuts, errors)
            if flat is None:
                return None
            flats.append(flat)
        return max(flats, key=lambda flat: flat.most, default=None)

    def _held(self, curve: Curve, cuts: Sequence[int], errors: float) -> _Flat | None:
        if len(curve) < FEWEST:
            return None
        values = [value for _, value in curve]
        level = fmean(values)
        least = self._least(level)
        end = fmean(values[-max(round(END * len(values)), 1) :])
        # Most looks at a healthy run end here, before any error is worked out.
        if slope(curve) > least or end < level - least / 2:
            return None
        most, gain = bounded(curve, errors)
        return _Flat(gain, most, level, least, stdev(values), cuts) if most <= least else None

    def _least(self, level: float) -> float:
        """Give what a doubling of the steps must gain at this level."""
        began = self._beginning
        fall = Estimate(began.value - level, began.stderr, began.degrees)
        scale = abs(level)
        if min(level, began.value) < 0.0:
            # The level of a loss that may cross zero says little: what it fell is its scale too.
            scale = max(scale, fall.value)
        least = LEAST_OF_LEVEL * scale
        fell = fall.surely_above(_ROUNDING * scale, sigmas=_SURE)
        least = min(least, LEAST_OF_FALL * fall.value) if fell else least
        return least * min(1.0, self._closed / HORIZON)

    def _since(self, flat: _Flat, *, rising: bool) -> int:
        """Give the block since which the loss has been at the level of the window, or at its lowest if it rises."""
        batches = self._blocks.backwards(flat.cuts, _BATCHES[-1])
        if rising:
            return min(batches, key=lambda batch: batch[1])[0]
        band, lower = max(flat.least, _BAND * flat.scatter), LEAST_OF_FALL * abs(flat.level)
        since, outside = flat.cuts[0], 0
        for first, value in batches:
            above = value - flat.level
            outside = outside + 1 if above > band or -above > max(2 * band, lower) else 0
            # One alone is a spike.
            if outside > 1:
                break
            if not outside:
                since = first
        return since

    def _lowest(self, since: int) -> float:
        """Give the lowest mean of as many blocks as are asked to lie lower."""
        means = self._blocks.means[since:]
        ends = range(min(LAST, len(means)), len(means) + 1)
        return min(mean(means[max(end - LAST, 0) : end]) for end in ends)

    def _creeps(self, level: float) -> bool:
        """Whether the last doubling of the steps has gained no more than what counts as standing still."""
        means = self._blocks.means
        half = len(means) // 2
        return mean(means[max(half - LAST, 0) : half]) - level < self._least(level)

    def _moving(self) -> Moving | None:
        means = self._blocks.means
        # Nearly every block is dismissed here, which costs next to nothing.
        if not means[-1] < self._floor:
            return None
        recent = estimate(means[-LAST:])
        if not recent.surely_below(self._floor, sigmas=LOWER) or self._creeps(recent.value):
            return None
        since = len(means) - 1
        while since > 0 and means[since - 1] < self._floor:
            since -= 1
        self.stall = None
        self._look = max(self._look, math.ceil(self._closed * _SPACING))
        return Moving(self._closed, since * self._blocks.length + 1, recent.value)
