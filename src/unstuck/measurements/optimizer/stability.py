r"""Do the steps stay within what the steepest direction bears? $\eta \lambda_{max}$ in the optimizer's own metric."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.curvature.lanczos import Lanczos, Ritz
from unstuck.curvature.records import Curvature
from unstuck.curvature.vectors import Operator, Room, random_unit
from unstuck.estimate import Estimate
from unstuck.measurements.judging import Judge
from unstuck.measurements.optimizer.metric import Metric
from unstuck.measurements.records import Stability
from unstuck.objective.products import Products

# Ten products know the largest eigenvalue to a few per cent; the ratio to a limit needs no more.
_FEWEST, _MOST, _CLOSE = 4, 10, 0.03


@dataclass(frozen=True)
class Steepest:
    r"""The steepest direction $w = D^{1/2} u$ of the metric, found on one half of the sample.

    Attributes:
        value: $u^\top D^{1/2} H D^{1/2} u$ on the half that finds.
        error: How far the largest eigenvalue may be from it.
        direction: $w$, with $u$ a unit vector.
    """

    value: float
    error: float
    direction: Float[Tensor, " n"]


def find_steepest(
    metric: Metric,
    products: Products,
    gradient: Float[Tensor, " n"],
    stop: Callable[[], bool],
    *,
    seed: int,
    close: float = _CLOSE,
) -> Steepest:
    """Find the steepest direction by Lanczos on $D^{1/2} H D^{1/2}$, in at most ten products.

    It starts at the gradient, along which a run that is thrown about lies, and at random, since the gradient may
    be orthogonal to what is steep. It ends once the largest eigenvalue is known to a share `close` of it.
    """
    half, space = metric.rates.sqrt(), products.space
    multiply = partial(metric.multiply, products)
    operator = Operator(multiply, space.size, half, products.noise, space.reduce, space.draw)
    start = random_unit(operator, torch.Generator().manual_seed(seed))
    along = half * gradient
    length = space.norm(along)
    run = Lanczos(operator, start + along / length if length else start, room=Room(_MOST + 2))
    while run.products < _MOST and not run.finished:
        if run.products >= _FEWEST and (_error(run.ritz()) <= close or stop()):
            break
        run.step()
    value, error, unit = _top(run)
    return Steepest(value, error, half * unit)


def _error(ritz: Ritz) -> float:
    return float(ritz.errors[-1]) / max(ritz.radius, sys.float_info.min)


def _top(run: Lanczos) -> tuple[float, float, Float[Tensor, " n"]]:
    ritz = run.ritz()
    error = math.hypot(float(ritz.errors[-1]), run.noise * ritz.radius)
    return float(ritz.values[-1]), error, run.vector(ritz.weights[:, -1])


def steepest_met(run: Lanczos, rate: float) -> Steepest:
    """The steepest direction that a run on H itself has met, where all parameters move at one `rate`."""
    value, error, unit = _top(run)
    return Steepest(rate * value, rate * error, math.sqrt(rate) * unit)


def steepest_known(curvature: Curvature, rate: float) -> Steepest:
    """The same from eigenvalues that were asked for."""
    highest = curvature.spectrum.highest[0]
    return Steepest(rate * highest.value, rate * highest.residual, math.sqrt(rate) * curvature.highest)


def measure_stability(optimizer: Optimizer, judge: Judge, metric: Metric, found: Steepest) -> Stability:
    """Judge the steepest direction on the other half: costs one product there, or none where nothing is sampled."""
    sharpness = Estimate(found.value, found.error)
    space = judge.objective.space
    if not judge.halves.exhaustive:
        square = space.square(found.direction)
        judged = judge.curvature(found.direction) if square else Estimate(0.0, 0.0)
        outside = 0.0 if metric.decay is None else space.dot(metric.decay, found.direction.square())
        error = math.hypot(square * judged.stderr, found.error)
        sharpness = Estimate(square * judged.value - outside, error, judged.degrees)
    return Stability(type(optimizer).__name__, sharpness, metric.limit, one_rate=metric.uniform is not None)
