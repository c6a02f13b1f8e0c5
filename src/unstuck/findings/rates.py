"""Which other rate gains most, which higher one to advise, and in which words."""

import math

from unstuck.findings.phrases import figure
from unstuck.findings.progress import ABOUT_EQUAL
from unstuck.measurements.records import Arm, Measurements

# Two decades below the best rate there is no doubt left that the steps are too small.
FAR_OFF = 100.0

# What grows by less in all the steps of an arm may have begun too small to be seen: at a millionth of the weights.
GROWN = 1e6

# What no gradient has made is most of sigma.
MOSTLY_ADDED = 0.5


def of_no_gradient(measured: Measurements) -> str:
    """What to do where most of what steps are divided by comes from a setting and not from gradients, or ""."""
    moment = measured.second_moment
    if moment is None or moment.added_share is None or moment.added_share < MOSTLY_ADDED:
        return ""
    part = f"{100.0 * moment.added_share:.3g} %"
    return f"Lower `{moment.added}`: it makes up {part} of what each step is divided by, and comes from no gradient"


def raising(best: Arm, measured: Measurements) -> str:
    """What to do about steps that are too small, by what makes them so."""
    past, wiring = measured.past, measured.wiring
    shares = [part.rate_share for part in (past, wiring) if part is not None and part.rate_share is not None]
    if best.factor >= FAR_OFF and min(shares, default=1.0) * FAR_OFF < 1.0:
        return (
            f"The schedule holds the learning rate far below the one that it was given: where it has decayed, begin "
            f"it anew or end it higher; where it still warms up, let it do so sooner. About "
            f"{figure(best.factor)} times the present rate would gain."
        )
    if measured.subject.optimizer == "Rprop":
        return (
            f"Raise the step sizes that Rprop keeps and the bounds they are kept within, about {figure(best.factor)} "
            "times: its learning rate is but what they began with."
        )
    if lower := of_no_gradient(measured):
        return f"{lower}. Or raise the learning rate, about {figure(borne(best, measured))} times."
    clip, norm = measured.subject.clip, measured.gradient.norm
    # What is divided by its own size takes steps of one length, however it was clipped.
    if clip is not None and norm > clip and measured.second_moment is None:
        return (
            f"Clip less: the gradient is {norm / clip:,.3g} times as long as what it is shortened to. Or raise the "
            f"learning rate, about {figure(best.factor)} times."
        )
    return (
        f"Raise the learning rate, about {figure(borne(best, measured))} times; or has it decayed too early?"
    )


def borne(best: Arm, measured: Measurements) -> float:
    """A rate to advise: none beyond what the steepest direction bears, unless many steps have shown that it does.

    Of gradient descent alone, where steps along it grow by |2 r - 1| each at r times the longest that it bears.
    """
    plain = measured.subject.optimizer == "SGD" and measured.momentum is None
    stable = measured.gradient.stable if plain else None
    if stable is None or not 1.0 < stable < best.factor:
        return best.factor
    shown = best.steps * math.log(2.0 * best.factor / stable - 1.0) > math.log(GROWN)
    return best.factor if shown else stable


def best_rate(measured: Measurements, *, higher: bool) -> Arm | None:
    """The higher or the lower rate that gains most; of higher ones that gain about as much the lowest."""
    arms = measured.continuations.arms if measured.continuations else ()
    tried = [arm for arm in arms if arm.name == "rate" and (arm.factor > 1.0) is higher]
    # What gains most may do so by chance, beside one that surely gains.
    rates = [arm for arm in tried if arm.extra.surely_above(0.0)] or tried
    best = max(rates, key=lambda arm: arm.gain.value, default=None)
    if best is None or not higher:
        return best
    enough = ABOUT_EQUAL * best.gain.value
    return min((arm for arm in rates if arm.gain.value >= enough), key=lambda arm: arm.factor, default=best)
