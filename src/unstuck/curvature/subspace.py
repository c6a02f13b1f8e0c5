"""Few products, several starting vectors: what the space they span shows of a symmetric matrix."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.vectors import Basis, Operator, norm

# What is left of a vector when the others are taken out of it is noise below this share of it.
_NEW = 1e-5


@dataclass(frozen=True)
class Subspace:
    r"""A block Krylov space and what the matrix does in it (Rayleigh-Ritz; Saad, 2011, section 4.3).

    Attributes:
        operator: The matrix $H$.
        basis: Orthonormal rows $Q$.
        images: $Q H$, row by row.
        values: Ritz values, ascending: eigenvalues of $Q H Q^\top$, in float64 on the CPU.
        coefficients: Column $i$ gives the $i$-th Ritz vector in the basis.
        asymmetry: $\|T - T^\top\|_F / \|T\|_F$ of $T = Q H Q^\top$, which is 0 for a symmetric matrix.
    """

    operator: Operator
    basis: Basis
    images: Basis
    values: Float[Tensor, " k"]
    coefficients: Float[Tensor, "k k"]
    asymmetry: float

    def vector(self, index: int) -> Float[Tensor, " n"]:
        """The Ritz vector of that number, of length 1."""
        return self.combine(self.coefficients[:, index])

    def combine(self, weights: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """Sum of the rows of the basis, one weight for each."""
        return self.basis.combine(weights.to(self.operator.like))

    def residual(self, index: int) -> float:
        r"""$\|Hy - \theta y\|$: there is an eigenvalue no further from the Ritz value than this."""
        weights = self.coefficients[:, index].to(self.operator.like)
        rest = self.images.combine(weights) - float(self.values[index]) * self.basis.combine(weights)
        return norm(rest, self.operator.reduce)

    def within(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Components of a vector along the Ritz vectors."""
        return self.coefficients.T @ self.basis.coordinates(vector).double().cpu()


def span(
    operator: Operator,
    starts: Sequence[Float[Tensor, " n"]],
    size: int,
    go_on: Callable[[], bool] = lambda: True,
    *,
    least: int = 2,
) -> Subspace:
    """Multiply up to `size` vectors, first the starts, then what their images add, and look at the matrix there.

    Args:
        operator: The matrix; what it multiplies has length 1.
        starts: Starting vectors that are not zero; each gets its share of the products.
        size: The most products.
        go_on: Is asked before each but the first ones.
        least: How many these are.
    """
    basis, images = Basis(operator), Basis(operator)
    for vector in _candidates(starts, images):
        if len(basis) >= min(size, operator.size) or (len(basis) >= least and not go_on()):
            break
        fresh = _orthogonal(vector, basis, operator)
        if fresh is not None:
            basis.append(fresh)
            images.append(operator.matvec(fresh))
    rows = [basis.coordinates(images[index]) for index in range(len(images))]
    inner = torch.stack(rows).T.double().cpu()
    values, coefficients = torch.linalg.eigh((inner + inner.T) / 2.0)
    length = float(inner.norm())
    asymmetry = float((inner - inner.T).norm()) / length if length > 0.0 else 0.0
    return Subspace(operator, basis, images, values, coefficients, asymmetry)


def _candidates(starts: Sequence[Tensor], images: Basis) -> Iterator[Tensor]:
    yield from starts
    index = 0
    while index < len(images):
        yield images[index]
        index += 1


def _orthogonal(vector: Tensor, basis: Basis, operator: Operator) -> Tensor | None:
    length = norm(vector, operator.reduce)
    if not 0.0 < length < float("inf"):
        return None
    left = vector / length
    if len(basis):
        left, _ = basis.orthogonalise(left)
    remains = norm(left, operator.reduce)
    return left / remains if remains > _NEW else None
