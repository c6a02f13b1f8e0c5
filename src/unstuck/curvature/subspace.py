"""Few products, several starting vectors: what the space they span shows of a symmetric matrix."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.vectors import MatVec

# What is left of a vector when the others are taken out of it is noise below this share of it.
_NEW = 1e-5


@dataclass(frozen=True)
class Subspace:
    r"""A block Krylov space and what the matrix does in it (Rayleigh-Ritz; Saad, 2011, section 4.3).

    Attributes:
        basis: Orthonormal rows $Q$.
        images: $Q H$, row by row.
        values: Ritz values, ascending: eigenvalues of $Q H Q^\top$, in float64 on the CPU.
        coefficients: Column $i$ gives the $i$-th Ritz vector in the basis.
        asymmetry: $\|T - T^\top\|_F / \|T\|_F$ of $T = Q H Q^\top$, which is 0 for a symmetric matrix.
    """

    basis: Float[Tensor, "k n"]
    images: Float[Tensor, "k n"]
    values: Float[Tensor, " k"]
    coefficients: Float[Tensor, "k k"]
    asymmetry: float

    def vector(self, index: int) -> Float[Tensor, " n"]:
        """The Ritz vector of that number, of length 1."""
        return self.coefficients[:, index].to(self.basis) @ self.basis

    def residual(self, index: int) -> float:
        r"""$\|Hy - \theta y\|$: there is an eigenvalue no further from the Ritz value than this."""
        weights = self.coefficients[:, index].to(self.basis)
        return float((weights @ self.images - float(self.values[index]) * (weights @ self.basis)).norm())

    def within(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Components of a vector along the Ritz vectors."""
        return self.coefficients.T @ (self.basis @ vector).double().cpu()


def span(
    matvec: MatVec,
    starts: Sequence[Float[Tensor, " n"]],
    size: int,
    go_on: Callable[[], bool] = lambda: True,
) -> Subspace:
    """Multiply up to `size` vectors, first the starts, then what their images add, and look at the matrix there.

    Args:
        matvec: Product with a vector of length 1.
        starts: Starting vectors that are not zero; each gets its share of the products.
        size: The most products.
        go_on: Is asked before each but the first two.
    """
    basis: list[Tensor] = []
    images: list[Tensor] = []
    for vector in _candidates(starts, images):
        if len(basis) >= min(size, vector.numel()) or (len(basis) > 1 and not go_on()):
            break
        fresh = _orthogonal(vector, basis)
        if fresh is not None:
            basis.append(fresh)
            images.append(matvec(fresh))
    rows, products = torch.stack(basis), torch.stack(images)
    inner = (rows @ products.T).double().cpu()
    symmetric = (inner + inner.T) / 2.0
    values, coefficients = torch.linalg.eigh(symmetric)
    size_of = float(inner.norm())
    asymmetry = float((inner - inner.T).norm()) / size_of if size_of > 0.0 else 0.0
    return Subspace(rows, products, values, coefficients, asymmetry)


def _candidates(starts: Sequence[Tensor], images: list[Tensor]) -> Iterator[Tensor]:
    yield from starts
    index = 0
    while index < len(images):
        yield images[index]
        index += 1


def _orthogonal(vector: Tensor, basis: Sequence[Tensor]) -> Tensor | None:
    length = float(vector.norm())
    if not 0.0 < length < float("inf"):
        return None
    left = vector / length
    for _ in range(2):  # twice is enough (Parlett, 1998, section 6.9)
        for row in basis:
            left = left - (row @ left) * row
    remains = float(left.norm())
    return left / remains if remains > _NEW else None
