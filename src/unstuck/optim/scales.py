r"""Scale: $\sigma$ in $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$ keeps magnitudes, one for every parameter.

All are root mean squares of the gradients so far, and differ in how they weigh the past. The divisor is
$\sigma + \epsilon$, with $\epsilon$ outside the root as in PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from unstuck.optim import foreach
from unstuck.optim.direction import Direction, Divided, Tensors
from unstuck.optim.rule import Moment, Part, Role
from unstuck.optim.values import fraction, nonnegative

# Too small to change any scale of a training, so that a formula without an epsilon is computed as written; and 0 over
# it is 0, for a gradient that has never been anything else.
NOTHING = 1e-30


def _rooted(squares: Tensors, eps: float, correction: float = 1.0) -> Divided:
    """Divide by the root, the root itself by `correction`, plus epsilon; in Adam's order of rounding."""
    sigma = foreach.sqrt(squares)
    if correction != 1.0:
        foreach.div_(sigma, correction)
    foreach.add_(sigma, eps)
    return Divided(sigma)


@dataclass(frozen=True)
class SumOfSquares(Part):
    r"""The root of the sum over all the past: Adagrad as in PyTorch (Duchi et al., 2011, figure 1).

    $\sigma_t = \sqrt{v_0 + \sum_{s \le t} g_s^2}$: the steps shrink like $1/\sqrt t$ even where gradients do not.
    It is `MeanOfSquares` with the rate $\eta / \sqrt t$.

    Args:
        eps: $\epsilon$, added to the root.
        initial: $v_0$.

    Raises:
        OptimizerError: A number is negative or not finite.
    """

    eps: float = field(default=1e-10, kw_only=True)
    initial: float = field(default=0.0, kw_only=True)

    role: ClassVar[Role] = Role.SCALE
    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def __post_init__(self) -> None:
        nonnegative(self, "eps", "initial")

    def start(self, param: Tensor) -> Mapping[str, Tensor]:
        """Start at `initial`: one tensor of the parameter's shape."""
        return {"sum": torch.full_like(param, self.initial)}

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the root of the sum."""
        total = moment.memory["sum"]
        foreach.addcmul_(total, direction.gradient, direction.gradient, 1)
        return replace(direction, scale=_rooted(total, self.eps))


@dataclass(frozen=True)
class MeanOfSquares(Part):
    r"""The root of the mean over all the past: Adagrad as it is often taught.

    $\sigma_t = \sqrt{\frac{1}{t} \sum_{s \le t} g_s^2}$, $t = 1, 2, \dots$: the steps shrink only where gradients
    grow. It bursts along a flat direction: $\sigma$ sinks there step by step until the steps are suddenly large.

    Args:
        eps: $\epsilon$; the formula has none, and the default changes nothing but 0 / 0.

    Raises:
        OptimizerError: `eps` is negative or not finite.
    """

    eps: float = field(default=NOTHING, kw_only=True)

    role: ClassVar[Role] = Role.SCALE
    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def __post_init__(self) -> None:
        nonnegative(self, "eps")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the root of the mean."""
        total = moment.memory["sum"]
        foreach.addcmul_(total, direction.gradient, direction.gradient, 1)
        return replace(direction, scale=_rooted(foreach.div(total, moment.age), self.eps))


@dataclass(frozen=True)
class AveragingScale(Part):
    """What scales by an exponential average of squared gradients have in common: their numbers, and its update."""

    beta: float = 0.999
    eps: float = field(default=1e-8, kw_only=True)

    role: ClassVar[Role] = Role.SCALE
    slots: ClassVar[tuple[str, ...]] = ("exp_avg_sq",)

    def __post_init__(self) -> None:
        fraction(self, "beta")
        nonnegative(self, "eps")

    def averaged(self, direction: Direction, moment: Moment, beta: float | None = None) -> Tensors:
        """Update the average, by another weight than its own if one is given, and give it."""
        squares, gradient = moment.memory["exp_avg_sq"], direction.gradient
        weight = self.beta if beta is None else beta
        foreach.mul_(squares, weight)
        foreach.addcmul_(squares, gradient, gradient, 1 - weight)
        return squares


