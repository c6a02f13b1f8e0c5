"""Can the second derivatives by autograd be trusted? It does not always say so where it leaves some out."""

import math
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.objective import ledger as price
from unstuck.objective.differences import Differences, Gradient, central
from unstuck.objective.products import graph
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch

# Random vectors that are multiplied both ways.
_PROBES = 3

# The products agree when they differ by no more than so many times the error that the differences know of.
_AGREEMENT = 10.0

# Two steps that suit float32 and float64, relative to the parameters' length, and how near each other (relative
# to the product) and to autograd they must bring the product to settle the matter at once.
_STEPS = (10.0**-2.5, 10.0**-3)
_CLOSE = 0.01

# A matrix is symmetric when it is so up to so many times the error of its products.
_SYMMETRY = 3.0


def autograd_error(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> float:
    """Measure the relative error of Hessian-vector products by autograd; infinite where they are not to be used.

    Besides kernels that refuse a second derivative, there are those that silently give a wrong one: a backward
    pass that was written by hand and cut off from autograd, or the fused weight norm and the double backward of
    batch norm in PyTorch 2.13. So one batch's products are compared with differences of its gradient. Where the
    two disagree autograd is at fault, unless the differences are no Hessian either: across kinks, or where
    the loss detaches what depends on the parameters, only what autograd gives is symmetric.

    Where the loss is smooth two differences settle it; the whole search for a good step is for the rest.
    """
    seeded = torch.Generator().manual_seed(0)
    probes = torch.randn(_PROBES, theta.numel(), generator=seeded, dtype=torch.float64).to(theta)
    try:
        products = _by_autograd(replay, batch, theta, probes)
    except (RuntimeError, NotImplementedError):  # a fused or hand-written kernel has no second derivative
        return math.inf
    # Rounding of the sums over examples and layers: measured 1e-6 to 2e-5 in float32.
    rounding = 100 * torch.finfo(theta.dtype).eps
    error = max(rounding, _asymmetry(probes, products))

    def gradient(point: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return _gradient(replay, batch, point)

    if _settled(gradient, theta, probes[0], products[0], rounding):
        return error
    try:
        differences = Differences(gradient, theta)
    except MeasurementError:
        return error
    others = torch.stack([differences(probe) for probe in probes])
    gap = float((products - others).norm())
    if gap <= _AGREEMENT * max(differences.error, rounding) * float(others.norm()):
        return error
    asymmetry = _asymmetry(probes, others)
    return error if asymmetry > max(_SYMMETRY * differences.error, error) else math.inf


def _settled(
    gradient: Gradient,
    theta: Float[Tensor, " n"],
    probe: Float[Tensor, " n"],
    product: Float[Tensor, " n"],
    rounding: float,
) -> bool:
    """Whether two differences agree closely with each other, and autograd with them."""
    length, scale = float(probe.norm()), max(float(theta.norm()), 1.0)
    unit, expected = probe / length, product / length
    far, near = (central(gradient, theta, unit, scale * step) for step in _STEPS)
    size = float(near.norm())
    doubt = max(float((far - near).norm()), rounding * size)
    gap = float((expected - near).norm())
    return doubt <= _CLOSE * size and gap <= min(_AGREEMENT * doubt, _CLOSE * size)


def _by_autograd(
    replay: Replay, batch: Batch, theta: Float[Tensor, " n"], probes: Float[Tensor, "k n"]
) -> Float[Tensor, "k n"]:
    replay.ledger.spend(price.GRAPH + _PROBES * price.RETAINED_PRODUCT, batch.examples)
    with replay.session():
        multiply = graph(replay, batch, theta)
        return torch.stack(
            [replay.parameters.flatten(multiply(replay.parameters.pieces(probe))) for probe in probes]
        )


def _gradient(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    replay.ledger.spend(price.GRADIENT, batch.examples)
    with replay.session():
        return replay.gradient(batch, theta)[1]


def _asymmetry(probes: Float[Tensor, "k n"], products: Float[Tensor, "k n"]) -> float:
    r"""Measure how far a matrix is from symmetric, as the relative error of a product.

    An error of $\epsilon \|Hv\|$ in every direction alike shows as $|u^\top H v - v^\top H u| \approx \sqrt{2}
    \epsilon \|u\| \|Hv\| / \sqrt{n}$ for random $u$, $v$, whose length is $\sqrt{n}$.
    """
    size = max(float(product.norm()) for product in products)
    if size == 0.0:
        return 0.0
    matrix = (probes @ products.T).double()
    gaps = [float(matrix[i, j] - matrix[j, i]) for i, j in combinations(range(len(matrix)), 2)]
    return math.sqrt(math.fsum(gap * gap for gap in gaps) / (2.0 * len(gaps))) / size
