r"""Density and fractions from the quadrature that one random start has built.

For a start q uniform on the sphere, $n\,q^\top f(A)\,q$ estimates $\mathrm{tr} f(A)$, and the eigenpairs of
the run's Jacobi matrix are a Gauss rule for it (Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38, 2017).
Eigenvalues at both ends that the run has settled need no estimate: they are taken out with weight 1/n each,
and the nodes between them share the rest.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from unstuck.curvature.lanczos import Array, Cycle, Lanczos, Ritz, eigenpairs
from unstuck.curvature.records import Density
from unstuck.estimate import Estimate

_SETTLED = 1e-2  # relative error from which on an eigenvalue counts as known
_RESOLVED = 1e-7  # nodes closer than this share of the radius are one: a Radau rule cannot keep them apart
_HEAVY = 1e-3  # chance that as many eigenvalues as were found weigh as much as they do


@dataclass(frozen=True)
class Rule:
    """A quadrature: point masses at ascending nodes, whose weights sum to one."""

    nodes: Array
    weights: Array

    def record(self) -> Density:
        """Return the same as plain numbers."""
        return Density(tuple(self.nodes.tolist()), tuple(self.weights.tolist()))

    def beyond(self, point: float) -> float:
        """Weight strictly above `point`."""
        return float(self.weights[self.nodes > point].sum())


@dataclass(frozen=True)
class Known:
    """All eigenvalues outside of [low, high].

    Attributes:
        values: Ascending, every one as often as it occurs.
        low: Below it lie only known eigenvalues.
        high: Above it too.
    """

    values: Array
    low: float
    high: float


@dataclass(frozen=True)
class Quadrature:
    """What a run from a random start knows about the distribution of all eigenvalues.

    Attributes:
        cycle: The run's first: only there the basis begins with the start.
        known: Eigenvalues that need no estimate.
        seen: All Ritz values. Of k Ritz values beyond a point at least k eigenvalues are (Cauchy).
        size: Number of eigenvalues.
    """

    cycle: Cycle
    known: Known
    seen: Array
    size: int

    def mirrored(self) -> "Quadrature":
        """Return what would be known of the negated operator."""
        cycle = Cycle((), (), [-value for value in self.cycle.diagonal], self.cycle.offdiagonal)
        known = Known(-self.known.values[::-1], -self.known.high, -self.known.low)
        return Quadrature(cycle, known, -self.seen[::-1], self.size)


def quadrature(run: Lanczos, ritz: Ritz) -> Quadrature:
    """Collect what a run knows; `ritz` is its own."""
    cycle, size = run.chains[0].cycles[0], run.operator.size
    return Quadrature(cycle, known_ends(ritz, gauss(jacobi(cycle)), size), ritz.values, size)


def jacobi(cycle: Cycle) -> Array:
    """Return the tridiagonal matrix of a run's first cycle."""
    off = cycle.offdiagonal[:-1]
    return np.diag(cycle.diagonal) + np.diag(off, 1) + np.diag(off, -1)


def gauss(matrix: Array) -> Rule:
    """Nodes and weights of a Jacobi matrix: eigenvalues, and first entries of eigenvectors squared."""
    nodes, vectors = eigenpairs(matrix, banded=True)
    return Rule(nodes, vectors[0] ** 2)


def radau(cycle: Cycle, point: float) -> Rule:
    r"""Return the rule with one more node, which lies at `point` (Golub, SIAM Review 15, 1973).

    By the Chebyshev-Markov-Stieltjes inequalities the weight of all nodes below the point bounds the share of
    the density below it from below; with the point's own weight, from above. No narrower bounds follow from
    the run.
    """
    matrix = jacobi(cycle)
    coupling = cycle.offdiagonal[-1]
    values, vectors = eigenpairs(matrix, banded=True)
    exhausted = coupling <= _RESOLVED**2 * np.abs(values).max()
    if exhausted or np.abs(values - point).min() <= _resolution(matrix):
        return Rule(values, vectors[0] ** 2)
    corner = point + coupling**2 * float(np.sum(vectors[-1] ** 2 / (values - point)))
    bordered = np.zeros((len(matrix) + 1, len(matrix) + 1))
    bordered[:-1, :-1] = matrix
    bordered[-1, -2] = bordered[-2, -1] = coupling
    bordered[-1, -1] = corner
    return gauss(bordered)


