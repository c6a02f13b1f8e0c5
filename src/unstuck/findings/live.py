"""Why the loss of a run stands still, from what the run shows while it goes on: its record, and a look at its graph.

Less can be said here than by `diagnose`, which has the data: nothing is tried, and a look sees a few batches. So each
check asks for more than doubt, and what it cannot tell it leaves open.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from unstuck.findings.creeping import CLIP_LESS, creeping, cut_short, motionless, spent
from unstuck.findings.glance import (
    FALLS_SHORT,
    NEGLIGIBLE,
    bearable,
    critical,
    falls_short,
    gained,
    least_curvature,
    multiple,
    perhaps_saddle,
    quadratic_gain,
    rise,
)
from unstuck.findings.layers import BYPASS, FLAT_LAYER
from unstuck.findings.logged import (
    DEAD,
    SURE,
    UNSEEN,
    dead_units,
    faded,
    mismatched_loss,
    no_slope,
    non_finite,
    precision_stall,
    stale_second_moment,
    step_share,
    vanishing_gradient,
    zero_layers,
)
from unstuck.findings.phrases import confidence, estimated, figure, named, surely_negative
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.findings.strides import NOTHING_LEARNT, overreaching, thrown
from unstuck.findings.wiring import frozen_parameters
from unstuck.measurements.records.live import Look, Recent

Check = Callable[[Recent, Look | None], Finding | None]

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

# A loss above this share of where it began has learnt little. And how sure it is that what is far back matters.
LEARNT, IN_TIME = 0.5, 0.5

# What is smaller is rounded to zero in single precision.
_LEAST = 1e-45

CORRECTED = "Scale the inputs, normalise, or use momentum or Adam."

# See UNEQUAL in findings/steps.py.
UNEQUAL = 5.0


def conclude_live(recent: Recent, look: Look | None) -> tuple[Finding, ...]:
    """Every cause that the record and the look bear out, what explains the others first."""
    found = [check(recent, look) for check in CHECKS]
    return tuple(finding for finding in found if finding is not None)


def conclude_last(recent: Recent, look: Look | None) -> tuple[Finding, ...]:
    """What may have brought a run to where nothing else is found."""
    found = None if no_way_down(recent, look) else thrown(recent)
    return () if found is None else (found,)


def conclude_logged(recent: Recent) -> tuple[Finding, ...]:
    """Those that no look could gainsay."""
    found = [check(recent, None) for check in LOGGED]
    return tuple(finding for finding in found if finding is not None)


def no_way_down(recent: Recent, look: Look | None) -> bool:
    """Whether nothing is to be gained in any way that was looked at: it may be a minimum, or a saddle point yet."""
    return look is not None and critical(recent, look)


def saddle_point(recent: Recent, look: Look | None) -> Finding | None:
    """The gradient has next to nothing to give, and the curvature is negative on batches it was not found on."""
    if look is None or look.lowest is None or not critical(recent, look):
        return zero_layers(recent, look)
    curvature = look.lowest.curvature
    if not curvature.surely_below(least_curvature(look)):
        return zero_layers(recent, look)
    return Finding(
        Cause.SADDLE_POINT,
        min(surely_negative(curvature), SURE),
        (estimated("lambda_min", curvature), _gain(recent, look)),
        f"The gradient leads nowhere, but along one direction the loss curves down: λ = {figure(curvature.value)}, "
        f"on {curvature.degrees + 1:.0f} batches that it was not found on. This is a saddle point.",
        "`unstuck escape` follows that direction; a little noise on the weights and patience do so more slowly.",
    )


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


def saturated_units(recent: Recent, look: Look | None) -> Finding | None:
    """Nearly all that a tanh or a sigmoid gives, to weights or to the loss, sits where its slope is nil."""
    flat = [
        (name, share)
        for name, share in (look or recent.glimpse).flat
        if share >= FLAT_LAYER and not _bypassed(name, recent)
    ]
    if not flat:
        return _saturated_outputs(recent, look)
    share = max(share for _, share in flat)
    return Finding(
        Cause.SATURATED_UNITS,
        min(share, DEAD),
        (Evidence("flat_share", share),),
        f"{100 * share:.3g} % of the values of the units after {named([name for name, _ in flat])} sit where the "
        "slope is below a hundredth of its largest. There a change of the weights changes nothing in the loss.",
        "Scale the inputs to mean 0 and variance 1 and the weights of these layers down, or normalise.",
    )


def _saturated_outputs(recent: Recent, look: Look | None) -> Finding | None:
    """Outputs that have learnt sit there as well, and should."""
    flat = [(name, share) for name, share in (look or recent.glimpse).flat_outputs if share >= FLAT_LAYER]
    if not flat or recent.began is None or recent.level < LEARNT * recent.began:
        return None
    return Finding(
        Cause.SATURATED_UNITS,
        min(flat[0][1], DEAD),
        (Evidence("flat_share", flat[0][1]),),
        f"{100 * flat[0][1]:.3g} % of the outputs after {named([name for name, _ in flat])} sit where the slope of "
        "their tanh or sigmoid is below a hundredth of its largest, right or wrong: no gradient comes through.",
        "Scale the inputs to mean 0 and variance 1 and the last weights down; give the loss the raw outputs "
        "(binary_cross_entropy_with_logits), where it has a slope everywhere.",
    )


def _bypassed(name: str, recent: Recent) -> bool:
    """Whether the gradient reaches what lies before a layer on another way, see findings/layers.py."""
    sizes = dict(recent.depths)
    earlier = [*sizes.values()][: [*sizes].index(name)] if name in sizes else []
    return max(earlier, default=0.0) > BYPASS * sizes.get(name, 0.0)


def vanishing_in_time(recent: Recent, look: Look | None) -> Finding | None:
    """Of a loss that has not come down far, next to nothing gets back to the first steps of a recurrence.

    One that has come down has learnt from the last of them, which may have been all that there was to learn.
    """
    if recent.began is None or recent.level < LEARNT * recent.began:
        return None
    seen = (look or recent.glimpse).unrolled
    lost = [
        (name, times, left)
        for name, times, sizes in seen
        if (left := faded([max(size, _LEAST) for size in sizes])) is not None
    ]
    if not lost:
        return None
    name, times, left = min(lost, key=lambda one: one[2])
    return Finding(
        Cause.VANISHING_GRADIENT,
        IN_TIME,
        (Evidence("gradient_left", left),),
        f"`{name}` is applied {times} times, one after the other, and on its way back from the last quarter of them "
        f"to the first the gradient shrinks {figure(1.0 / left)} times. What the loss depends on that far back is "
        "not learnt; if nothing is, this is no harm.",
        "Use gates that begin open (a GRU, or an LSTM whose forget gates have a bias of one and more), orthogonal "
        "recurrent weights, attention, or shorter sequences.",
    )


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
        return None
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


def ill_conditioned(recent: Recent, look: Look | None) -> Finding | None:
    """Correcting for curvature gains far more than any step along the update, on other batches."""
    if look is None or look.krylov is None or look.update is None or shifted(recent, look):
        return None
    if falls_short(look) and bearable(look) < FALLS_SHORT:
        return _unequal(recent, look)
    # Where the rate is nil or far too low, or most of a step is lost to rounding, nobody knows yet which directions a
    # higher one would serve.
    if look.step_length == 0.0 or multiple(look) > FALLS_SHORT or precision_stall(recent, look) is not None:
        return None
    gain = quadratic_gain(look.krylov.slope, look.krylov.curvature)
    if not gain.surely_above(NEGLIGIBLE * recent.scale, sigmas=2.0) or gain.value < UNEQUAL * gained(look):
        return None
    return Finding(
        Cause.ILL_CONDITIONED,
        min(confidence(gain.value, UNEQUAL * max(gained(look), NEGLIGIBLE * recent.scale / UNEQUAL)), SURE),
        (
            estimated("corrected_gain", gain / recent.scale),
            Evidence("along_update", gained(look) / recent.scale),
        ),
        f"A step that is corrected for curvature would lower the loss by {100 * gain.value / recent.scale:.3g} %, "
        f"the best step along the optimizer's own by {100 * gained(look) / recent.scale:.3g} %: one rate does not "
        "serve steep and flat directions.",
        CORRECTED,
    )


def _unequal(recent: Recent, look: Look) -> Finding | None:
    """The steps are far too short for where they go, and as long as the steepest direction bears."""
    if gained(look) < NEGLIGIBLE * recent.scale:
        return None
    times = multiple(look)
    return Finding(
        Cause.ILL_CONDITIONED,
        min(confidence(times, FALLS_SHORT), SURE),
        (Evidence("best_step", min(times, HUGE)), Evidence("sharpness_over_limit", 1.0 / bearable(look))),
        f"The loss falls along the optimizer's own steps, and would do so for {figure(times)} times their length. "
        f"But with a rate {figure(bearable(look))} times as high, steps along the steepest direction would grow: one "
        "rate does not serve steep and flat directions.",
        CORRECTED,
    )


def plateau(recent: Recent, look: Look | None) -> Finding | None:
    """Neither gradient nor curvature could change the loss within the length of the weights."""
    if look is None or recent.stepped or recent.left_out == 1.0:
        return None  # of what does not come to the loss autograd knows nothing, nor of what ends at a step function
    if any(check(recent, look) is not None for check in (zero_layers, no_slope, mismatched_loss)):
        return None  # as far as nothing reaches all is flat
    reach = max(look.weight_norm, 1.0)  # weights of nothing could be anything
    steepest = max(abs(look.lambda_max.value), abs(look.lambda_min.value))
    most = look.gradient_norm * reach + 0.5 * steepest * reach**2
    if most > NEGLIGIBLE * recent.scale:
        return None
    return Finding(
        Cause.PLATEAU,
        SURE,
        (Evidence("gradient_norm", look.gradient_norm), Evidence("lambda_max", steepest)),
        "Slope and curvature are next to nothing in every direction that was looked along: the loss is flat here as "
        "far as the weights reach.",
        "Begin from another initialisation, or look for units that are dead or saturated: `unstuck diagnose` does.",
    )


CHECKS: tuple[Check, ...] = (
    non_finite,
    mismatched_loss,
    dead_units,
    saturated_units,
    precision_stall,
    no_slope,
    plateau,
    vanishing_gradient,
    stale_second_moment,
    step_too_large,
    saddle_point,
    gradient_noise,
    step_too_small,
    ill_conditioned,
    vanishing_in_time,
    frozen_parameters,
)

# Bouncing is told from a round trip of few batches by a look alone, if there is one.
LOGGED: tuple[Check, ...] = (
    non_finite,
    mismatched_loss,
    dead_units,
    saturated_units,
    zero_layers,
    no_slope,
    precision_stall,
    vanishing_gradient,
    stale_second_moment,
    overreaching,
    creeping,
    cut_short,
    vanishing_in_time,
    frozen_parameters,
)


def least_noise(recent: Recent) -> float | None:
    """Noise over signal, in batches: the least that is likely, where the signal may be nothing at all."""
    if recent.signal is None or recent.noise is None or recent.noise.value <= 0.0:
        return None
    highest = recent.signal.value + recent.signal.margin(2.0)
    lowest = recent.noise.value - recent.noise.margin(2.0)
    return max(lowest, 0.0) / highest if highest > 0.0 else HUGE


def _gain(recent: Recent, look: Look) -> Evidence:
    assert look.krylov is not None  # noqa: S101  # see critical
    gain = quadratic_gain(look.krylov.slope, look.krylov.curvature)
    return estimated("corrected_gain", gain / recent.scale)
