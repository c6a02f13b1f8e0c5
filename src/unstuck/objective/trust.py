"""Can the second derivatives by autograd be trusted? It does not always say so where it leaves some out."""

import math
import warnings
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from unstuck import processes
from unstuck.errors import MeasurementError, TrainingError
from unstuck.objective import ledger as price
from unstuck.objective.differences import Differences, central
from unstuck.objective.graphs import Kept, keep
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch

# Random vectors that are multiplied both ways where one does not settle it.
_PROBES = 3

# The products agree when they differ by no more than so many times the error that the differences know of.
_AGREEMENT = 10.0

# A step that suits float32 and float64, relative to the parameters' length, and how near to the product a difference
# of it must come to settle the matter: to one side, where its error is of first order, and to both. Measured on a
# perceptron and a transformer in float32: 4e-4 to 1.4e-3, and 1.2e-4 to 3e-4. Across kinks no step will do.
_STEP, _LONGER = 10.0**-3.25, 10.0**-2.25
_ONE_SIDED, _CENTRAL = 3e-3, 1e-3

# A matrix is symmetric when it is so up to so many times the error of its products.
_SYMMETRY = 3.0


@dataclass(frozen=True)
class Examined:
    """What came of comparing.

    Attributes:
        error: Relative error of products by autograd; infinite where they are not to be used.
        first: The graph that was looked at; None where autograd gives none.
    """

    error: float
    first: Kept | None


