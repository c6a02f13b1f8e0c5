r"""Weight decay: towards zero, with the gradient or apart from it."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unstuck.optim import foreach
from unstuck.optim.direction import Direction
from unstuck.optim.rule import Moment, Part, Role
from unstuck.optim.values import nonnegative


@dataclass(frozen=True)
class WeightDecay(Part):
    r"""Coupled weight decay: $\lambda\theta$ is added to the direction where this part stands.

    Before momentum and scale it is the gradient of $\frac{\lambda}{2} \|\theta\|^2$, rolled on and rescaled with
    the rest, as `weight_decay` of `torch.optim.SGD` and `Adam`. After them it is the decay of LAMB.

    Args:
        weight_decay: $\lambda$.

    Raises:
        OptimizerError: It is negative or not finite.
    """

    weight_decay: float

    def __post_init__(self) -> None:
        nonnegative(self, "weight_decay")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Add a multiple of the parameters."""
        return direction.moving(foreach.add(direction.movement(), moment.params, alpha=self.weight_decay))


@dataclass(frozen=True)
class DecoupledWeightDecay(Part):
    r"""Decoupled weight decay, $\theta \leftarrow (1 - \eta\lambda)\theta$ (Loshchilov & Hutter, 2019, algorithm 2).

    It acts on the parameters themselves before they move, wherever it stands, and no scale divides it. As in
    `torch.optim.AdamW` it is multiplied by the whole rate, where the paper multiplies by the schedule alone.

    Args:
        weight_decay: $\lambda$.

    Raises:
        OptimizerError: It is negative or not finite.
    """

    weight_decay: float

    role: ClassVar[Role] = Role.MOVEMENT

    def __post_init__(self) -> None:
        nonnegative(self, "weight_decay")

    def step(self, direction: Direction, moment: Moment) -> Direction:  # noqa: ARG002 - of every part
        """Have the parameters shrink."""
        return replace(direction, shrinking=direction.shrinking + self.weight_decay)
