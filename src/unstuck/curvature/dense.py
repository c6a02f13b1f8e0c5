"""All eigenvalues of a small operator, from its materialised matrix."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.records import Certificate, Curvature, Density, Eigenvalue, Spectrum
from unstuck.curvature.vectors import MatVec, Operator
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate

MatMat = Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]]

SHOWN = 20  # eigenvalues that are listed by themselves at each end


def looped(matvec: MatVec) -> MatMat:
    """Return the product with a block of columns, one column after the other."""

    def matmat(columns: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return torch.stack([matvec(column) for column in columns.T.contiguous()], dim=1)

    return matmat


@dataclass(frozen=True)
class Materialised:
    """A symmetric matrix in float64 on the CPU, and the relative error of its entries as one number.

    Attributes:
        matrix: Symmetrised.
        noise: Norm of the antisymmetric part, and at least rounding, over the norm of the matrix.
    """

    matrix: Float[Tensor, "n n"]
    noise: float


def materialise(
    operator: Operator,
    matmat: MatMat | None = None,
    *,
    block: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Materialised:
    r"""Form the matrix by multiplying unit vectors, and symmetrise it.

    The noise is $\max(\|A - A^\top\|_F / (\sqrt{2}\,\|A\|_F), \epsilon \sqrt{n})$: of independent errors in
    every entry, the first is their own size.

    Args:
        operator: Not sharded.
        matmat: Multiplies a block of columns at once; without it the columns are multiplied one by one.
        block: Columns in a block.
        progress: Is told the number of columns done.

    Raises:
        MeasurementError: A product is not finite.
    """
    like, size = operator.like, operator.size
    product = matmat or looped(operator.matvec)
    matrix = torch.empty(size, size, dtype=torch.float64)
    for begin in range(0, size, block):
        end = min(begin + block, size)
        columns = like.new_zeros(size, end - begin)
        columns[torch.arange(begin, end), torch.arange(end - begin)] = 1.0
        matrix[:, begin:end] = product(columns).to(matrix)
        if progress is not None:
            progress(end)
    if not bool(matrix.isfinite().all()):
        msg = "a Hessian-vector product is not finite: look for NaN or Inf in parameters and data"
        raise MeasurementError(msg)
    length = float(matrix.norm())
    antisymmetric = float((matrix - matrix.T).norm())
    rounding = torch.finfo(like.dtype).eps * math.sqrt(size)
    noise = max(rounding, operator.noise, antisymmetric / (math.sqrt(2) * length) if length > 0 else 0.0)
    return Materialised(0.5 * (matrix + matrix.T), noise)


def dense_spectrum(
    operator: Operator,
    matmat: MatMat | None = None,
    *,
    flat: float = 1e-3,
    block: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Curvature:
    """Compute every eigenvalue, and the eigenvectors of both ends, from the materialised operator.

    Needs `operator.size` products and, in float64, two square matrices.

    Args:
        operator: Not sharded.
        matmat: Multiplies a block of columns at once; without it the columns are multiplied one by one.
        flat: Share of the largest |eigenvalue| below which an eigenvalue counts as flat.
        block: Columns in a block.
        progress: Is told the number of columns done.

    Raises:
        MeasurementError: A product is not finite.
    """
    formed = materialise(operator, matmat, block=block, progress=progress)
    values, vectors = torch.linalg.eigh(formed.matrix)
    record = exact_spectrum(values.tolist(), noise=formed.noise, flat=flat, products=operator.size)
    return Curvature(
        spectrum=record,
        lowest=vectors[:, 0].to(operator.like),
        highest=vectors[:, -1].to(operator.like),
        settled=True,
        interrupted=False,
    )


def exact_spectrum(values: list[float], *, noise: float, flat: float, products: int) -> Spectrum:
    """Describe a spectrum of which all eigenvalues are known.

    Args:
        values: Ascending.
        noise: Error of every eigenvalue as a share of the largest |eigenvalue|. Those smaller than it are
            undecided: not counted as positive, but half of them in the error of that fraction.
        flat: Share of the largest |eigenvalue| below which an eigenvalue counts as flat.
        products: What it took.
    """
    size = len(values)
    radius = max(abs(values[0]), abs(values[-1]))
    error = noise * radius
    lowest = tuple(Eigenvalue(value, error) for value in values[:SHOWN])
    highest = tuple(Eigenvalue(value, error) for value in values[: -SHOWN - 1 : -1])
    return Spectrum(
        size=size,
        exact=True,
        lowest=lowest,
        highest=highest,
        floor=_surely(values[0] - error, error - values[0], radius),
        ceiling=_surely(values[-1] + error, values[-1] + error, radius),
        density=Density(tuple(values), (1 / size,) * size),
        positive=_share_above(values, 0.0, error),
        above=_share_above(values, flat * radius, error),
        below=_share_above([-value for value in values], flat * radius, error),
        flat=flat,
        trace=Estimate(math.fsum(values), error * math.sqrt(size)),
        noise=noise,
        products=products,
    )


def _surely(bound: float, beyond: float, radius: float) -> Certificate:
    return Certificate(bound, max(0.0, beyond / radius) if radius > 0 else 0.0, 1.0)


def _share_above(values: list[float], point: float, error: float) -> Estimate:
    above = sum(value > point + error for value in values)
    undecided = sum(abs(value - point) <= error for value in values)
    return Estimate(above / len(values), 0.5 * undecided / len(values))
