"""The gradient of each batch: their mean on either half, and how far they scatter."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.estimate import Estimate
from unstuck.measurements.judging import Halves
from unstuck.measurements.records import Noise
from unstuck.objective import Objective

# Fewer batches tell nothing of their scatter's own error.
_FEWEST = 3


@dataclass(frozen=True)
class Gradients:
    """Mean gradients of the half that finds and of the one that judges, and the noise of batches.

    Attributes:
        values: Every batch's loss, weight decay included.
        finite: Whether neither a loss nor a gradient was NaN or Inf.
    """

    finds: Float[Tensor, " n"]
    judges: Float[Tensor, " n"]
    noise: Noise | None
    values: tuple[float, ...]
    finite: bool


def measure_gradients(objective: Objective, halves: Halves) -> Gradients:
    r"""Measure the loss and the gradient of each batch once.

    From all m batches of size b, $|G|^2 \approx (|\sum g_i|^2 - \sum |g_i|^2) / (m (m - 1))$ and
    $\mathrm{tr}\,\Sigma \approx b \sum |g_i - \bar g|^2 / (m - 1)$, both without bias (McCandlish et al., 2018,
    appendix A.1, for all pairs of batches at once). Numerator and denominator are averaged apart and then
    divided; errors by the jackknife over batches. Where the batches are all the data, their mean is $G$ itself, and
    nothing has to be taken off for its noise. Costs one gradient over the sample; what is kept at a time is one
    gradient and two sums.
    """
    sums = {half: torch.zeros_like(objective.theta) for half in ("finds", "judges")}
    shares = dict.fromkeys(sums, 0.0)
    total = torch.zeros_like(objective.theta)
    values: list[float] = []
    squares: list[float] = []
    sketches: list[Tensor] = []
    space = objective.space
    for index, (value, gradient) in enumerate(objective.batch_gradients(objective.theta)):
        weight = objective.weights[index]
        values.append(value)
        for half, members in (("finds", halves.finds), ("judges", halves.judges)):
            if index in members:
                sums[half].add_(gradient, alpha=weight)
                shares[half] += weight
        total.add_(gradient)
        squares.append(space.square(gradient))
        sketches.append(_sketch(gradient))
    finds, judges = (sums[half] / shares[half] for half in sums)
    finite = all(map(math.isfinite, values)) and space.finite(total)
    noise = None
    if finite and len(squares) >= _FEWEST:
        noise = _noise(objective, squares, sketches, space.square(total))
        if halves.exhaustive:
            noise = _of_all_data(noise, space.square(finds + judges) / 4.0)
    return Gradients(finds, judges, noise, tuple(values), finite)


# Gradients are kept whole up to this many numbers, and beyond that as sums over as many strides with random signs,
# which keep inner products on average (count sketch; Charikar et al., 2002).
_SKETCH = 65_536


def _sketch(gradient: Float[Tensor, " n"]) -> Tensor:
    if gradient.numel() <= _SKETCH:
        return gradient.double()
    signs = torch.Generator().manual_seed(0)
    sketch = torch.zeros(_SKETCH, dtype=torch.float64)
    for part in gradient.detach().cpu().double().split(_SKETCH):
        drawn = (
            torch.randint(0, 2, (len(part),), generator=signs, dtype=torch.int8).double().mul_(2.0).sub_(1.0)
        )
        sketch[: len(part)].add_(part * drawn)
    return sketch


def _noise(objective: Objective, squares: list[float], sketches: list[Tensor], total: float) -> Noise:
    count = len(squares)
    batch = objective.examples / len(objective.batches)
    rows = torch.stack(sketches)
    # What leaving batch i out takes from |sum g|^2: 2 g_i . sum g - |g_i|^2.
    along = objective.space.reduce(rows @ rows.sum(0)).tolist()
    whole = math.fsum(squares)

    def signal(sum_squared: float, each: float, m: int) -> float:
        return (sum_squared - each) / (m * (m - 1))

    def variance(sum_squared: float, each: float, m: int) -> float:
        return batch * (each - sum_squared / m) / (m - 1)

    left = [
        (total - 2.0 * dot + square, whole - square, count - 1)
        for dot, square in zip(along, squares, strict=True)
    ]
    signals, variances = ([kind(*one) for one in left] for kind in (signal, variance))
    degrees = float(count - 1)
    there = signal(total, whole, count)
    scatter = variance(total, whole, count)
    simple = None
    strength = Estimate(there, _jackknife(signals), degrees)
    if strength.surely_above(0.0, sigmas=2.0):
        ratios = [above / max(below, 1e-12 * there) for above, below in zip(variances, signals, strict=True)]
        simple = Estimate(scatter / there, _jackknife(ratios), degrees)
    return Noise(batch, count, simple, Estimate(scatter, _jackknife(variances), degrees), strength)


def _of_all_data(noise: Noise, signal: float) -> Noise:
    simple = noise.variance / signal if signal > 0.0 else None
    return replace(noise, simple=simple, signal=Estimate(signal, 0.0))


def _jackknife(without: list[float]) -> float:
    """Standard error from the values with one batch left out (Efron & Tibshirani, 1993, equation 11.5)."""
    count = len(without)
    mean = math.fsum(without) / count
    return math.sqrt((count - 1) / count) * math.hypot(*(value - mean for value in without))
