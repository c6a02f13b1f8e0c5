r"""The gradient noise scale, unbiased, with its error: simple, curvature-weighted, in the optimizer's metric.

With $g_j$ the gradient of a piece of $b_j$ examples, $N = \sum b_j$, $\bar g = \sum b_j g_j / N$ and m pieces,
$\mathrm{tr}\,\Sigma \approx (\sum b_j |g_j|^2 - N |\bar g|^2) / (m - 1)$ and
$|G|^2 \approx |\bar g|^2 - f\,\mathrm{tr}\,\Sigma / N$, both without bias, where f is the share of the data that
was not looked at (McCandlish et al., 2018, appendix A.1, for pieces of any size; Cochran, 1977, section 2.5, for f).
Their ratio's error is the jackknife's over groups of pieces, and its interval Fieller's (1954), which knows that a
ratio has no upper end when its denominator may be zero.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from unstuck.batch.gradients import Grouped
from unstuck.batch.records import Layer, Noise, Scale
from unstuck.estimate import Estimate

_LEVEL = 0.95

# Turns after which the lower end has settled.
_TURNS = 8

# Columns that are multiplied in the sums' own type, which are few enough for its rounding; what comes of them is
# added in float64.
_BLOCK = 4096

Array = np.ndarray[tuple[int], np.dtype[np.float64]]
Form = Callable[[Float[Tensor, "k n"]], Float[Tensor, "k n"]]


def measure_noise(found: Grouped, *, total: int | None, separable: bool) -> Noise:
    """Give the noise scales of what was found, but for the curvature-weighted one.

    Args:
        found: Gradients in groups.
        total: How many examples all the data hold; None where there is no end of them.
        separable: Whether a batch's gradient is the mean of its examples'.
    """
    examples, unseen = sum(found.examples), _unseen(found, total)
    every = _Sums.of(found, 0, unseen)
    metric = next((row for row, weights in enumerate(found.metrics) if weights is not None), None)
    layers = zip(found.names, found.sizes, strict=True)
    return Noise(
        simple=every.all().scale(),
        curved=None,
        metric=None if metric is None else _Sums.of(found, metric, unseen).all().scale(),
        layers=tuple(Layer(name, size, every.only(slot).scale()) for slot, (name, size) in enumerate(layers)),
        signal=every.all().signal(),
        variance=every.all().variance(),
        examples=examples,
        piece=round(examples / sum(found.pieces)),
        whole=total is not None and examples >= total,
        separable=separable,
        singly=found.singly,
    )


def _unseen(found: Grouped, total: int | None) -> float:
    """The share of the data that was not looked at."""
    return 1.0 if total is None else max(1.0 - sum(found.examples) / total, 0.0)


class _Pair:
    """Numerator and denominator of a noise scale, whole and with each group left out."""

    def __init__(self, above: Array, below: Array, unseen: float, examples: int, *, split: bool) -> None:
        # The first of each is the whole; the rest leave one group out.
        self._above, self._below = above, below
        self._unseen, self._examples = unseen, examples
        # Which examples came together is chance also where all of them were seen, and moves the scatter of pieces.
        self._scattered = unseen if split else 1.0
        self._groups = len(above) - 1

    def signal(self) -> Estimate:
        return Estimate(float(self._below[0]), math.sqrt(self._errors()[2]), self._groups - 1.0)

    def variance(self) -> Estimate:
        return Estimate(float(self._above[0]), math.sqrt(self._errors()[0]), self._groups - 1.0)

    def scale(self) -> Scale:
        above, below = float(self._above[0]), float(self._below[0])
        errors = self._errors()
        low, high = _interval(above, below, errors, self._groups - 1.0)
        if not (0.0 < below < math.inf) or not math.isfinite(high):
            return Scale(None, low, math.inf)
        value = above / below
        error = math.sqrt(max(errors[0] - 2.0 * value * errors[1] + value**2 * errors[2], 0.0)) / below
        # Whether the data are a sample or all there is, N or N - 1, is a question of definition.
        either = value / self._examples
        estimate = Estimate(value, max(error, either), self._groups - 1.0)
        return Scale(estimate, min(low, value - either), max(high, value + either))

    def _errors(self) -> tuple[float, float, float]:
        """Squared errors of the numerator, of both, and of the denominator, for what was not looked at."""
        above, below = self._above, self._below
        return (
            self._scattered * self._covariance(above, above),
            self._unseen * self._covariance(above, below),
            self._unseen * self._covariance(below, below),
        )

    def _covariance(self, one: Array, other: Array) -> float:
        """Of the jackknife (Efron & Tibshirani, 1993, equation 11.5)."""
        count = self._groups
        rests = [values[1:] - values[1:].mean() for values in (one, other)]
        return (count - 1) / count * float(rests[0] @ rests[1])


def _interval(above: float, below: float, errors: Sequence[float], degrees: float) -> tuple[float, float]:
    r"""Fieller's, with a lower end that knows of the signal's own error.

    Where $|G|^2$ is larger than it seems, as the lower end supposes, so is the error of its estimate, in proportion:
    $4\,G^\top \Sigma G / N$. With what it seems to be, one interval in ten would begin too high.
    """
    low, high = fieller(above, below, errors, degrees)
    for _ in range(_TURNS if below > 0.0 else 0):
        if low == 0.0:
            break
        larger = max(above / (low * below), 1.0)
        low = min(fieller(above, below, (*errors[:2], larger * errors[2]), degrees)[0], low)
    return low, high


def fieller(above: float, below: float, errors: Sequence[float], degrees: float) -> tuple[float, float]:
    r"""Give the interval of a ratio of two estimates (Fieller, 1954).

    All r with $(A - rB)^2 \le t^2 (v_{AA} - 2 r v_{AB} + r^2 v_{BB})$; no upper end where B may be zero.
    """
    t = -float(stdtrit(min(degrees, 1e9), 0.5 * (1.0 - _LEVEL)))
    of_above, both, of_below = (t * t * error for error in errors)
    square, line, constant = below * below - of_below, above * below - both, above * above - of_above
    if square <= 0.0 or below <= 0.0:
        return max(_lower(above, below, errors, t), 0.0), math.inf
    # A / B itself is inside, so that only rounding makes this negative.
    spread = math.sqrt(max(line * line - square * constant, 0.0))
    return max((line - spread) / square, 0.0), (line + spread) / square


def _lower(above: float, below: float, errors: Sequence[float], t: float) -> float:
    """A lower end still: what is surely above, over what is surely below."""
    most = below + t * math.sqrt(max(errors[2], 0.0))
    return (above - t * math.sqrt(max(errors[0], 0.0))) / most if most > 0.0 else 0.0


class _Sums:
    """The sums that every noise scale is made of, for each parameter tensor."""

    def __init__(self, squares: Tensor, own: Tensor, along: Tensor, found: Grouped, unseen: float) -> None:
        self._squares, self._own, self._along = squares, own, along
        self._found, self._unseen = found, unseen

    @classmethod
    def of(cls, found: Grouped, row: int, unseen: float) -> "_Sums":
        metric, groups = found.metrics[row], len(found.sums)
        own = torch.zeros(len(found.sizes), groups, dtype=torch.float64, device=found.sums.device)
        along = torch.zeros_like(own)
        begin = 0
        for slot, size in enumerate(found.sizes):
            for first in range(begin, begin + size, _BLOCK):
                part = slice(first, min(first + _BLOCK, begin + size))
                each = found.sums[:, part]
                weighted = each if metric is None else each * metric[part]
                own[slot] += torch.linalg.vecdot(weighted, each)
                along[slot] += weighted @ each.sum(0)
            begin += size
        return cls(found.squares[row], own.cpu(), along.cpu(), found, unseen)

    def all(self) -> _Pair:
        return self._pair(self._squares.sum(0), self._own.sum(0), self._along.sum(0))

    def only(self, slot: int) -> _Pair:
        return self._pair(self._squares[slot], self._own[slot], self._along[slot])

    def _pair(self, squares: Tensor, own: Tensor, along: Tensor) -> _Pair:
        pieces = np.array(self._found.pieces, dtype=np.float64)
        examples = np.array(self._found.examples, dtype=np.float64)
        # |U|^2 and, with group k left out, |U - U_k|^2 = |U|^2 - 2 U.U_k + |U_k|^2.
        whole = float(along.sum())
        norms = np.append(whole, whole - 2.0 * along.numpy() + own.numpy())
        summed = np.append(float(squares.sum()), float(squares.sum()) - squares.numpy())
        counts = np.append(pieces.sum(), pieces.sum() - pieces)
        seen = np.append(examples.sum(), examples.sum() - examples)
        variance = (summed - norms / seen) / (counts - 1.0)
        signal = norms / seen**2 - self._unseen * variance / seen
        split = bool(pieces.sum() == examples.sum())
        return _Pair(variance, signal, self._unseen, int(examples.sum()), split=split)


def measure_curved(
    found: Grouped,
    product: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]],
    *,
    total: int | None,
    groups: int,
) -> Scale:
    r"""Give $\mathrm{tr}(H\Sigma) / (G^\top H G)$, H as it is on a fixed sample.

    The pieces of a group, deviations from the mean, are added with random signs to one vector z, whose
    $z^\top H z$ is on average the sum of theirs (Hutchinson, 1989). Leaving a group out moves the mean by so little
    that the second order is left out. Costs a product for each of the `groups` that are used, and one.
    """
    unseen = _unseen(found, total)
    examples, pieces = float(sum(found.examples)), float(sum(found.pieces))
    mean = found.sums.sum(0) / examples
    bent = product(mean).double()
    along = float(bent @ mean.double())
    used = min(groups, len(found.pieces))
    forms: list[float] = []
    for group in range(used):
        vector = found.signed[group] - found.signs[group] * mean
        forms.append(float(vector.double() @ product(vector).double()))
    counts = np.array(found.pieces[:used], dtype=np.float64)
    values = np.array(forms)
    # The mean over the pieces of a group, of m pieces m / (m - 1) times too small.
    large = pieces / (pieces - 1.0)
    traces = np.append(values.sum() / counts.sum(), (values.sum() - values) / (counts.sum() - counts)) * large
    # Without group k the mean moves by (N_k mean - U_k) / (N - N_k), for the groups that are used as for all.
    shifts = np.array(
        [
            2.0
            * (own * along - float(bent @ found.sums[group].double()))
            / (examples - own)
            * math.sqrt(len(found.pieces) / used)
            for group, own in enumerate(map(float, found.examples[:used]))
        ]
    )
    signal = along + np.append(0.0, shifts) - unseen * traces / examples
    # The signs are random also where all the data were seen.
    return _Pair(traces, signal, 1.0, int(examples), split=False).scale()
