r"""Momentum: $m$ in $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$ keeps directions."""

from ctypes import c_float
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

from unstuck.optim import foreach
from unstuck.optim.direction import Direction, Tensors, Term, Unscaled
from unstuck.optim.rule import Moment, Part, Role
from unstuck.optim.values import fraction, nonnegative


def _rolled(direction: Direction, buffer: Tensors, decay: float, dampening: float, age: int) -> None:
    """Let the buffer roll on; the first movement is taken whole, whatever the dampening, as in PyTorch."""
    foreach.mul_(buffer, decay)
    direction.add_to(buffer, 1 - dampening if age > 1 else 1.0)


@dataclass(frozen=True)
class HeavyBall(Part):
    r"""The heavy ball: the vector sum of the last movement and the present descent (Polyak, 1964).

    $m_1 = d_1$, $m_t = \mu m_{t-1} + (1 - \tau) d_t$, where $d$ is the direction that comes in: the gradient, or
    after a scale $g / \sigma$, as in RMSProp. The rate $\eta$ stands outside, as in `torch.optim.SGD`; with it
    inside, $m_t = \mu m_{t-1} - \eta_t g_t$, as the method is often written, the movement is the same until $\eta$
    changes.

    Args:
        decay: $\mu$, how much of the last movement is kept.
        dampening: $\tau$.

    Raises:
        OptimizerError: A number is negative or not finite.
    """

    decay: float = 0.9
    dampening: float = field(default=0.0, kw_only=True)

    role: ClassVar[Role] = Role.MOMENTUM
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __post_init__(self) -> None:
        nonnegative(self, "decay", "dampening")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Go on along the sum of the last movement and this direction."""
        buffer = moment.memory["momentum_buffer"]
        _rolled(direction, buffer, self.decay, self.dampening, moment.age)
        return replace(direction, terms=(Term(buffer),), scale=Unscaled())


@dataclass(frozen=True)
class Nesterov(Part):
    r"""Nesterov's momentum: the heavy ball, looked at one step ahead (Sutskever et al., 2013, section 2).

    $m_t$ as the heavy ball's; the movement is $d_t + \mu m_t$, as in `torch.optim.SGD(nesterov=True)`.

    Args:
        decay: $\mu$.

    Raises:
        OptimizerError: `decay` is negative or not finite.
    """

    decay: float = 0.9

    role: ClassVar[Role] = Role.MOMENTUM
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __post_init__(self) -> None:
        nonnegative(self, "decay")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Go on along this direction and what the buffer will still move."""
        buffer = moment.memory["momentum_buffer"]
        _rolled(direction, buffer, self.decay, 0.0, moment.age)
        ahead = foreach.add(direction.movement(), buffer, alpha=self.decay)
        return replace(direction, terms=(Term(ahead),), scale=Unscaled())


@dataclass(frozen=True)
class MovingAverage(Part):
    r"""An exponential average of directions: Adam's first moment (Kingma & Ba, 2015, algorithm 1).

    $m_t = \beta m_{t-1} + (1 - \beta) d_t$ from $m_0 = 0$, and $\hat m_t = m_t / (1 - \beta^t)$ without its bias.

    Args:
        beta: $\beta$.
        debias: Whether the movement is $\hat m$ and not $m$.

    Raises:
        OptimizerError: `beta` is not in [0, 1).
    """

    beta: float = 0.9
    debias: bool = field(default=True, kw_only=True)

    role: ClassVar[Role] = Role.MOMENTUM
    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def __post_init__(self) -> None:
        fraction(self, "beta")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Go on along the average, after a scale along the average of what has been scaled."""
        average = moment.memory["exp_avg"]
        foreach.lerp_(average, direction.movement(), 1 - self.beta)
        term = Term(average, denominator=1 - self.beta**moment.age if self.debias else 1.0)
        return replace(direction, terms=(term,), scale=Unscaled())


@dataclass(frozen=True)
class NesterovAverage(Part):
    r"""Nesterov's momentum in Adam: NAdam's first moment (Dozat, 2016, algorithm 2).

    With $\mu_t = \beta (1 - \frac12 0.96^{t\psi})$ and $\Pi_t = \prod_{s \le t} \mu_s$ the movement is
    $\frac{1 - \mu_t}{1 - \Pi_t} d_t + \frac{\mu_{t+1}}{1 - \Pi_{t+1}} m_t$, where $m$ is the average of
    `MovingAverage`. $\Pi$ is rounded to single precision, as in `torch.optim.NAdam`.

    Args:
        beta: $\beta$.
        warming: $\psi$, how fast $\mu$ rises from $\beta / 2$ to $\beta$: `momentum_decay` in PyTorch.

    Raises:
        OptimizerError: `beta` is not in [0, 1), or `warming` is negative or not finite.
    """

    beta: float = 0.9
    warming: float = field(default=4e-3, kw_only=True)

    role: ClassVar[Role] = Role.MOMENTUM
    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def __post_init__(self) -> None:
        fraction(self, "beta")
        nonnegative(self, "warming")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Go on along this direction and the average, each with its weight."""
        average, incoming = moment.memory["exp_avg"], direction.movement()
        foreach.lerp_(average, incoming, 1 - self.beta)
        own, averaged = self.weights(moment.age)
        return replace(direction, terms=(Term(incoming, *own), Term(average, *averaged)), scale=Unscaled())

    def weights(self, age: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Give the weights of direction and average after `age` steps, as numerators and denominators."""
        now = _decay(self.beta, self.warming, age)
        ahead = _decay(self.beta, self.warming, age + 1)
        product = _product(self.beta, self.warming, age)
        return (1.0 - now, 1.0 - product), (ahead, 1.0 - product * ahead)


def _decay(beta: float, warming: float, age: int) -> float:
    return beta * (1.0 - 0.5 * (0.96 ** (age * warming)))


_DEEP = 256  # calls within calls, well within Python's own limit


@lru_cache(maxsize=4 * _DEEP)
def _product(beta: float, warming: float, age: int) -> float:
    """Multiply the decays so far, each product rounded as PyTorch does; a function of the age, so never saved."""
    if age == 0:
        return 1.0
    if age % _DEEP == 0:
        product = 1.0
        for past in range(1, age):
            product = c_float(product * c_float(_decay(beta, warming, past)).value).value
            if product == 0.0:
                return product
    else:
        product = _product(beta, warming, age - 1)
    return c_float(product * c_float(_decay(beta, warming, age)).value).value
