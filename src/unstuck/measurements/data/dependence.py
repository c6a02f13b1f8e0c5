"""Whether labels depend on inputs: predictions of left-out examples, against those of permuted labels."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy.special import stdtr
from torch import Tensor

from unstuck.estimate import Estimate

Matrix = Float[Tensor, "n n"]

# As many permutations as a p-value of one in two hundred needs; and where that comes near enough to matter, as many
# as one in a thousand needs.
_PERMUTATIONS, _MORE, _NEAR = 200, 1000, 0.02

# But usually labels depend on inputs plainly: a probe that stands this many standard deviations above the first
# few permutations settles it (Student's law with 29 degrees of freedom gives one in 10^8).
_FIRST, _PLAIN = 30, 8.0

# Ridge on inputs that were standardised, as multiples of the mean eigenvalue: one that trusts the data, one
# that does not.
_RIDGES = (1e-2, 1.0)

# Kernels of these widths, in multiples of the median distance: the wide one is nearly linear or quadratic.
_WIDTHS = (0.3, 1.0)
_KERNEL_RIDGE = 1e-2

# Few neighbours follow fine structure, many average noise away.
_NEIGHBOURS = (3, 15)

# Wider inputs are projected on this many principal components, more targets on this many random directions.
_WIDEST, _TARGETS = 256, 6


@dataclass(frozen=True)
class Dependence:
    """One test of independence.

    Attributes:
        p_value: Share of permutations (the data as they are among them) that are predicted at least as well
            by the probe that stands out most; by Student's law where a few settle it.
        correlation: Of labels and predictions of left-out examples, by that probe; its error is the spread
            over permutations.
        detectable: Correlation that would have been noticed at p < 0.05 with probability 0.9.
    """

    p_value: float
    correlation: Estimate
    detectable: float


def dependence(
    features: Sequence[Float[Tensor, "n _"]], targets: Float[Tensor, "n _"], *, seed: int
) -> Dependence:
    r"""Test whether `targets` can be predicted from any of several sets of features.

    Each probe is a linear smoother $\hat Y = S Y$ that leaves out the example that it predicts, so that permuted
    labels cost one product with a matrix. The statistic is $\langle Y, \hat Y \rangle / (\|Y\| \|\hat Y\|)$;
    probes are compared by their distance from the mean of the permuted in standard deviations, and the largest
    of these distances with the largest of each permutation (Westfall & Young, 1993), so that many probes do
    not make a false alarm more likely.
    """
    drawn = torch.Generator().manual_seed(seed)
    count = len(targets)
    wanted = _reduced(targets, drawn)
    columns = [wanted] + [wanted[torch.randperm(count, generator=drawn)] for _ in range(_MORE)]
    few = torch.stack(columns[: _FIRST + 1])
    smoothers: list[Tensor] = []
    for smoother in _smoothers(features):
        scores = _scores(smoother, few)[None]
        height = float(_heights(scores)[0, 0])
        if height > _PLAIN:
            return replace(_judged(scores), p_value=float(stdtr(_FIRST - 1, -height)))
        smoothers.append(smoother)
    if not smoothers:
        return Dependence(1.0, Estimate(0.0, math.inf), math.inf)
    scores = _all_scores(smoothers, columns[: _PERMUTATIONS + 1])
    found = _judged(scores)
    if found.p_value > _NEAR:
        return found
    return _judged(torch.cat([scores, _all_scores(smoothers, columns[_PERMUTATIONS + 1 :])], dim=1))


def _all_scores(smoothers: Sequence[Matrix], columns: Sequence[Tensor]) -> Float[Tensor, "s p"]:
    stacked = torch.stack(list(columns))
    return torch.stack([_scores(smoother, stacked) for smoother in smoothers])


def _judged(scores: Float[Tensor, "s p"]) -> Dependence:
    """Judge the scores of each smoother for the targets as they are, which come first, and permuted."""
    heights = _heights(scores)
    largest = heights.amax(0)
    best = int(heights[:, 0].argmax())
    mean, error = float(scores[best, 1:].mean()), float(scores[best, 1:].std())
    beaten = int((largest[1:] >= largest[0]).sum())
    threshold = float(largest[1:].quantile(0.95))
    return Dependence(
        p_value=(1 + beaten) / len(largest),
        correlation=Estimate(float(scores[best, 0]) - mean, error),
        detectable=(threshold + _NINE_TENTHS) * error,
    )


def _heights(scores: Float[Tensor, "s p"]) -> Float[Tensor, "s p"]:
    permuted = scores[:, 1:]
    return (scores - permuted.mean(1, keepdim=True)) / permuted.std(1, keepdim=True).clamp(min=1e-9)


# The standard normal quantile of 0.9.
_NINE_TENTHS = 1.2816


def normal_scores(targets: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Replace each column by the normal quantiles of its ranks: outliers then count like others."""
    count = len(targets)
    ordered = targets.double()
    columns: list[Tensor] = []
    for column in ordered.T:
        values, inverse, counts = column.unique(return_inverse=True, return_counts=True)
        middle = counts.cumsum(0) - (counts - 1) / 2.0
        columns.append(
            torch.special.ndtri(middle / (count + 1.0))[inverse] if len(values) > 1 else 0 * column
        )
    return torch.stack(columns, 1).float()


