"""Lanczos with full reorthogonalisation and thick restart, one product at a time, until the caller stops."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from unstuck.curvature.vectors import SMALLEST_CAPACITY, Basis, Operator, Room, norm, random_unit
from unstuck.errors import MeasurementError
from unstuck.interrupts import Interrupts

Array = npt.NDArray[np.float64]

_ROOM = Room()


@dataclass
class Cycle:
    r"""The recurrence between two restarts.

    With kept Ritz values $\theta_i$, couplings $b_i$, diagonal $\alpha_j$ and off-diagonal $\beta_j$:
    $A y_i = \theta_i y_i + b_i q_1$, $A q_1 = \sum_i b_i y_i + \alpha_1 q_1 + \beta_1 q_2$, and then
    $A q_j = \beta_{j-1} q_{j-1} + \alpha_j q_j + \beta_j q_{j+1}$.

    Attributes:
        kept: Ritz values that were kept by the restart; none in the first cycle.
        couplings: Of each kept Ritz vector to the first vector of this cycle.
        diagonal: One number for each product.
        offdiagonal: As many; the last couples to the vector that has not been multiplied yet.
    """

    kept: tuple[float, ...] = ()
    couplings: tuple[float, ...] = ()
    diagonal: list[float] = field(default_factory=list[float])
    offdiagonal: list[float] = field(default_factory=list[float])


@dataclass
class Chain:
    """All that grew from one start: it ends where the Krylov space of the start ends.

    Attributes:
        dimension: Of the space that the start was drawn from: the complement of all earlier chains.
        cycles: At least one; a restart adds one.
    """

    dimension: int
    cycles: list[Cycle]


@dataclass(frozen=True)
class Ritz:
    """Eigenpairs of the operator's compression to the basis.

    Attributes:
        values: Ascending.
        weights: Column i holds the coordinates of Ritz vector i in the basis.
        residuals: Norms of A y - theta y: a true eigenvalue lies within the residual.
    """

    values: Array
    weights: Array
    residuals: Array

    @property
    def radius(self) -> float:
        """Largest absolute value."""
        return float(np.abs(self.values).max())

    @property
    def errors(self) -> Array:
        r"""Of the values: the smaller of the residual r and $r^2/\text{gap}$ (Parlett 1998, section 11.7).

        The gap is to the neighbouring Ritz value, which stands for the rest of the spectrum, less its own
        error: at the edge of a bulk the neighbour is still far inside, and the gap without it would flatter.
        """
        return self._errors_with_gaps_less(self._errors_with_gaps_less(np.zeros_like(self.values)))

    def _errors_with_gaps_less(self, reach: Array) -> Array:
        if len(self.values) == 1:
            return self.residuals
        steps = np.diff(self.values)
        gaps = np.minimum(np.append(np.inf, steps - reach[:-1]), np.append(steps - reach[1:], np.inf))
        with np.errstate(divide="ignore", invalid="ignore"):
            quadratic = np.where(gaps > 0, self.residuals**2 / gaps, np.inf)
        return np.minimum(self.residuals, quadratic)


class Lanczos:
    r"""A Krylov run: $A Q = Q T + q b^\top$ with orthonormal rows in `basis`, the last of which is q.

    Every step multiplies q, orthogonalises the image twice against all rows, and borders T with b. Without a
    restart T is tridiagonal; after one (Wu & Simon, SIAM J. Matrix Anal. Appl. 22, 2000) it begins with a
    diagonal of kept Ritz values and an arrow of couplings. Where the Krylov space ends (b = 0), the run
    ends, or with a `generator` it goes on from a random vector orthogonal to everything before: so repeated
    eigenvalues are seen.

    Attributes:
        basis: k + 1 orthonormal rows; k when finished.
        projected: T, k x k, float64.
        coupling: b, length k.
        chains: The recurrences' numbers, start by start, for certificates and quadrature.
        scale: The largest norm of a product so far: a lower bound of the spectral norm.
        products: Products with the operator so far.
        finished: The basis spans a space that the operator does not leave, so there is nothing to go on with.
    """

    def __init__(
        self,
        operator: Operator,
        start: Float[Tensor, " n"],
        *,
        room: Room = _ROOM,
        generator: torch.Generator | None = None,
    ) -> None:
        """Begin at `start`, which need not be a unit vector.

        Args:
            operator: What to multiply with.
            start: Random to ask for the spectrum, the gradient to ask for descent.
            room: For the vectors that are held; beyond it the run restarts.
            generator: Where new starts are drawn from when a Krylov space ends.

        Raises:
            MeasurementError: `start` is zero or not finite, or `room` too small.
        """
        length = norm(start, operator.reduce)
        if not 0 < length < float("inf"):
            msg = f"`start` must be finite and not zero to start Lanczos from, its norm is {length}"
            raise MeasurementError(msg)
        if room.vectors < SMALLEST_CAPACITY:
            msg = f"`room` must be for at least {SMALLEST_CAPACITY} vectors, not {room.vectors}"
            raise MeasurementError(msg)
        self.operator = operator
        self.basis = Basis(operator, halved=room.halved)
        self.basis.append(start / length)
        self.projected: Array = np.zeros((0, 0))
        self.coupling: Array = np.zeros(0)
        self.chains = [Chain(operator.size, [Cycle()])]
        self.scale = 0.0
        self.products = 0
        self.finished = False
        self._asymmetry = 0.0
        self._capacity = room.vectors
        self._generator = generator

    @property
    def full(self) -> bool:
        """Whether the next step has to restart first."""
        return self._capacity <= len(self.basis) < self.operator.size

    @property
    def noise(self) -> float:
        """Relative error of a product: as the operator states, or more if the products were not symmetric."""
        seen = self._asymmetry / self.scale if self.scale > 0 else 0.0
        return max(self.operator.noise, self.operator.rounding, seen)

    def step(self) -> None:
        """Spend one product. An exception in it, Ctrl-C included, leaves the run as it was.

        Raises:
            MeasurementError: The product is not finite, or the run is finished.
        """
        if self.finished:
            msg = "this Krylov space is exhausted: look at `finished` before another step"
            raise MeasurementError(msg)
        if self.full:
            keep = self._capacity // 4
            self.restart(keep, keep)
        image = self.operator.matvec(self.basis[len(self.projected)])
        length = norm(image, self.operator.reduce)
        if not np.isfinite(length):
            msg = "a Hessian-vector product is not finite: look for NaN or Inf in parameters and data"
            raise MeasurementError(msg)
        rest, taken = self.basis.orthogonalise(image)
        with Interrupts().held():
            self._grow(rest, taken.double().cpu().numpy(), length)

    def ritz(self) -> Ritz:
        """Eigenpairs of T, with their residual norms."""
        restarted = any(cycle.kept for chain in self.chains for cycle in chain.cycles)
        values, weights = eigenpairs(self.projected, banded=not restarted)
        return Ritz(values, weights, np.abs(self.coupling @ weights))

    def vector(self, weights: Array) -> Float[Tensor, " n"]:
        """Return the unit vector with these coordinates in the basis."""
        combined = self.basis.combine(torch.from_numpy(weights).to(self.operator.like))
        return combined / norm(combined, self.operator.reduce)

    def restart(self, low: int, high: int) -> None:
        """Keep the `low` lowest and `high` highest Ritz vectors, and the vector to go on from."""
        ritz = self.ritz()
        count = len(ritz.values)
        kept = np.r_[:low, max(low, count - high) : count]
        couplings = (self.coupling @ ritz.weights)[kept]
        with Interrupts().held():
            self.basis.rotate(torch.from_numpy(ritz.weights[:, kept]).to(self.operator.like))
            self.projected = np.diag(ritz.values[kept])
            self.coupling = couplings
            cycle = Cycle(tuple(ritz.values[kept].tolist()), tuple(couplings.tolist()))
            self.chains[-1].cycles.append(cycle)

    def _grow(self, rest: Float[Tensor, " n"], taken: Array, length: float) -> None:
        self.products += 1
        self.scale = max(self.scale, length)
        count = len(self.projected)
        self._asymmetry = max(self._asymmetry, float(np.linalg.norm(taken[:count] - self.coupling)))
        self.projected = _bordered(self.projected, self.coupling, float(taken[count]))
        beta = norm(rest, self.operator.reduce)
        lost = self.operator.rounding if self._generator is None else self.operator.lost
        ended = beta <= lost * self.scale
        cycle = self.chains[-1].cycles[-1]
        cycle.diagonal.append(float(taken[count]))
        cycle.offdiagonal.append(0.0 if count + 1 == self.operator.size else beta)
        self.coupling = np.zeros(count + 1)
        if count + 1 == self.operator.size or (ended and self._generator is None):
            self.finished = True
        elif ended and self._generator is not None:
            self._asymmetry = max(self._asymmetry, beta)
            self._begin_again(self._generator)
        else:
            self.coupling[-1] = beta
            self.basis.append(rest / beta)

    def _begin_again(self, generator: torch.Generator) -> None:
        fresh, _ = self.basis.orthogonalise(random_unit(self.operator, generator))
        self.chains.append(Chain(self.operator.size - len(self.basis), [Cycle()]))
        self.basis.append(fresh / norm(fresh, self.operator.reduce))


def eigenpairs(symmetric: Array, *, banded: bool) -> tuple[Array, Array]:
    """Return ascending eigenvalues and their eigenvectors in columns.

    NumPy's own `eigh` would wait up to a hundred times longer for BLAS threads on a busy machine than it computes.

    Args:
        symmetric: In float64.
        banded: It is tridiagonal.
    """
    if banded:
        pairs = eigh_tridiagonal(np.diagonal(symmetric), np.diagonal(symmetric, 1))
        return np.asarray(pairs[0], np.float64), np.asarray(pairs[1], np.float64)
    values, vectors = torch.linalg.eigh(torch.from_numpy(symmetric))
    return values.numpy(), vectors.numpy()


def _bordered(matrix: Array, border: Sequence[float] | Array, corner: float) -> Array:
    count = len(matrix)
    grown = np.empty((count + 1, count + 1))
    grown[:count, :count] = matrix
    grown[count, :count] = grown[:count, count] = border
    grown[count, count] = corner
    return grown
