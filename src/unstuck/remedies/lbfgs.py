"""Descent that needs no tuning: L-BFGS, with a line search that finds its scale by itself."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unstuck.remedies.surface import Point, Surface
from unstuck.space import Space

# Pairs of steps and changes of the gradient (Liu & Nocedal 1989: more than twenty hardly help).
_PAIRS, _FEWEST = 20, 4

# The strong Wolfe conditions in the usual loose form (Nocedal & Wright 2006, section 3.1).
_DECREASE, _FLATTER = 1e-4, 0.9

# A pair counts when the curvature along it is positive by more than rounding.
_POSITIVE = 1e-8

# Strides of a search without a natural length grow or shrink by this factor, so many times at most.
_STRIDE, _MOST_STRIDES = 4.0, 12

# Evaluations along one direction of L-BFGS; almost always one is enough.
_MOST_TRIALS = 12


@dataclass(frozen=True)
class Look:
    """A look along a direction: how far, and what was there."""

    step: float
    point: Point
    slope: float


def descend(surface: Surface, start: Point, *, reach: float, enough: Callable[[list[float]], bool]) -> Point:
    """Go down from a point until no step does, or `enough` of the losses so far.

    Args:
        surface: Counts and remembers; it also ends the descent, by `SpentError`.
        start: Where to begin.
        reach: Distance to look at first, along the gradient.
        enough: Is given the losses of all points of the descent.
    """
    pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=int(min(max(0.5 * surface.fitting, _FEWEST), _PAIRS)))
    here, losses = start, [start.loss]
    while not enough(losses):
        trial = along(surface, here, _direction(surface.space, here.gradient, pairs)) if pairs else None
        if trial is None:
            pairs.clear()
            trial = down(surface, here, reach)
        if trial is None:
            break
        step, change = trial.point.theta - here.theta, trial.point.gradient - here.gradient
        lengths = surface.space.norm(step) * surface.space.norm(change)
        if surface.space.dot(step, change) > _POSITIVE * lengths:
            pairs.append((step, change))
        here = trial.point
        losses.append(here.loss)
    return here


def down(surface: Surface, here: Point, reach: float) -> Look | None:
    """Look along the gradient at ever longer or ever shorter distances; None if nothing there is lower."""
    length = surface.space.norm(here.gradient)
    if not 0.0 < length < math.inf:
        return None
    unit = -here.gradient / length
    distance, loss = stride(surface, here.theta, unit, here.loss, reach)
    if not loss < here.loss:
        return None
    theta = here.theta + distance * unit
    point = surface.slope(theta)
    return Look(distance, point, surface.space.dot(point.gradient, unit))


def stride(
    surface: Surface, theta: Float[Tensor, " n"], unit: Float[Tensor, " n"], base: float, reach: float
) -> tuple[float, float]:
    """Find a distance along `unit` at which the loss is lower than `base`: growing as long as it falls, or shrinking.

    Returns:
        The distance and its loss; 0 and `base` where nothing is lower.
    """
    distance, loss = reach, surface.value(theta + reach * unit)
    best = min((0.0, base), (distance, loss), key=lambda pair: pair[1])
    falls = loss < base
    for _ in range(_MOST_STRIDES):
        distance *= _STRIDE if falls else 1.0 / _STRIDE
        loss = surface.value(theta + distance * unit)
        if falls and not loss < best[1]:
            break
        if loss < best[1]:
            best = (distance, loss)
            if not falls:
                break
    return best


def along(surface: Surface, here: Point, direction: Float[Tensor, " n"]) -> Look | None:
    """Search along a direction that has a natural length for a point with the strong Wolfe conditions.

    Too far, it goes back by interpolation; where the loss still falls as steeply, it goes on.
    """
    slope = surface.space.dot(here.gradient, direction)
    if not slope < 0.0:
        return None
    step, low, high, found = 1.0, Look(0.0, here, slope), math.inf, None
    for _ in range(_MOST_TRIALS):
        theta = here.theta + step * direction
        point = surface.slope(theta)
        trial = Look(step, point, surface.space.dot(point.gradient, direction))
        if not point.loss <= here.loss + _DECREASE * step * slope:
            high = step
            if found is not None:
                break
            step = _back(low, trial)
            continue
        found = trial
        if trial.slope >= _FLATTER * slope or math.isfinite(high):
            break
        step *= min(10.0, max(2.0, slope / (slope - trial.slope) if trial.slope > slope else math.inf))
        low = trial
    return found


def _back(low: Look, high: Look) -> float:
    """Minimum of the parabola through both losses and the first slope, well inside."""
    width = high.step - low.step
    bend = (high.point.loss - low.point.loss - low.slope * width) / width**2
    inner = -0.5 * low.slope / bend if math.isfinite(bend) and bend > 0.0 else 0.0
    return low.step + min(max(inner, 0.1 * width), 0.6 * width)


def _direction(
    space: Space, gradient: Float[Tensor, " n"], pairs: deque[tuple[Tensor, Tensor]]
) -> Float[Tensor, " n"]:
    """Apply the inverse of the curvature that the pairs show (Nocedal & Wright 2006, algorithm 7.4)."""
    rest, shares = gradient.clone(), list[float]()
    for step, change in reversed(pairs):
        shares.append(space.dot(step, rest) / space.dot(step, change))
        rest.sub_(change, alpha=shares[-1])
    step, change = pairs[-1]
    rest.mul_(space.dot(step, change) / space.dot(change, change))
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        rest.add_(step, alpha=share - space.dot(change, rest) / space.dot(step, change))
    return rest.neg_()
