"""Where a loss stood lower before than it does now, by means of successive blocks of a curve."""

from collections.abc import Sequence

from unstuck.estimate import Estimate
from unstuck.watching.losses.blocks import END, estimate, mean

# Blocks that must lie lower than all before, and errors by which: they are asked again and again.
LAST, LOWER = 12, 4.0

# By which it must have stood lower to be worth a word, of the level.
_WORTH = 0.1


def _value(part: tuple[Estimate, int]) -> float:
    return part[0].value


def stood_lower(means: Sequence[float]) -> tuple[float, float] | None:
    """Where means of successive blocks surely stood lower than at their end: the middle, in blocks, and the mean."""
    level = mean(means[-LAST:])
    parts = [(estimate(means[end - LAST : end]), end) for end in range(LAST, len(means) + 1)]
    if not parts:
        return None
    lowest, end = min(parts, key=_value)
    if not lowest.surely_below(level - _WORTH * abs(level), sigmas=LOWER):
        return None
    return end - LAST / 2, lowest.value


def stood_half_as_high(means: Sequence[float]) -> tuple[float, float] | None:
    """Where they surely stood less than half as high as anywhere in their last eighth: the middle, and the mean."""
    cut = len(means) - round(END * len(means))
    if len(means) - cut < LAST:
        return None
    since = min(mean(means[end - LAST : end]) for end in range(cut + LAST, len(means) + 1))
    lowest, end = min(((estimate(means[end - LAST : end]), end) for end in range(LAST, cut + 1)), key=_value)
    return (
        (end - LAST / 2, lowest.value)
        if since > 0.0 and lowest.surely_below(since / 2.0, sigmas=LOWER)
        else None
    )
