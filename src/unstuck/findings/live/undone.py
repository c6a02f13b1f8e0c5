r"""Steps whose promise is undone, again and again, of a loss that noise keeps from surely standing still.

A step d promises $D = -g \cdot d$ on its own batch. Where what steps gain is lost again, by the noise of batches or
from wall to wall of a valley, they keep the loss up by $D / 4 (1 - \beta)$ (Mandt, Hoffman & Blei, 2017, section 4.1;
momentum $\beta$ repeats a step). That is what a rate that decays would gain. Where it surely is more than the loss
falls while the number of steps doubles, going on as before gains less than shorter steps do, still or not.
"""

import math

from unstuck.estimate import Estimate
from unstuck.findings.live.logged import UNSEEN
from unstuck.findings.live.steps import BOUNCES, NOISY, USUAL, least_noise
from unstuck.findings.phrases import estimated
from unstuck.findings.progress import NEGLIGIBLE
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import LEAST_OF_LEVEL, PACE_ERRORS, Recent

# What is kept up must be worth the change, of the loss.
_WORTH = 0.1

# Steps that keep up more than so much of all the loss are too large, whatever undoes them.
_MOST = 0.5

_LOWER = "Lower the learning rate, about tenfold, or let it decay"

# What is more is all, in words.
_NEARLY = 0.95


def undone(recent: Recent) -> Finding | None:
    """Steps of a constant length keep the loss up by more than what it falls by going on."""
    kept, falls, now = _kept_up(recent), recent.falls, recent.falls_lately
    if kept is None or falls is None or now is None or kept.value < _WORTH:
        return None
    if _is_seen_to_fall(falls, now) or _becomes_another(recent, now):
        return None
    if kept.value - falls.value <= math.hypot(kept.margin(2.0), falls.margin(PACE_ERRORS)):
        return None
    noise = kept.value < _MOST and _noise(recent)
    return Finding(
        Cause.GRADIENT_NOISE if noise else Cause.STEP_TOO_LARGE,
        UNSEEN,
        _evidence(recent, kept, falls),
        f"{_seen(kept, falls)} {_how(recent)}",
        ("Let the learning rate decay, use larger batches, or average the weights" if noise else _LOWER)
        + "; if it is to come down later on, by what the script itself does, that is what will be gained then.",
    )


def taken_back(recent: Recent) -> bool:
    """Whether that holds no longer: the rate has come down since, or the loss surely falls.

    What was said beyond doubt is not taken back by what noise shows as often as not.
    """
    falls = (recent.falls, recent.falls_lately)
    return _comes_down(recent) or any(
        one is not None and one.surely_above(LEAST_OF_LEVEL, sigmas=2.0) for one in falls
    )


def _is_seen_to_fall(*falls: Estimate) -> bool:
    return any(one.value - one.stderr > LEAST_OF_LEVEL for one in falls)


def _comes_down(recent: Recent) -> bool:
    return recent.rate is not None and recent.first_rate is not None and recent.rate < recent.first_rate


def _kept_up(recent: Recent) -> Estimate | None:
    """How much lower the loss would be without what steps go to and fro in, as a share of it, where that is known.

    Of a loss that may be negative nothing is a share. Where the rate comes down, shorter steps are on their way.
    """
    promise = recent.promise
    if (
        promise is None
        or recent.lowest is None
        or recent.lowest < 0.0
        or recent.level <= 0.0
        or recent.shifted
    ):
        return None
    if _comes_down(recent):
        return None
    momentum = USUAL if recent.momentum is None else recent.momentum
    return promise / (4.0 * (1.0 - momentum) * recent.level)


def _becomes_another(recent: Recent, falls: Estimate) -> bool:
    """Whether the loss surely rises, and steps are not seen to throw it up: it may be that of something else."""
    bounces = recent.overshoot is not None and recent.overshoot.surely_above(0.0, sigmas=2.0)
    return falls.surely_below(0.0, sigmas=2.0) and not bounces


def _noise(recent: Recent) -> bool:
    """Whether it is rather noise that undoes the steps than their length."""
    if recent.signal is None or recent.noise is None or _bounces(recent) or _opposed(recent):
        return False
    return recent.noise.value >= NOISY * recent.signal.value


def _bounces(recent: Recent) -> bool:
    return recent.overshoot is not None and recent.overshoot.surely_above(BOUNCES, sigmas=1.0)


def _opposed(recent: Recent) -> bool:
    """Whether successive gradients surely point against each other, which noise does not make them do."""
    return recent.signal is not None and recent.signal.surely_below(0.0, sigmas=2.0)


def _how(recent: Recent) -> str:
    walls = "the steps jump from one wall of the valley to the other."
    scale = least_noise(recent)
    if _bounces(recent):
        return f"Where a step ends, the loss rises along it: {walls}"
    if _opposed(recent):
        return f"Successive gradients point against each other: {walls}"
    if scale is not None and scale >= NOISY:
        return (
            "Gradients of successive batches have next to nothing in common: most of a step is their noise."
        )
    return "Shorter steps help, whether noise or their own length undoes them; which of the two it is, is not sure."


def _seen(kept: Estimate, falls: Estimate) -> str:
    most = falls.value + falls.margin(PACE_ERRORS)
    held = f"about {100 * kept.value:.2g} % of the loss" if kept.value < _NEARLY else "nearly all of the loss"
    gained = f"no more than {100 * min(most, _NEARLY):.2g} %" if most > NEGLIGIBLE else "next to nothing"
    return (
        f"What steps gain, the next ones lose again. By what they promise, that keeps up {held}, while as many steps "
        f"more as there were so far would gain {gained}."
    )


def _evidence(recent: Recent, kept: Estimate, falls: Estimate) -> tuple[Evidence, ...]:
    found = [estimated("kept_up", kept), estimated("falls", falls)]
    if recent.overshoot is not None:
        found.append(estimated("overshoot", recent.overshoot))
    return tuple(found)
