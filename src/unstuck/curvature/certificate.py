r"""How far the spectrum can reach beyond what a Krylov run has seen, with a probability.

Let u be the unit eigenvector of an eigenvalue $\lambda$ and $b = \langle q_1, u\rangle$. The recurrence
of the run fixes the share of u in every basis vector, $\langle q_j, u\rangle = b\, c_j(\lambda)$ (without
restart the $c_j$ are the orthonormal Lanczos polynomials), and Bessel's inequality says
$b^2 \sum_j c_j(\lambda)^2 \le 1$. For a start uniform on the sphere
$b^2 \sim \mathrm{Beta}(\frac12, \frac{n-1}2)$. So with probability $1-\delta$ the extreme eigenvalue does not
lie where $\sum_j c_j^2$ exceeds one over the $\delta$-quantile (after van Dorsselaer, Hochstenbach & van der
Vorst, SIAM J. Matrix Anal. Appl. 22, 2000); it is one fixed eigenvalue, so one $\delta$ is enough.

A restart does not end this: $(\lambda - \theta_i) \langle y_i, u\rangle = b_i \langle q, u\rangle$ gives the
share in each kept Ritz vector from that in the vector after them.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.special import betaincinv

from unstuck.curvature.lanczos import Chain, Cycle
from unstuck.curvature.records import Certificate

_BISECTIONS = 14  # each bound is sound; so many bring it to 1e-4 of its distance to the Ritz value


def floor(chain: Chain, lowest: float, radius: float, *, probability: float, noise: float) -> Certificate:
    """Bound all eigenvalues from below.

    Args:
        chain: A run from a random start.
        lowest: Smallest Ritz value.
        radius: Largest |Ritz value|.
        probability: That the bound holds.
        noise: Relative error of a product: it may hide, and it shifts, eigenvalues by `noise` * radius.
    """
    bound = _certified(chain, lowest, radius, probability, noise) - noise * radius
    return Certificate(bound, _share(-bound, radius), probability)


def ceiling(chain: Chain, highest: float, radius: float, *, probability: float, noise: float) -> Certificate:
    """Bound all eigenvalues from above; the mirror of `floor`."""
    bound = _certified(mirrored(chain), -highest, radius, probability, noise) - noise * radius
    return Certificate(-bound, _share(-bound, radius), probability)


def excludes(chain: Chain, point: float, *, probability: float, hidden: float) -> bool:
    """Whether the chain's space has, with this probability, no eigenvalue at or below `point`.

    Args:
        chain: A run from a random start.
        point: At or above the smallest Ritz value nothing is excluded.
        probability: That the answer holds.
        hidden: Absolute error of a product.
    """
    return _log_sum(chain, point, hidden) >= -math.log(_quantile(chain.dimension, 1 - probability))


def mirrored(chain: Chain) -> Chain:
    """Return the chain that the negated operator would have given."""
    cycles = [
        Cycle(
            tuple(-value for value in cycle.kept),
            tuple(-value for value in cycle.couplings),
            [-value for value in cycle.diagonal],
            cycle.offdiagonal,
        )
        for cycle in chain.cycles
    ]
    return Chain(chain.dimension, cycles)


def _certified(chain: Chain, lowest: float, radius: float, probability: float, noise: float) -> float:
    if radius == 0:
        return 0.0
    hidden = noise * radius
    step = 1e-6 * radius
    while not excludes(chain, lowest - step, probability=probability, hidden=hidden):
        step *= 4
    low, high = lowest - step, lowest
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if excludes(chain, middle, probability=probability, hidden=hidden):
            low = middle
        else:
            high = middle
    return low


def _quantile(dimension: int, delta: float) -> float:
    return float(betaincinv(0.5, (dimension - 1) / 2, delta)) if dimension > 1 else 1.0


def _share(beyond: float, radius: float) -> float:
    return max(0.0, beyond / radius) if radius > 0 else 0.0


def _log_sum(chain: Chain, point: float, hidden: float) -> float:
    """Return the log of the sum of squared shares at `point`; -inf unless it lies below all Ritz values."""
    best, log_share = -math.inf, 0.0
    for cycle in chain.cycles:
        if cycle.kept and point >= min(cycle.kept):
            return -math.inf
        gains = _log_gains(cycle, point, hidden)
        if gains is None:
            return -math.inf
        logs = 2 * (log_share + np.cumsum([0.0, *gains]))
        logs[0] += math.log1p(sum((b / (point - kept)) ** 2 for b, kept in _arrow(cycle)))
        if gains:
            best = max(best, float(np.logaddexp.reduce(logs)))
            log_share += math.fsum(gains)
    return best


def _log_gains(cycle: Cycle, point: float, hidden: float) -> list[float] | None:
    """Return every log |c_{j+1} / c_j|: a pivot of T - point over an off-diagonal. None if a pivot is negative."""
    correction = sum(b * b / (kept - point) for b, kept in _arrow(cycle))
    gains: list[float] = []
    for alpha, beta in zip(cycle.diagonal, cycle.offdiagonal, strict=True):
        pivot = alpha - point - correction
        if pivot <= 0:
            return None
        # What a coupling as small as the noise leaves out may be as large as the noise.
        gains.append(math.log(pivot) - math.log(beta + hidden) if beta + hidden > 0 else math.inf)
        correction = beta * beta / pivot
    return gains


def _arrow(cycle: Cycle) -> Iterator[tuple[float, float]]:
    return zip(cycle.couplings, cycle.kept, strict=True)
