"""How the live loss bends: down along one direction, far more along some than along others, or not at all."""

from unstuck.findings.live.glance import (
    FALLS_SHORT,
    bearable,
    beyond_all,
    critical,
    falls_short,
    gained,
    least_curvature,
    multiple,
    quadratic_gain,
)
from unstuck.findings.live.logged import (
    SURE,
    mismatched_loss,
    no_slope,
    precision_stall,
    zero_layers,
)
from unstuck.findings.live.steps import HUGE, shifted
from unstuck.findings.live.units import saturated_units
from unstuck.findings.phrases import confidence, estimated, figure, surely_negative
from unstuck.findings.progress import NEGLIGIBLE
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

CORRECTED = "Scale the inputs, normalise, or use momentum or Adam."

# See UNEQUAL in findings/steps.py.
UNEQUAL = 5.0


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


def ill_conditioned(recent: Recent, look: Look | None) -> Finding | None:
    """Correcting for curvature gains far more than any step along the update, on other batches."""
    if look is None or look.krylov is None or look.update is None or shifted(recent, look) or recent.piled:
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
    if beyond_all(gain.value, recent):
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
    if any(
        check(recent, look) is not None for check in (zero_layers, no_slope, mismatched_loss, saturated_units)
    ):
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


def _gain(recent: Recent, look: Look) -> Evidence:
    assert look.krylov is not None  # noqa: S101  # see critical
    gain = quadratic_gain(look.krylov.slope, look.krylov.curvature)
    return estimated("corrected_gain", gain / recent.scale)