@dataclass(frozen=True)
class AverageOfSquares(AveragingScale):
    r"""The root of an exponential average: RMSProp's and, without its bias, Adam's (Kingma & Ba, 2015, algorithm 1).

    $v_t = \beta v_{t-1} + (1 - \beta) g_t^2$ from $v_0 = 0$; $\sigma_t = \sqrt{v_t}$ or $\sqrt{v_t / (1 - \beta^t)}$.
    With its bias the first steps are up to $1/\sqrt{1 - \beta}$ times too long: ten times at $\beta = 0.99$.

    Args:
        beta: $\beta$.
        eps: $\epsilon$, added to the root after the correction.
        debias: Whether the bias towards 0 is corrected.
        debias_first: Whether it is corrected before the root is taken. The same but for rounding: Adam's order in
            PyTorch is after, NAdam's before.

    Raises:
        OptimizerError: `beta` is not in [0, 1), or `eps` is negative or not finite.
    """

    debias: bool = field(default=True, kw_only=True)
    debias_first: bool = field(default=False, kw_only=True)

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the root of the average."""
        squares = self.averaged(direction, moment)
        if not self.debias:
            return replace(direction, scale=_rooted(squares, self.eps))
        correction = 1 - self.beta**moment.age
        if self.debias_first:
            return replace(direction, scale=_rooted(foreach.div(squares, correction), self.eps))
        return replace(direction, scale=_rooted(squares, self.eps, correction**0.5))


@dataclass(frozen=True)
class AverageFromFirst(AveragingScale):
    r"""The root of an exponential average that starts at the first gradient: RMSProp as it is often taught.

    $\sigma_1 = |g_1|$, $\sigma_t = \sqrt{\alpha \sigma_{t-1}^2 + (1 - \alpha) g_t^2}$: no bias towards 0, so the
    first step is $\pm\eta$; the first gradient keeps the weight $\alpha^{t-1}$.

    Args:
        beta: $\alpha$.
        eps: $\epsilon$; the formula has none, and the default changes nothing but 0 / 0.

    Raises:
        OptimizerError: `beta` is not in [0, 1), or `eps` is negative or not finite.
    """

    beta: float = 0.99
    eps: float = field(default=NOTHING, kw_only=True)

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the root of the average."""
        squares = self.averaged(direction, moment, self.beta if moment.age > 1 else 0.0)
        return replace(direction, scale=_rooted(squares, self.eps))


@dataclass(frozen=True)
class CentredAverageOfSquares(AveragingScale):
    r"""The root of an estimated variance: centred RMSProp (Graves, 2013, equations 38-41).

    $v_t$ and $\bar g_t$ are the exponential averages of $g^2$ and of $g$; $\sigma_t = \sqrt{v_t - \bar g_t^2}$.

    Args:
        beta: $\beta$ of both.
        eps: $\epsilon$, added to the root.

    Raises:
        OptimizerError: `beta` is not in [0, 1), or `eps` is negative or not finite.
    """

    beta: float = 0.99

    slots: ClassVar[tuple[str, ...]] = ("exp_avg_sq", "grad_avg")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the root of the variance."""
        squares, mean = self.averaged(direction, moment), moment.memory["grad_avg"]
        foreach.lerp_(mean, direction.gradient, 1 - self.beta)
        variance = foreach.addcmul(squares, mean, mean, value=-1)
        return replace(direction, scale=_rooted(variance, self.eps))


@dataclass(frozen=True)
class MaximumOfAverages(AveragingScale):
    r"""The root of the largest exponential average so far: AMSGrad (Reddi et al., 2018, algorithm 2).

    $\hat v_t = \max(\hat v_{t-1}, v_t)$, $\sigma_t = \sqrt{\hat v_t / (1 - \beta^t)}$, corrected after the maximum as
    in PyTorch: a large gradient is never forgotten.

    Args:
        beta: $\beta$.
        eps: $\epsilon$, added to the root.

    Raises:
        OptimizerError: `beta` is not in [0, 1), or `eps` is negative or not finite.
    """

    slots: ClassVar[tuple[str, ...]] = ("exp_avg_sq", "max_exp_avg_sq")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the root of the maximum."""
        squares, largest = self.averaged(direction, moment), moment.memory["max_exp_avg_sq"]
        foreach.maximum_(largest, squares)
        return replace(direction, scale=_rooted(largest, self.eps, (1 - self.beta**moment.age) ** 0.5))
