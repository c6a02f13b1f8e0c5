"""The sum of all eigenvalues, with its error."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from unstuck.curvature.density import Quadrature, density
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import inner, norm, random_unit
from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Sample:
    r"""What one random unit vector v of a subspace tells about the operator's compression B to it.

    Attributes:
        mean: $v^\top B v$, on average the mean eigenvalue.
        square: $\|B v\|^2$, on average the mean squared eigenvalue.
    """

    mean: float
    square: float


def quadrature_trace(found: Quadrature) -> Estimate:
    """Estimate the trace from a run's own start: the known eigenvalues, and the quadrature of the rest."""
    rule, values, size = density(found), found.known.values, found.size
    rest = size - len(values)
    mean = (size * float(rule.weights @ rule.nodes) - float(values.sum())) / rest
    square = (size * float(rule.weights @ rule.nodes**2) - float(values @ values)) / rest
    return _complete(float(values.sum()), rest, [Sample(mean, square)])


def projected_trace(run: Lanczos, samples: Sequence[Sample]) -> Estimate:
    """Add the known trace on the run's basis and samples of the rest (Hutch++, Meyer et al., 2021)."""
    count = len(run.projected)
    return _complete(float(run.projected.trace()), run.operator.size - count, samples)


def complement_samples(run: Lanczos, generator: torch.Generator) -> Iterator[Sample]:
    """Draw vectors orthogonal to the basis, without end; each sample spends one product."""
    operator, known = run.operator, len(run.projected)
    while True:
        drawn, _ = run.basis.orthogonalise(random_unit(operator, generator), among=known)
        vector = drawn / norm(drawn, operator.reduce)
        image = operator.matvec(vector)
        mean = float(inner(vector[None], image, operator.reduce))
        left, _ = run.basis.orthogonalise(image, among=known)
        yield Sample(mean, norm(left, operator.reduce) ** 2)


def _complete(known: float, rest: int, samples: Sequence[Sample]) -> Estimate:
    r"""Add the estimate for `rest` unknown eigenvalues.

    For v uniform on the sphere of m dimensions $m\,v^\top B v$ has mean tr B and variance
    $\frac{2 m^2}{m+2} (\overline{\lambda^2} - \bar\lambda^2)$; both bars are estimated by the same samples.
    """
    mean = math.fsum(sample.mean for sample in samples) / len(samples)
    square = math.fsum(sample.square for sample in samples) / len(samples)
    variance = 2 * max(0.0, square - mean**2) / (rest + 2) / len(samples)
    return Estimate(known + rest * mean, rest * math.sqrt(variance))
