"""What a look at the live graph says of the ways down: by the quadratic model, on batches other than its own."""

import math

from unstuck.estimate import Estimate
from unstuck.findings.progress import NEGLIGIBLE
from unstuck.measurements.records.live import Look, Recent

# Curvature below this share of the largest is as good as none, see TOLERANCE in findings/point.py.
TOLERANCE = 1e-3

# The best step along the update, on other batches, is this many times longer: rates are a matter of taste within a
# factor of 3, and few batches know little.
FALLS_SHORT = 10.0

# Cosine of a step that goes along the gradient: a scale of its own for each direction leaves less.
ALONG = 0.9


def critical(recent: Recent, look: Look) -> bool:
    """Whether what the gradient accounts for, curvature corrected, is negligible on other batches.

    By one error, since that the loss stands still has been shown already.
    """
    if look.krylov is None:
        return False
    gain = quadratic_gain(look.krylov.slope, look.krylov.curvature)
    return gain.surely_below(NEGLIGIBLE * recent.scale, sigmas=1.0)


def perhaps_saddle(look: Look) -> bool:
    """Whether a way down along negative curvature is likely, though not sure yet: noise would hide it."""
    return look.lowest is not None and look.lowest.curvature.surely_below(least_curvature(look), sigmas=1.0)


def least_curvature(look: Look) -> float:
    """Curvature that is negative enough to matter."""
    return -TOLERANCE * max(look.lambda_max.value, -look.lambda_min.value)


def quadratic_gain(slope: Estimate, curvature: Estimate) -> Estimate:
    r"""What the quadratic model gains along p, by at most p itself: $\max_{0 \le a \le 1} -a g.p - a^2 p.Hp / 2$.

    Its error is by how much that changes where slope or curvature are one error off, up or down.
    """
    gain = _most(slope.value, curvature.value)
    errors = [
        max(
            abs(_most(slope.value + sign * steep, curvature.value + sign * bent) - gain)
            for sign in (-1.0, 1.0)
        )
        for steep, bent in ((slope.stderr, 0.0), (0.0, curvature.stderr))
    ]
    return Estimate(gain, math.hypot(*errors), slope.degrees)


def beyond_all(gain: float, recent: Recent) -> bool:
    """Whether the quadratic model gains more than all of a loss that is never negative: it does not hold so far."""
    return recent.lowest is not None and recent.lowest >= 0.0 and gain > recent.level


def _most(slope: float, curvature: float) -> float:
    if slope >= 0.0:
        return 0.0
    best = min(-slope / curvature, 1.0) if curvature > 0.0 else 1.0
    return -best * slope - 0.5 * best**2 * curvature if best > 0.0 else 0.0


def rise(look: Look) -> Estimate | None:
    """Change of other batches' loss by the step that was made, by the quadratic model."""
    if look.update is None:
        return None
    slope, curvature = look.update.slope, look.update.curvature
    return Estimate(
        slope.value + 0.5 * curvature.value, math.hypot(slope.stderr, 0.5 * curvature.stderr), slope.degrees
    )


def multiple(look: Look) -> float:
    """The best step along the update, as a multiple of it."""
    if look.update is None or look.update.slope.value >= 0.0:
        return 0.0
    curvature = look.update.curvature.value
    return -look.update.slope.value / curvature if curvature > 0.0 else math.inf


def gained(look: Look) -> float:
    """What the best step along the update gains on other batches; as far as the quadratic model goes."""
    if look.update is None:
        return 0.0
    down, curvature = -look.update.slope.value, look.update.curvature.value
    return 0.5 * down**2 / curvature if down > 0.0 and curvature > 0.0 else max(down, 0.0)


def bearable(look: Look) -> float:
    r"""How many times as high the rate may be before steps along the steepest direction grow; infinite if unknown.

    $2 (1 + \beta) / \eta \lambda_{max}$, where the step goes along the gradient and shows what $\eta$ is.
    """
    if not look.step_length or not look.gradient_norm or look.descent is None or look.lambda_max.value <= 0.0:
        return math.inf
    if look.descent < ALONG * look.gradient_norm * look.step_length:
        return math.inf
    rate = look.step_length / look.gradient_norm * (1.0 - look.momentum)
    return 2.0 * (1.0 + look.momentum) / (rate * look.lambda_max.value)


def falls_short(look: Look) -> bool:
    """Whether the step could be many times longer."""
    if look.update is None or not look.update.slope.surely_below(0.0, sigmas=2.0):
        return False
    curvature = look.update.curvature
    return -look.update.slope.value > FALLS_SHORT * (curvature.value + curvature.stderr)
