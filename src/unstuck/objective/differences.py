"""Hessian-vector products by central differences: a step that fits, and an error that is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.space import Space

Gradient = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]

# Lengths ||h v|| that are tried, relative to the parameters' length: from where the third derivative rules to where
# rounding does, each shorter than the one before by the root of ten.
_SHORTER = math.sqrt(10.0)
_LADDER = tuple(10.0 ** (-exponent / 2) for exponent in range(2, 11))

# A step is done again when it changed the gradient this many times more or less than intended.
_OFF_TARGET = 4.0

# With an error below this nothing is gained by a better one: eigenvalues are asked for to a percent, and of their
# sign there is no doubt beyond three times the error.
_GOOD = 1e-4

# Extrapolation doubles the price of every product, so that it has to better the error by as much at least. Its step
# is longer by this factor: an error of fourth order leaves room, and rounding shrinks. Measured on smooth networks in
# float32, it betters the error by 2 to 6, most at three times the step; across kinks it does not.
_PAYS, _FARTHER = 2.0, 3.0

# A step chosen on other batches, or nearby, serves here too if it leaves no more than so many times its error.
_AS_GOOD = 2.0


@dataclass(frozen=True)
class Step:
    """A way to difference.

    Attributes:
        length: Of the step along a unit vector.
        extrapolated: Whether the step twice as long is differenced too, and the error of second order taken out.
        error: Relative, as it was measured.
        curvature: Length of the product that it was found at.
    """

    length: float
    extrapolated: bool
    error: float
    curvature: float


class Differences:
    r"""$Hv \approx (g(\theta + hv) - g(\theta - hv)) / 2h$ with relative error $T h^2 + R / h$.

    $T$, from the third derivative, and $R$, from rounding, are read off a ladder of steps along a random vector:
    neighbours on it disagree by $(q^2 - 1) T h^2$ where steps are long and by $R \sqrt{1 + q^{-2}} / h$ where they
    are short, $q$ being the ratio of their lengths. The step with the least error is $h = \sqrt[3]{R / 2T}$. It is
    taken unless one of the ladder's own agrees better with its neighbour, as may be across kinks, of which the model
    knows nothing. Where the best leaves more than a ten-thousandth, Richardson's extrapolation
    $(4 D(h) - D(2h)) / 3$ is tried with a longer step, and kept if it betters the error by more than it costs. All
    that takes up to 28 gradients; where a step is `known`, from other batches, it is tried first, which takes 4 or 6.

    What rounding allows is a question of how far the gradient *changes*, not of how far $\theta$ moves: along a steep
    eigenvector a shorter step will do. So later steps aim at the change that was best on the random vector. None is
    longer: along a flat direction the third derivative would be all that it sees.

    Attributes:
        chosen: The step.
        error: Measured at the step that was chosen, as the disagreement with the step twice as long, relative to the
            product: at least the error itself, and large across kinks (ReLU).

    Raises:
        MeasurementError: The gradient is not finite near the parameters.
    """

    def __init__(
        self,
        gradient: Gradient,
        theta: Float[Tensor, " n"],
        space: Space,
        known: Step | None = None,
    ) -> None:
        self._gradient = gradient
        self._theta = theta
        self._space = space
        drawn = space.draw(torch.Generator().manual_seed(0)).to(theta)
        unit = drawn / space.norm(drawn)
        chosen = (known and self._again(unit, known)) or self._chosen(unit, self._ladder(unit))
        self.chosen, self.error = chosen, chosen.error
        self._extrapolated = chosen.extrapolated
        self._change, self._curvature = chosen.length * chosen.curvature, chosen.curvature
        self._longest = chosen.length

    def __call__(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Multiply the Hessian with one vector."""
        length = self._space.norm(vector)
        if length == 0.0:
            return torch.zeros_like(vector)
        return length * self.along(vector / length)[1]

    def along(self, unit: Float[Tensor, " n"]) -> tuple[float, Float[Tensor, " n"]]:
        """Choose how far to go along a unit vector, and give the product with it too."""
        step = self._step()
        product = self.at(unit, step)
        norm = self._space.norm(product)
        if not self._curvature / _OFF_TARGET <= norm <= self._curvature * _OFF_TARGET:
            self._curvature = max(norm, torch.finfo(product.dtype).tiny)
            step = self._step()
            product = self.at(unit, step)
            norm = self._space.norm(product)
        self._curvature = max(norm, torch.finfo(product.dtype).tiny)
        return step, product

    def at(
        self, unit: Float[Tensor, " n"], step: float, gradient: Gradient | None = None
    ) -> Float[Tensor, " n"]:
        """Give the product by a step of that length, or that of a part of the loss, by its own `gradient`."""
        product = central(gradient or self._gradient, self._theta, unit, step)
        if not self._extrapolated:
            return product
        return _extrapolated(product, central(gradient or self._gradient, self._theta, unit, 2.0 * step))

    def _step(self) -> float:
        return min(self._change / self._curvature, self._longest)

    def _difference(self, unit: Float[Tensor, " n"], step: float) -> Float[Tensor, " n"]:
        return central(self._gradient, self._theta, unit, step)

    def _ladder(self, unit: Float[Tensor, " n"]) -> list[Step]:
        """Give each step with its disagreement with the one before, as far as they say something."""
        scale = max(self._space.norm(self._theta), 1.0)
        rungs: list[Step] = []
        longer: Tensor | None = None
        finite = False
        for step in (scale * rung for rung in _LADDER):
            product = self._difference(unit, step)
            finite = self._space.finite(product)
            apart = math.inf if longer is None else self._apart(product, longer)
            # A gradient that does not change at all is one whose change is lost in rounding.
            if math.isfinite(apart):
                rungs.append(Step(step, extrapolated=False, error=apart, curvature=self._space.norm(product)))
            longer = product
        if not finite:
            msg = "the gradient is not finite near the parameters: there is no Hessian by differences"
            raise MeasurementError(msg)
        return rungs

    def _chosen(self, unit: Float[Tensor, " n"], rungs: list[Step]) -> Step:
        if not rungs:  # no curvature: any step will do
            longest = max(self._space.norm(self._theta), 1.0) * _LADDER[0]
            return Step(longest, extrapolated=False, error=0.0, curvature=1.0)
        modelled = self._measured(unit, _best(rungs), extrapolated=False)
        plain = min(modelled, *rungs, key=lambda step: step.error)
        if plain.error <= _GOOD:
            return plain
        extrapolated = self._measured(unit, _FARTHER * plain.length, extrapolated=True)
        return extrapolated if _PAYS * extrapolated.error < plain.error else plain

    def _again(self, unit: Float[Tensor, " n"], known: Step) -> Step | None:
        measured = self._measured(unit, known.length, extrapolated=known.extrapolated)
        return measured if measured.error <= _AS_GOOD * max(known.error, _GOOD) else None

    def _measured(self, unit: Float[Tensor, " n"], step: float, *, extrapolated: bool) -> Step:
        """Difference at a step and at twice that step, and see how far they are apart."""
        products = [self._difference(unit, step * times) for times in (1.0, 2.0, 4.0)[: 2 + extrapolated]]
        if extrapolated:
            products = [_extrapolated(short, long) for short, long in pairwise(products)]
        return Step(step, extrapolated, self._apart(*products), self._space.norm(products[0]) or 1.0)

    def _apart(self, product: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
        norm = self._space.norm(product)
        return self._space.norm(product - other) / norm if 0.0 < norm < math.inf else math.inf


def _best(rungs: list[Step]) -> float:
    """The step at which what the third derivative and what rounding do to it are least together."""
    at = min(range(len(rungs)), key=lambda index: rungs[index].error)
    long, short = rungs[max(at - 1, 0)], rungs[min(at + 1, len(rungs) - 1)]
    truncation = long.error / (long.length**2 * (_SHORTER**2 - 1.0))
    rounding = short.error * short.length / math.sqrt(1.0 + _SHORTER**-2)
    if not truncation > 0.0 or not rounding > 0.0:
        return rungs[at].length
    # The model is good for a step between the rungs that it was read off, and for no other.
    return min(max(math.cbrt(0.5 * rounding / truncation), short.length), long.length)


def _extrapolated(short: Tensor, long: Tensor) -> Tensor:
    """Take the error of second order out of a difference, by that over twice the step."""
    return (4.0 * short - long) / 3.0


def central(
    gradient: Gradient, theta: Float[Tensor, " n"], unit: Float[Tensor, " n"], step: float
) -> Float[Tensor, " n"]:
    """Difference the gradient over one step to either side."""
    return (gradient(theta + step * unit) - gradient(theta - step * unit)) / (2.0 * step)
