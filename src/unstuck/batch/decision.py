"""From what was measured to a range of batch sizes, or to why there is none. Pure."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from scipy.special import stdtrit

from unstuck.batch.course import Course
from unstuck.batch.efficiency import (
    best_rate,
    fit,
    level_of,
    lossless,
    options,
    suspected_rate,
)
from unstuck.batch.records import LONG, Answer, Decision, Noise, Option, WrongRate

# Where the loss has moved by less than this share there is nothing to compare sizes by.
_MOVED = 0.01

# Sizes are recommended whose time is not surely longer than the best one's by more than this share.
_SLACK = 0.25

_LEVEL = 0.95

# A standard deviation of three values is smaller than this share of the true one half of the time: the median of
# chi-squared with two degrees of freedom is 2 log 2.
_MEDIAN = math.sqrt(math.log(2.0))

# The noise scale tells the critical size to this factor near a good rate (McCandlish et al., 2018, figure 4).
_ROUGHLY = 2.0


def decide(
    course: Course | None,
    seconds: Mapping[int, float],
    noise: Noise | None,
    target: float | None,
    reason: str = "",
) -> Decision:
    """Recommend sizes, or say why not.

    Args:
        course: What the branches have shown; None where there are none.
        seconds: Of an update of each size, loading included.
        noise: The noise scale, for a guess where the branches do not tell.
        target: The loss that the run wants to get to.
        reason: Why there are no branches, or not all that there should be; else "".
    """
    if course is None:
        return Decision(Answer.NOT_RESOLVED, f"{reason}; {_guess(noise, seconds)}")
    if wrong := suspected_rate(course):
        if wrong.settled:
            return Decision(Answer.WRONG_RATE, _mend_first(wrong), rate=wrong.factor)
        return Decision(Answer.NOT_RESOLVED, _suspected(wrong), rate=wrong.factor)
    rate = best_rate(course.scanned())
    level = level_of(course, target)
    if level is None or _gained(course) < _MOVED:
        return Decision(Answer.NOT_RESOLVED, _standing(course), rate=rate)
    found = fit(course, level)
    made = options(course, level, seconds, found)
    kept = lossless(course)
    chosen = recommended(made)
    if len(chosen) == 0 or sum(each.seconds is not None for each in made) < 3:  # noqa: PLR2004
        short = reason or "there was no time for enough sizes: give a larger budget"
        why = f"{short}; {_guess(noise, seconds)}"
        return Decision(
            Answer.NOT_RESOLVED, why, level=level, options=made, fit=found, lossless=kept, rate=rate
        )
    best = min((each for each in made if each.seconds), key=_time)
    return Decision(
        Answer.RECOMMENDED,
        "; ".join(filter(None, (reason, _caution(best)))),
        low=chosen[0].size,
        high=chosen[-1].size,
        best=best.size,
        level=level,
        options=made,
        fit=found,
        lossless=kept,
        rate=rate,
    )


def recommended(made: Sequence[Option]) -> list[Option]:
    """Give the sizes, from smallest to largest, whose time is not surely longer than the best one's by a quarter.

    By the spread of updates between orders, on logarithms: from the median of the sizes' own, since each rests on
    three orders only, and a single size at the edge of its rate must not make all of them look alike. The best one is
    only the luckiest of all, so that each of the others gets its share of the doubt (Hsu, 1984, with Bonferroni's
    bound).
    """
    timed = [each for each in made if each.seconds]
    if not timed:
        return []
    shares = [each.seconds.stderr / each.seconds.value for each in timed if each.seconds]
    known = [share for share in shares if math.isfinite(share)]
    degrees = 2.0 * len(known)
    spread = median(known) / _MEDIAN if known else math.inf
    doubt = (1.0 - _LEVEL) / max(len(timed) - 1, 1)
    margin = float(stdtrit(max(degrees, 1.0), 1.0 - doubt)) * math.sqrt(2.0) * spread
    best = min(map(_time, timed))
    inside = [each for each in timed if math.log(_time(each) / best) - margin <= math.log1p(_SLACK)]
    return [each for each in timed if inside[0].size <= each.size <= inside[-1].size]


def _off(wrong: WrongRate) -> tuple[str, float]:
    return ("small", wrong.factor) if wrong.factor > 1.0 else ("large", 1.0 / wrong.factor)


def _suspected(wrong: WrongRate) -> str:
    way, times = _off(wrong)
    return (
        f"the learning rate may be about {times:.0f} times too {way}, and what a batch size is good for depends on "
        f"it; {wrong.after:.0f} updates, for which there was time, do not tell: give a larger budget"
    )


def _mend_first(wrong: WrongRate) -> str:
    way, times = _off(wrong)
    others = f"reach in {wrong.near:.3g}" if math.isfinite(wrong.near) else "never reach"
    whence = (
        "with weights made anew, which then overtake the run as it stands at whatever rate, "
        if wrong.anew
        else ""
    )
    return (
        f"the learning rate is about {times:.0f} times too {way}: {whence}{wrong.factor:.3g} times the rate comes in "
        f"{wrong.updates:.3g} updates to a loss of {wrong.level:.4g}, which rates like the present one {others}. "
        "What a batch size is good for depends on the rate, so mend the rate first"
    )


def _gained(course: Course) -> float:
    began = course.trials[0].looks[0][1]
    best = min(trial.end for trial in course.trials)
    return (began - best) / (abs(began) or 1.0)


def _standing(course: Course) -> str:
    return (
        f"the loss moved by {100 * max(_gained(course), 0.0):.1f} % only, at whatever size and rate: give a larger "
        "budget, or ask `unstuck diagnose` what stops the run"
    )


def _guess(noise: Noise | None, seconds: Mapping[int, float]) -> str:
    """What the noise scale alone suggests, to an order of magnitude."""
    scale = noise and (noise.metric or noise.simple)
    if scale is None or scale.estimate is None or len(seconds) < 2:  # noqa: PLR2004
        return "the noise scale is not resolved either"
    best = [_fastest(critical, seconds) for critical in (scale.low / _ROUGHLY, scale.high * _ROUGHLY)]
    return (
        f"if the learning rate is right, the noise scale of {scale.estimate.value:.3g} suggests sizes of about "
        f"{min(best)} to {max(best)}, to an order of magnitude"
    )


def _fastest(critical: float, seconds: Mapping[int, float]) -> int:
    """The size with the shortest time to any loss, if the critical size is this."""
    return min(seconds, key=lambda size: (1.0 + critical / size) * seconds[size])


def _caution(best: Option) -> str:
    """What to bear in mind beside a recommendation."""
    if best.updates is None or best.updates.value >= LONG:
        return ""
    return (
        f"the run could be followed for {best.updates.value:.0f} updates only: with a larger budget the answer may "
        "move to larger sizes"
    )


def _time(option: Option) -> float:
    return option.seconds.value if option.seconds else math.inf
