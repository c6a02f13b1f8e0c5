r"""Scale: $\sigma$ in $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$ keeps magnitudes, one for every parameter.

All are root mean squares of the gradients so far, and differ in how they weigh the past. The divisor is
$\sigma + \epsilon$, with $\epsilon$ outside the root as in PyTorch.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from unstuck.optim import foreach
from unstuck.optim.direction import Direction, Divided, Scale, Tensors
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


class ScalePart(Part):
    """What all scales have in common: they gather gradients, and divide by what has been gathered."""

    role: ClassVar[Role] = Role.SCALE

    @abstractmethod
    def gather(self, direction: Direction, moment: Moment) -> None:
        """Write what is remembered, in place."""

    @abstractmethod
    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Scale:
        """Give what the movement is divided by after `age` steps: a function of what is remembered by then."""

    def weight(self, age: int) -> float:  # noqa: ARG002 - of those that have a bias
        """Give what is remembered after `age` steps of gradients whose mean square is 1, or what counts as that."""
        return 1.0

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Divide by the scale as it is with this gradient."""
        self.gather(direction, moment)
        return replace(direction, scale=self.divisor(moment.memory, moment.age))


@dataclass(frozen=True)
class SumOfSquares(ScalePart):
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

    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def __post_init__(self) -> None:
        nonnegative(self, "eps", "initial")

    def start(self, param: Tensor) -> Mapping[str, Tensor]:
        """Start at `initial`: one tensor of the parameter's shape."""
        return {"sum": torch.full_like(param, self.initial)}

    def gather(self, direction: Direction, moment: Moment) -> None:
        """Add the squares."""
        foreach.addcmul_(moment.memory["sum"], direction.gradient, direction.gradient, 1)

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Divided:  # noqa: ARG002 - of every scale
        """Give the root of the sum."""
        return _rooted(memory["sum"], self.eps)

    def weight(self, age: int) -> float:
        """Give the count of summands."""
        return float(age)


@dataclass(frozen=True)
class MeanOfSquares(ScalePart):
    r"""The root of the mean over all the past: Adagrad as it is often taught.

    $\sigma_t = \sqrt{\frac{1}{t} \sum_{s \le t} g_s^2}$, $t = 1, 2, \dots$: the steps shrink only where gradients
    grow. It bursts along a flat direction: $\sigma$ sinks there step by step until the steps are suddenly large.

    Args:
        eps: $\epsilon$; the formula has none, and the default changes nothing but 0 / 0.

    Raises:
        OptimizerError: `eps` is negative or not finite.
    """

    eps: float = field(default=NOTHING, kw_only=True)

    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def __post_init__(self) -> None:
        nonnegative(self, "eps")

    def gather(self, direction: Direction, moment: Moment) -> None:
        """Add the squares."""
        foreach.addcmul_(moment.memory["sum"], direction.gradient, direction.gradient, 1)

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Divided:
        """Give the root of the mean."""
        return _rooted(foreach.div(memory["sum"], age), self.eps)

    def weight(self, age: int) -> float:
        """Give the count of summands."""
        return float(age)


@dataclass(frozen=True)
class AveragingScale(ScalePart):
    """What scales by an exponential average of squared gradients have in common: their numbers, and its update."""

    beta: float = 0.999
    eps: float = field(default=1e-8, kw_only=True)

    slots: ClassVar[tuple[str, ...]] = ("exp_avg_sq",)

    def __post_init__(self) -> None:
        fraction(self, "beta")
        nonnegative(self, "eps")

    def gather(self, direction: Direction, moment: Moment) -> None:
        """Update the average."""
        self.average(direction, moment, self.beta)

    @staticmethod
    def average(direction: Direction, moment: Moment, beta: float) -> None:
        """Let the past have this weight in the average of squares."""
        squares, gradient = moment.memory["exp_avg_sq"], direction.gradient
        foreach.mul_(squares, beta)
        foreach.addcmul_(squares, gradient, gradient, 1 - beta)


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

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Divided:
        """Give the root of the average."""
        squares, correction = memory["exp_avg_sq"], self.weight(age)
        if self.debias_first and self.debias:
            return _rooted(foreach.div(squares, correction), self.eps)
        return _rooted(squares, self.eps, correction**0.5)

    def weight(self, age: int) -> float:
        """Give the correction, if there is one."""
        return 1 - self.beta**age if self.debias else 1.0


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

    def gather(self, direction: Direction, moment: Moment) -> None:
        """Update the average, or begin it."""
        self.average(direction, moment, self.beta if moment.age > 1 else 0.0)

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Divided:  # noqa: ARG002 - of every scale
        """Give the root of the average."""
        return _rooted(memory["exp_avg_sq"], self.eps)


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

    def gather(self, direction: Direction, moment: Moment) -> None:
        """Update both averages."""
        super().gather(direction, moment)
        foreach.lerp_(moment.memory["grad_avg"], direction.gradient, 1 - self.beta)

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Divided:  # noqa: ARG002 - of every scale
        """Give the root of the variance."""
        mean = memory["grad_avg"]
        return _rooted(foreach.addcmul(memory["exp_avg_sq"], mean, mean, value=-1), self.eps)


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

    def gather(self, direction: Direction, moment: Moment) -> None:
        """Update the average and the maximum."""
        super().gather(direction, moment)
        foreach.maximum_(moment.memory["max_exp_avg_sq"], moment.memory["exp_avg_sq"])

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Divided:
        """Give the root of the maximum."""
        return _rooted(memory["max_exp_avg_sq"], self.eps, self.weight(age) ** 0.5)

    def weight(self, age: int) -> float:
        """Give the correction for the bias."""
        return 1 - self.beta**age
