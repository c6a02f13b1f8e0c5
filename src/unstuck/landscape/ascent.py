"""The ascent sharpness of SAM, and its scale-invariant version: how far the loss rises within a small ball."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.estimate import weighted_mean
from unstuck.landscape.rises import Place
from unstuck.measurements.judging import Judge
from unstuck.space import Space

# Foret et al. (2021, section 3.1), the default on CIFAR; Kwon et al. (2021, section 5.1), on CIFAR-10.
SAM_RADIUS, ASAM_RADIUS = 0.05, 0.5

# Further steps, and the share of the rise below which another gains nothing.
_STEPS, _STALLED = 10, 1e-3


def one_step(
    judge: Judge, gradient: Float[Tensor, " n"], radius: float, scales: Float[Tensor, " n"]
) -> Place:
    r"""Go up once within $\|T^{-1} \delta\|_2 \le \rho$: to where the loss would be highest if it were linear.

    $\delta = \rho\, T^2 g / \|T g\|_2$ (Foret et al., 2021, eq. 2, with $T = 1$; Kwon et al., 2021, eq. 6, with
    $T = \mathrm{diag}(|w|)$). Without any slope it leads nowhere.

    Args:
        judge: Evaluates the loss, and knows which half finds.
        gradient: At the point, on that half.
        radius: The $\rho$.
        scales: The diagonal of $T$.
    """
    objective, finds = judge.objective, judge.halves.finds
    displacement = _farthest(objective.space, gradient, radius, scales)
    values = objective.values(objective.theta + displacement, finds)
    weights = [objective.weights[index] for index in finds]
    return Place(displacement, weighted_mean(values, weights).value)


def several_steps(
    judge: Judge,
    first: Place,
    radius: float,
    scales: Float[Tensor, " n"],
    start: Float[Tensor, " n"],
) -> Place:
    r"""Go up by further steps, each to where the loss would be highest if its slope were the one at the last place.

    That is a projected ascent with long steps; where the loss is convex it never goes down. Once they no longer go
    up, as beside a saddle, they are shorter: $T^{-1} \delta \leftarrow \rho\, p / \|p\|$ with
    $p = T g + c\, T^{-1} \delta$, c the curvature met there. The highest place counts, the first one included.

    Args:
        judge: Evaluates the loss, and knows which half finds.
        first: Where one step led.
        radius: The $\rho$.
        scales: The diagonal of $T$.
        start: Where to begin if there was no slope to follow.
    """
    objective, finds, space = judge.objective, judge.halves.finds, judge.objective.space
    here, best = judge.found(judge.base), first
    stretched = 1.0 / scales.clamp(min=torch.finfo(scales.dtype).tiny)
    displacement = first.displacement if space.square(first.displacement) > 0.0 else scales * start
    displacement = displacement * (radius / space.norm(stretched * displacement))
    flat, level, bend = objective.gradient(objective.theta, finds), -math.inf, 0.0
    for _ in range(_STEPS):
        value, slope = objective.value_and_gradient(objective.theta + displacement, finds)
        if value > best.found:
            best = Place(displacement, value)
        stalled = value - level <= _STALLED * abs(best.found - here)
        if not math.isfinite(value) or (stalled and bend > 0.0):
            break
        if stalled:
            bend = space.norm(scales * (slope - flat)) / radius
        level = value
        step = _farthest(space, slope + bend * stretched**2 * displacement, radius, scales)
        if not space.square(step):
            break
        displacement = step
    return best


def _farthest(
    space: Space, gradient: Float[Tensor, " n"], radius: float, scales: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    scaled = scales * gradient
    length = space.norm(scaled)
    return (radius / length) * scales * scaled if 0.0 < length < math.inf else torch.zeros_like(gradient)
