"""Steps of a live run: too large, mostly noise, or too small."""

import math
from dataclasses import replace

from unstuck.findings.live.creeping import CLIP_LESS, creeping, cut_short, motionless, spent
from unstuck.findings.live.glance import (
    FALLS_SHORT,
    bearable,
    critical,
    falls_short,
    gained,
    multiple,
    perhaps_saddle,
    quadratic_gain,
    rise,
)
from unstuck.findings.live.logged import (
    SURE,
    UNSEEN,
    step_share,
)
from unstuck.findings.live.strides import NOTHING_LEARNT, overreaching
from unstuck.findings.phrases import confidence, estimated, figure
from unstuck.findings.progress import NEGLIGIBLE
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

# A step ends half as steeply uphill as it began downhill: on a quadratic that is rate times curvature = 1.5, and at 2
# it gains nothing. Noise of the gradient averages out of it: at a noise floor it is what rate and curvature say.
BOUNCES = 0.5

# Of the slope that a step begins with, what curvature takes away on it: nothing is left of it at 1.
BENDS = 1.0

# A loss that stands so many times as high as it began has been thrown there.
THROWN, THROWN_SURE = 2.0, 0.8

# What a step leaves to later ones, where no look has asked the optimizer.
USUAL = 0.9

# Noise scale in batches beyond which a step is mostly noise. Half of a step's squared length is signal at 1.
NOISY = 3.0

# A gradient that is so many times as short as that of the loss has been shortened, and does not differ by its batch.
SHORTENED = 30.0

# Beyond this the noise scale is not worth a number.
HUGE = 1e4


def step_too_large(recent: Recent, look: Look | None) -> Finding | None:
    """Steps end on the other side of the valley, or have thrown the loss far above where it began."""
    if (beyond := overreaching(recent)) is not None:
        return beyond
    overshoot, began = recent.overshoot, recent.began
    bounces = (
        overshoot is not None
        and overshoot.surely_above(BOUNCES, sigmas=1.0)
        and not _flat(look)
        and _keeps_up(recent, look) >= NEGLIGIBLE * recent.scale
    )
    thrown = began is not None and 0.0 < THROWN * began < recent.level
    if not (bounces or thrown) or overshoot is None or overshoot.value <= 0.0:
        return None
    evidence = [estimated("overshoot", overshoot)]
    if recent.gradient_cosine is not None:
        evidence.append(Evidence("gradient_cosine", recent.gradient_cosine))
    if thrown and began is not None:
        evidence.append(Evidence("level_over_beginning", recent.level / began))
    high = f" It is {figure(recent.level / began)} times what it began with." if thrown and began else ""
    return Finding(
        Cause.STEP_TOO_LARGE,
        max(min(confidence(overshoot.value, BOUNCES), SURE), THROWN_SURE if thrown else 0.0),
        tuple(evidence),
        f"Where a step ends, the loss rises along it {figure(overshoot.value)} times as steeply as it fell where the "
        f"step began: the steps jump from one wall of the valley to the other, and the loss stays up.{high}",
        "Lower the learning rate, about tenfold; warm it up if the run has just begun.",
    )


def _flat(look: Look | None) -> bool:
    """Whether the loss hardly bends along a step: few batches an epoch, drawn in turns, look like bouncing, too."""
    if look is None or look.update is None or look.descent is None:
        return False
    return look.update.curvature.value < BENDS * look.descent


def gradient_noise(recent: Recent, look: Look | None) -> Finding | None:
    """A step is mostly noise, and what it gains on its own batch it loses on the others."""
    scale = least_noise(recent)
    if scale is None or scale < NOISY or look is None or falls_short(look) or perhaps_saddle(look):
        return None
    if step_too_large(recent, look) is not None:
        return None  # gradients that change from step to step because of the step are no noise
    beyond = rise(look)
    if beyond is None or beyond.surely_below(0.0, sigmas=2.0) or not _harmful(recent, look):
        return None
    return Finding(
        Cause.GRADIENT_NOISE,
        min(confidence(scale, NOISY), SURE),
        (Evidence("noise_scale_at_least", min(scale, HUGE)), estimated("rise", beyond)),
        f"The gradient of one batch is mostly noise: more than {figure(scale)} batches would have to be averaged for "
        "as much signal. What a step gains on its own batch it loses on the others."
        if scale < HUGE
        else "The gradient of one batch is nothing but noise, as far as can be told: successive ones have nothing in "
        "common. What a step gains on its own batch it loses on the others.",
        "Let the learning rate decay, use larger batches, or average the weights.",
    )


