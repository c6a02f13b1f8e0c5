r"""Layer-wise rates for large batches: no layer moves by more than a share of its own length."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unstuck.optim import foreach
from unstuck.optim.direction import Direction
from unstuck.optim.rule import Moment, Part, Role
from unstuck.optim.values import nonnegative


@dataclass(frozen=True)
class LayerwiseRate(Part):
    r"""The local rate of LARS, with the weight decay that belongs to it (You, Gitman & Ginsburg, 2017, algorithm 1).

    $d = \kappa \frac{\|\theta\|}{\|g\| + \lambda \|\theta\|} (g + \lambda\theta)$ for every parameter tensor;
    $d = g + \lambda\theta$ where $\theta$ or $g$ is zero.

    Args:
        coefficient: $\kappa$, the trust coefficient.
        weight_decay: $\lambda$.

    Raises:
        OptimizerError: A number is negative or not finite.
    """

    coefficient: float = 0.001
    weight_decay: float = field(default=0.0, kw_only=True)

    layerwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nonnegative(self, "coefficient", "weight_decay")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Decay and rescale each parameter's gradient."""
        incoming = direction.movement()
        lengths = foreach.norm(moment.params)
        slopes = foreach.norm(incoming)
        decayed = foreach.add(incoming, moment.params, alpha=self.weight_decay)
        for tensor, length, slope in zip(decayed, lengths, slopes, strict=True):
            ratio = self.coefficient * length / (slope + self.weight_decay * length)
            tensor.mul_(torch.where((length > 0) & (slope > 0), ratio, 1.0))
        return direction.moving(decayed)


@dataclass(frozen=True)
class TrustRatio(Part):
    r"""The trust ratio of LAMB: a layer moves by its own length (You et al., 2020, algorithm 2).

    $d \leftarrow \frac{\phi(\|\theta\|)}{\|d\|} d$ for every parameter tensor, with $\phi(z) = \min(z, c)$; $d$
    stays as it is where it or $\theta$ is zero.

    Args:
        bound: $c$; without one $\phi(z) = z$. The first version of the paper and many programs take 10.

    Raises:
        OptimizerError: `bound` is negative or not finite.
    """

    bound: float | None = None

    role: ClassVar[Role] = Role.MOVEMENT
    layerwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bound is not None:
            nonnegative(self, "bound")

    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Give each parameter's movement the parameter's length."""
        movement = direction.movement()
        lengths = foreach.norm(moment.params)
        movements = foreach.norm(movement)
        bound = math.inf if self.bound is None else self.bound
        ratios = [
            torch.where((length > 0) & (moved > 0), length.clamp(max=bound) / moved, 1.0)
            for length, moved in zip(lengths, movements, strict=True)
        ]
        return direction.moving(foreach.mul(movement, ratios))