def known_ends(ritz: Ritz, rule: Rule, size: int) -> Known:
    """Return the eigenvalues at both ends that a run has settled.

    A run finds one copy of a repeated eigenvalue at first. So the start's share in what was found at an end
    is compared with what so many eigenvalues can have (times n it is chi-squared, a degree for each): an end
    that weighs too much is a cluster and stays in the quadrature.

    Args:
        ritz: From the run.
        rule: The Gauss rule of its first cycle.
        size: Number of eigenvalues.
    """
    values = ritz.values
    settled = ritz.errors <= _SETTLED * np.abs(values)
    cuts = 0.5 * (values[1:] + values[:-1])
    high = _known_count(settled[::-1], -cuts[::-1], Rule(-rule.nodes[::-1], rule.weights[::-1]), size)
    low = _known_count(settled[: len(settled) - high], cuts, rule, size)
    above = len(values) - high
    return Known(
        np.concatenate((values[:low], values[above:])),
        float(cuts[low - 1]) if low else -math.inf,
        float(cuts[above - 1]) if high else math.inf,
    )


def deflated(rule: Rule, known: Known, size: int) -> Rule:
    """Put the known eigenvalues in the place of the nodes in their ranges, with weight 1/size each."""
    between = (rule.nodes >= known.low) & (rule.nodes <= known.high)
    share = float(rule.weights[between].sum())
    if not share > 0:
        return rule
    nodes = np.concatenate((rule.nodes[between], known.values))
    scaled = rule.weights[between] * ((1 - len(known.values) / size) / share)
    weights = np.concatenate((scaled, np.full(len(known.values), 1 / size)))
    order = np.argsort(nodes)
    return Rule(nodes[order], weights[order])


def density(found: Quadrature) -> Rule:
    """Return the deflated Gauss rule."""
    return deflated(gauss(jacobi(found.cycle)), found.known, found.size)


def fraction_above(found: Quadrature, point: float, *, blur: float) -> Estimate:
    """Estimate the fraction of eigenvalues above `point`.

    The value is the middle of what the run leaves possible. The error holds half of that interval, and the
    chance of the start: a share p of the sphere's m dimensions has variance 2 p (1 - p) / (m + 2).

    Args:
        found: From a run.
        point: Where to cut.
        blur: Eigenvalues closer to the point than this may lie on either side.
    """
    size, known, at = found.size, found.known, _resolution(jacobi(found.cycle))
    upper, lower = point + blur + at, point - blur - at
    least = deflated(radau(found.cycle, point + blur), known, size).beyond(upper)
    most = deflated(radau(found.cycle, point - blur), known, size).beyond(lower)
    least = max(least, int(np.count_nonzero(found.seen > upper)) / size)
    most = max(least, min(most, 1 - int(np.count_nonzero(found.seen <= lower)) / size))
    middle, half = 0.5 * (most + least), 0.5 * (most - least)
    rest = size - len(known.values)
    share = (middle * size - int(np.count_nonzero(known.values > point))) / rest
    if half > 0:  # what the start has hardly touched may still be one eigenvalue
        share = min(max(share, 1 / rest), 1 - 1 / rest)
    chance = rest / size * math.sqrt(2 * max(0.0, share * (1 - share)) / (rest + 2))
    return Estimate(middle, math.hypot(half, chance))


def _known_count(settled: npt.NDArray[np.bool_], cuts: Array, rule: Rule, size: int) -> int:
    """Count the leading eigenvalues, of all but the last, that are settled and together not too heavy."""
    longest = int(np.argmin(np.append(settled, False)))
    for count in range(min(longest, len(cuts)), 0, -1):
        weight = float(rule.weights[rule.nodes <= cuts[count - 1]].sum())
        if size * weight <= chdtri(count, _HEAVY) and weight < 1 - _RESOLVED:
            return count
    return 0


def _resolution(matrix: Array) -> float:
    return _RESOLVED * float(np.abs(matrix).sum(axis=0).max())
