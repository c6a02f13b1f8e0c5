r"""The scale of RAdam, which waits until it can be known."""

from collections.abc import Mapping
from dataclasses import dataclass

from unstuck.optim import foreach
from unstuck.optim.direction import Multiplied, Tensors
from unstuck.optim.scales import AveragingScale

# Terms in the average below which its variance is not finite, with a margin; Liu et al. have 4.
RECTIFIABLE = 5.0


@dataclass(frozen=True)
class RectifiedAverage(AveragingScale):
    r"""Adam's scale, trusted as far as its variance is known: RAdam (Liu et al., 2020, algorithm 2).

    The average holds $\rho_t = \rho_\infty - \frac{2 t \beta^t}{1 - \beta^t}$ terms, $\rho_\infty =
    \frac{2}{1-\beta} - 1$. For $\rho_t > 5$ the movement is $r_t m / \sigma_t$ with $r_t = \sqrt{\frac{(\rho_t -
    4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}$ and $1/\sigma_t = \sqrt{1 - \beta^t} /
    (\sqrt{v_t} + \epsilon)$, before that $m$ alone: an automatic warm-up.

    Args:
        beta: $\beta$.
        eps: $\epsilon$, added to the root before the correction, as in `torch.optim.RAdam`.

    Raises:
        OptimizerError: `beta` is not in [0, 1), or `eps` is negative or not finite.
    """

    def divisor(self, memory: Mapping[str, Tensors], age: int) -> Multiplied:
        """Give the rectified root of the average once there are terms enough to know it, and 1 before."""
        rectification = rectified(self.beta, age)
        if rectification == 0.0:
            return Multiplied()
        rate = foreach.sqrt(memory["exp_avg_sq"])
        foreach.add_(rate, self.eps)
        foreach.reciprocal_(rate)
        foreach.mul_(rate, self.weight(age) ** 0.5)
        return Multiplied(rate, rectification)

    def weight(self, age: int) -> float:
        """Give the correction for the bias."""
        return 1 - self.beta**age


def rectified(beta: float, age: int) -> float:
    r"""How far RAdam trusts a scale after `age` steps: $r_t$, or 0 for not at all (Liu et al., 2020, equation 5)."""
    infinite = 2 / (1 - beta) - 1
    terms = infinite - 2 * age * (beta**age) / (1 - beta**age)
    if terms <= RECTIFIABLE:
        return 0.0
    return ((terms - 4) * (terms - 2) * infinite / ((infinite - 4) * (infinite - 2) * terms)) ** 0.5