def _harmful(recent: Recent, look: Look) -> bool:
    r"""Whether noise keeps the loss up by more than a negligible part.

    By no more than all steps together lose by curvature. And once it is at its floor, of whatever curvature and for
    whatever preconditioner, by $-g \cdot d / 4 (1 - \beta)$, a quarter of what a step promises on its own batch
    (Mandt, Hoffman & Blei, 2017, section 4.1; momentum beta repeats it).
    """
    if look.update is None:
        return False
    curvature = look.update.curvature
    lost = 0.5 * recent.until * (max(curvature.value, 0.0) + curvature.margin(2.0))
    return min(lost, _keeps_up(recent, look)) >= NEGLIGIBLE * recent.scale


def _keeps_up(recent: Recent, look: Look | None) -> float:
    r"""How much lower the loss would be at the bottom of what steps go to and fro in, by noise or by their length.

    From wall to wall, on curvature h, a step promises $-g \cdot d = h d^2 / 2$, and the walls are $h d^2 / 8$ high.
    """
    descent = look.descent if recent.descent is None and look is not None else recent.descent
    momentum = USUAL if look is None else look.momentum
    return max(descent or 0.0, 0.0) / (4.0 * (1.0 - momentum))


def step_too_small(recent: Recent, look: Look | None) -> Finding | None:
    """On other batches the best step along the update is many times longer."""
    if look is None or look.update is None or shifted(recent, look):
        # Where steps do not add up, what one of them would gain says little.
        return creeping(recent, look) or cut_short(recent, look)
    if not falls_short(look):
        return _stands(recent, look)
    if bearable(look) < FALLS_SHORT:
        return None  # one rate does not serve them all
    times = multiple(look)
    # Where the loss curves down along the step, or hardly at all, the quadratic model gives no best one.
    ways = [gained(look)]
    if look.krylov is not None:
        ways.append(quadratic_gain(look.krylov.slope, look.krylov.curvature).value)
    if max(ways) < NEGLIGIBLE * recent.scale:
        # At a saddle point that a run has begun beside, longer steps would have led away since.
        return creeping(recent, look) if perhaps_saddle(look) else None
    return Finding(
        Cause.STEP_TOO_SMALL,
        min(confidence(times, FALLS_SHORT), SURE),
        (Evidence("best_step", min(times, HUGE)), *step_share(recent)),
        f"The loss still falls along the optimizer's own steps, on batches they were not made for too, and would do "
        f"so for {figure(times) if math.isfinite(times) else 'thousands of'} times their length. The run creeps."
        f"{spent(recent)}{(clipped := _clipped(recent, look))}",
        f"Clip less: {CLIP_LESS}" if clipped else "Raise the learning rate, or is its schedule at an end?",
    )


def shifted(recent: Recent, look: Look | None) -> bool:
    """Whether something other than the steps has been seen to move the weights."""
    return recent.shifted > 0.0 or (look is not None and look.shifted)


def _stands(recent: Recent, look: Look) -> Finding | None:
    """What a look leaves open the record may tell. Steps of nothing lead nowhere; corrected ones may."""
    if look.krylov is None or look.update is None:
        return None
    if look.update.slope.value < 0.0 and not look.update.slope.surely_below(0.0, sigmas=2.0):
        return creeping(recent, look)
    still = motionless(recent)
    if still is None or not critical(recent, look):
        return still
    # Where a run has come down it may have come to a minimum; where it has learnt nothing it has not.
    learnt = not recent.began or recent.level < NOTHING_LEARNT * recent.began
    return None if learnt else replace(still, confidence=min(still.confidence, UNSEEN))


def _clipped(recent: Recent, look: Look) -> str:
    """Say that steps are made from a gradient that is far shorter than the loss's."""
    if not recent.gradient_norm or look.gradient_norm < SHORTENED * recent.gradient_norm:
        return ""
    return (
        f" They are made from a gradient {figure(look.gradient_norm / recent.gradient_norm)} times as short as that "
        "of the loss, as clipping makes it."
    )


def least_noise(recent: Recent) -> float | None:
    """Noise over signal, in batches: the least that is likely, where the signal may be nothing at all."""
    if recent.signal is None or recent.noise is None or recent.noise.value <= 0.0:
        return None
    highest = recent.signal.value + recent.signal.margin(2.0)
    lowest = recent.noise.value - recent.noise.margin(2.0)
    return max(lowest, 0.0) / highest if highest > 0.0 else HUGE
