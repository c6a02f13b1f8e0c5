"""The least value of a function of a few tensors, from several starts."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

Function = Callable[[Sequence[Tensor]], Tensor]

# L-BFGS finds the floors of the usual criteria in ten to forty iterations.
_ITERATIONS, _EVALUATIONS = 40, 60

# Where it ends in a kink, as of an L1 loss or a ReLU, Adam goes on: so many steps, at a rate that decays.
_POLISHING, _RATE = 60, 0.1

# Heights that differ by less than this share are the same.
_AGREE = 1e-3

# How far outside of its domain a criterion is asked whether it minds.
_OUTSIDE = 3.0

Map = Callable[[Tensor], Tensor]


def value(function: Function, at: Sequence[Tensor]) -> float:
    """Evaluate a function; infinite where it fails or is not a number."""
    try:
        with torch.no_grad():
            found = float(function(at))
    except (RuntimeError, ValueError, IndexError):
        return math.inf
    return math.inf if math.isnan(found) else found


def least(function: Function, starts: Sequence[Sequence[Tensor]], enough: float = -math.inf) -> list[Tensor]:
    """Give the lowest point reached from any of `starts`, or the first one found that is not above `enough`."""
    best = min(starts, key=lambda start: value(function, start))
    lowest = math.inf
    for start in starts:
        if value(function, best) <= enough:
            return list(best)
        found = descend(function, start, enough)
        reached = value(function, found)
        best = min(best, found, key=lambda point: value(function, point))
        # Two searches from different starts that end at the same height have found the floor.
        if abs(reached - lowest) <= _AGREE * abs(reached):
            break
        lowest = min(lowest, reached)
    if value(function, best) > enough:
        best = min(best, _adam(function, best, enough), key=lambda point: value(function, point))
    return list(best)


def domain(function: Function, at: Sequence[Tensor]) -> tuple[Map, Map] | None:
    """Give a map from all real numbers onto what a criterion takes, and its inverse; None if none is known."""
    below = math.isinf(value(function, [tensor - _OUTSIDE for tensor in at]))
    above = math.isinf(value(function, [tensor + _OUTSIDE for tensor in at]))
    lowest = min(float(tensor.min()) for tensor in at)
    highest = max(float(tensor.max()) for tensor in at)
    if not below and not above:
        return _same, _same
    if below and lowest >= 0.0 and highest <= 1.0 and above:
        return torch.sigmoid, _logit
    if below and lowest >= 0.0 and not above:
        return torch.nn.functional.softplus, _inverse_softplus
    return None


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _logit(tensor: Tensor) -> Tensor:
    return torch.logit(tensor, eps=1e-4)


def _inverse_softplus(tensor: Tensor) -> Tensor:
    floor = tensor.clamp(min=1e-4)
    return floor + torch.log(-torch.expm1(-floor))


class _Enough(Exception):  # noqa: N818 - nothing is wrong, the search is over
    """The search has come as low as it was asked to."""


def descend(function: Function, start: Sequence[Tensor], enough: float) -> list[Tensor]:
    """Give the point that L-BFGS reaches from one start; it stops at what is not above `enough`."""
    leaves = _leaves(start)
    optimizer = torch.optim.LBFGS(
        leaves,
        max_iter=_ITERATIONS,
        max_eval=_EVALUATIONS,
        history_size=10,
        tolerance_grad=1e-9,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )
    step = cast("Callable[[Callable[[], float]], object]", optimizer.step)
    with contextlib.suppress(_Enough, RuntimeError, ValueError, IndexError):
        step(lambda: _differentiate(function, leaves, enough))
    return [leaf.detach() for leaf in leaves]


def _adam(function: Function, start: Sequence[Tensor], enough: float) -> list[Tensor]:
    leaves = _leaves(start)
    optimizer = torch.optim.Adam(leaves, lr=_RATE)
    with contextlib.suppress(_Enough, RuntimeError, ValueError, IndexError):
        for step in range(_POLISHING):
            optimizer.param_groups[0]["lr"] = _RATE * (1.0 - step / _POLISHING)
            _differentiate(function, leaves, enough)
            optimizer.step()
    return [leaf.detach() for leaf in leaves]


def _leaves(start: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in start]


def _differentiate(function: Function, leaves: Sequence[Tensor], enough: float) -> float:
    with torch.enable_grad():
        loss = function(leaves)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    reached = float(loss.detach())
    if reached <= enough:
        raise _Enough
    # The loss is a mean: without its number of terms in place, steps and tolerances would have no scale.
    terms = max(leaf.shape[0] if leaf.ndim else 1 for leaf in leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        leaf.grad = terms * gradient
    return terms * reached