def standardised(features: Float[Tensor, "n _"]) -> Float[Tensor, "n _"]:
    """Centre and scale each column, leave out those that do not vary, and rotate wide ones on few components."""
    scaled = _scaled(features)
    if scaled.shape[1] <= _WIDEST:
        return scaled
    drawn = torch.Generator().manual_seed(0)
    sketch = torch.randn(scaled.shape[1], _WIDEST, generator=drawn) / math.sqrt(_WIDEST)
    # One power iteration of the randomised range finder (Halko, Martinsson & Tropp, 2011) is enough here.
    basis = torch.linalg.qr(scaled.T @ (scaled @ sketch)).Q
    return scaled @ basis


def directions(features: Float[Tensor, "n _"]) -> float:
    r"""In how many directions examples differ.

    $d = (\sum \lambda)^2 / \sum \lambda^2$ over the eigenvalues of the scaled columns' covariance. That of a sample
    of n is less, and put right here: of isotropic columns it is $(1/d + 1/n)^{-1}$.
    """
    scaled = _scaled(features)
    gram = scaled @ scaled.T
    share = float(gram.square().sum() / gram.trace().square().clamp(min=1e-30)) - 1.0 / len(gram)
    return 1.0 / share if share > 0.0 else float(scaled.shape[1])


def _scaled(features: Float[Tensor, "n _"]) -> Float[Tensor, "n _"]:
    centred = features.float() - features.float().mean(0)
    spread = centred.std(0)
    kept = centred[:, spread > 1e-6 * spread.max().clamp(min=1e-30)]
    return kept / kept.std(0).clamp(min=1e-30) if kept.shape[1] else kept


def _reduced(targets: Tensor, drawn: torch.Generator) -> Tensor:
    wanted = targets.float() - targets.float().mean(0)
    if wanted.shape[1] > _TARGETS:
        wanted = wanted @ torch.randn(wanted.shape[1], _TARGETS, generator=drawn)
    return wanted


def _scores(smoother: Tensor, stacked: Float[Tensor, "p n c"]) -> Float[Tensor, " p"]:
    permuted, count, columns = stacked.shape
    flat = stacked.permute(1, 0, 2).reshape(count, permuted * columns)
    predicted = (smoother @ flat).reshape(count, permuted, columns).permute(1, 0, 2)
    size = predicted.flatten(1).norm(dim=1) * stacked.flatten(1).norm(dim=1)
    return (predicted * stacked).flatten(1).sum(1) / size.clamp(min=1e-30)


def _smoothers(features: Sequence[Tensor]) -> Iterable[Matrix]:
    for each in features:
        scaled = standardised(each)
        if not scaled.shape[1]:
            continue
        linear = scaled @ scaled.T
        yield from (_left_out(linear, ridge * float(linear.trace()) / len(linear)) for ridge in _RIDGES)
        squared = torch.cdist(scaled, scaled).square()
        median = float(squared.flatten()[:: max(squared.numel() // 10_000, 1)].median())
        for width in _WIDTHS:
            kernel = torch.exp(-squared / max(2.0 * width * width * median, 1e-30))
            yield _left_out(kernel, _KERNEL_RIDGE)
        yield from (_neighbours(squared, count) for count in _NEIGHBOURS if count < len(squared) // 4)


def _left_out(kernel: Matrix, ridge: float) -> Matrix:
    r"""Give the smoother of kernel ridge regression with an intercept that leaves each example out.

    With $G = K + \lambda I + \gamma 1 1^\top$, the left-out residual is
    $[G^{-1} y]_i / [G^{-1}]_{ii}$ (Rasmussen & Williams, 2006, equation 5.12).
    """
    count = len(kernel)
    gram = kernel.double() + max(ridge, 1e-8) * torch.eye(count, dtype=torch.float64) + 1.0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    return (torch.eye(count, dtype=torch.float64) - inverse / inverse.diagonal()[:, None]).float()


def _neighbours(squared: Matrix, count: int) -> Matrix:
    apart = squared.clone().fill_diagonal_(math.inf)
    nearest = apart.topk(count, largest=False).indices
    return torch.zeros_like(squared).scatter_(1, nearest, 1.0 / count)