def examine(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> Examined:
    """Measure the relative error of Hessian-vector products by autograd; infinite where they are not to be used.

    Besides kernels that refuse a second derivative, there are those that silently give a wrong one: a backward
    pass that was written by hand and cut off from autograd, or the fused weight norm and the double backward of
    batch norm in PyTorch 2.13. So one batch's products are compared with differences of its gradient. Where the
    two disagree autograd is at fault, unless the differences are no Hessian either: across kinks, or where
    the loss detaches what depends on the parameters, only what autograd gives is symmetric.

    Where the loss is smooth a difference to one side settles it. Across kinks no step is a good one: two that have
    nothing in common say so, and then the product is compared with that of forward-mode differentiation, which leaves
    out the curvature at kinks as well, by other formulas. The search for a good step and three probes are for what is
    left.
    """
    if replay.parameters.sharded:
        # Gradients of gradients do not come through what `fully_shard` does between processes.
        return Examined(math.inf, None)
    with replay.session():
        return _Examination(replay, batch, theta).examined()


def doubles(replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> bool:
    """Whether autograd gives a Hessian-vector product of this batch at all."""
    with replay.session():
        try:
            graph = keep(replay, batch, theta).graph
            replay.ledger.spend(price.RETAINED_PRODUCT, batch.examples)  # the graph has been paid
            graph(replay.parameters.pieces(torch.ones_like(theta)))
        except (RuntimeError, NotImplementedError):
            return False
    return True


class _Examination:
    """The comparisons, cheapest first; inside a session."""

    def __init__(self, replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> None:
        self._replay, self._batch, self._theta = replay, batch, theta
        # Rounding of the sums over examples and layers: measured 1e-6 to 2e-5 in float32.
        self._rounding = 100 * torch.finfo(theta.dtype).eps
        self._seeded = torch.Generator().manual_seed(0)
        self._probe = self._drawn()

    def examined(self) -> Examined:
        """Compare until it is settled."""
        try:
            kept, product = self._by_autograd()
        except (RuntimeError, NotImplementedError):  # a fused or hand-written kernel has no second derivative
            return Examined(math.inf, None)
        # What lower precision does to products shows in several of them only.
        gradient = self._replay.summed(self._batch, kept.graph.gradient)
        settled = processes.every(true=not kept.narrow and self._is_close(product, gradient))
        return Examined(self._rounding if settled else self._searched(kept), kept)

    def _by_autograd(self) -> tuple[Kept, Float[Tensor, " n"]]:
        if self._replay.swift:
            try:
                return self._multiplied()
            except (
                RuntimeError,
                NotImplementedError,
                TrainingError,
            ):  # perhaps only what was exchanged is at fault
                self._replay.swift = False
        return self._multiplied()

    def _multiplied(self) -> tuple[Kept, Float[Tensor, " n"]]:
        kept = keep(self._replay, self._batch, self._theta)
        return kept, self._product(kept, self._probe)

    def _product(self, kept: Kept, probe: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        self._replay.ledger.spend(price.RETAINED_PRODUCT, self._batch.examples)
        own = self._replay.parameters.flatten(kept.graph(self._replay.parameters.pieces(probe)))
        return self._replay.summed(self._batch, own)

    def _is_close(self, product: Float[Tensor, " n"], here: Float[Tensor, " n"]) -> bool:
        """Whether a difference is, or none can be and the product of forward-mode differentiation is."""
        scale, probe = max(float(self._theta.norm()), 1.0), self._probe
        step = scale * _STEP
        ahead = self._gradient(self._theta + step * probe)
        if _gap(product, (ahead - here) / step) <= _ONE_SIDED:
            return True
        near = (ahead - self._gradient(self._theta - step * probe)) / (2.0 * step)
        if _gap(product, near) <= _CENTRAL:
            return True
        useless = _AGREEMENT * _gap(central(self._gradient, self._theta, probe, scale * _LONGER), near) >= 1.0
        return useless and self._agrees_forward(product)

    def _agrees_forward(self, product: Float[Tensor, " n"]) -> bool:
        parameters, unit = self._replay.parameters, self._probe
        self._replay.ledger.spend(price.FORWARD_PRODUCT, self._batch.examples)
        try:
            with warnings.catch_warnings(), forward_ad.dual_level():
                # PyTorch compiles a few functions when this is first used, in a way that it calls deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                leaves = [
                    forward_ad.make_dual(leaf, piece)
                    for leaf, piece in zip(
                        parameters.leaves(self._theta), parameters.pieces(unit), strict=True
                    )
                ]
                loss = self._replay.loss(self._batch, leaves)
                gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
                tangents = [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]
        except (RuntimeError, NotImplementedError, TrainingError):  # an operation without a forward mode
            return False
        pairs = zip(tangents, gradients, strict=True)
        other = parameters.flatten([torch.zeros_like(g) if t is None else t for t, g in pairs])
        return _gap(product, self._replay.summed(self._batch, other)) <= _CENTRAL

    def _searched(self, kept: Kept) -> float:
        """Search for a good step, and compare several products."""
        probes = torch.stack([self._probe, *(self._drawn() for _ in range(1, _PROBES))])
        products = torch.stack([self._product(kept, probe) for probe in probes])
        error = max(self._rounding, _asymmetry(probes, products))
        try:
            differences = Differences(self._gradient, self._theta, self._replay.parameters.space)
        except MeasurementError:
            return error
        others = torch.stack([differences(probe) for probe in probes])
        gap = float((products - others).norm())
        if gap <= _AGREEMENT * max(differences.error, self._rounding) * float(others.norm()):
            return error
        asymmetry = _asymmetry(probes, others)
        return error if asymmetry > max(_SYMMETRY * differences.error, error) else math.inf

    def _drawn(self) -> Float[Tensor, " n"]:
        drawn = torch.randn(self._theta.numel(), generator=self._seeded, dtype=torch.float64).to(self._theta)
        return drawn.div_(drawn.norm())

    def _gradient(self, theta: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        self._replay.ledger.spend(price.GRADIENT, self._batch.examples)
        return self._replay.gradient(self._batch, theta)[1]


def _gap(product: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
    """Distance of a product to another, relative to that."""
    size, distance = float(other.norm()), float((product - other).norm())
    if size == 0.0:
        return 0.0 if distance == 0.0 else math.inf
    return distance / size


def _asymmetry(probes: Float[Tensor, "k n"], products: Float[Tensor, "k n"]) -> float:
    r"""Measure how far a matrix is from symmetric, as the relative error of a product.

    An error of $\epsilon \|Hv\|$ in every direction alike shows as $|u^\top H v - v^\top H u| \approx \sqrt{2}
    \epsilon \|u\| \|Hv\| / \sqrt{n}$ for random $u$, $v$, whatever their common length.
    """
    size = max(float(product.norm()) for product in products)
    if size == 0.0:
        return 0.0
    length = float(probes[0].norm()) / math.sqrt(probes.shape[1])
    matrix = (probes @ products.T).double()
    gaps = [float(matrix[i, j] - matrix[j, i]) for i, j in combinations(range(len(matrix)), 2)]
    return math.sqrt(math.fsum(gap * gap for gap in gaps) / (2.0 * len(gaps))) / (size * length)
