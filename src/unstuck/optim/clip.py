"""Clipping: a bound on what one batch can do."""

from dataclasses import dataclass
from typing import ClassVar

from unstuck.optim import foreach
from unstuck.optim.direction import Direction
from unstuck.optim.rule import Moment, Part, Role
from unstuck.optim.values import nonnegative

APART = 1e-6  # keeps a gradient of zero from 0 / 0; the number of torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class ClipByNorm(Part):
    r"""Shorten the gradient to a norm: $g \leftarrow g \min(1, c / \|g\|)$ (Pascanu et al., 2013, algorithm 1).

    The norm is that of the gradients of all the optimizer's parameters together, as they come from `backward`, and
    what comes out is to the bit that of `torch.nn.utils.clip_grad_norm_`; `.grad` itself is left alone.

    Args:
        norm: $c$.

    Raises:
        OptimizerError: It is negative or not finite; `chain` raises where it does not stand first.
    """

    norm: float

    role: ClassVar[Role] = Role.CLIP

    def __post_init__(self) -> None:
        nonnegative(self, "norm")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Shorten all gradients by the same factor."""
        factor = (self.norm / (moment.gradient_norm() + APART)).clamp(max=1.0)
        # The norm may be kept on another device, and in more digits, than some of the gradients.
        return direction.moving(foreach.mul(direction.movement(), factor.to(moment.params[0].device)))


@dataclass(frozen=True)
class ClipByValue(Part):
    r"""Clip every component of the direction to $[-c, c]$, where this part stands.

    Args:
        value: $c$.

    Raises:
        OptimizerError: It is negative or not finite.
    """

    value: float

    def __post_init__(self) -> None:
        nonnegative(self, "value")

    def step(self, direction: Direction, moment: Moment) -> Direction:  # noqa: ARG002 - of every part
        """Clip what comes in."""
        clipped = foreach.clamp_max(direction.movement(), self.value)
        foreach.clamp_min_(clipped, -self.value)
        return direction.moving(clipped)
