"""What an escape did and where it led."""

from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.records import Certificate


class End(StrEnum):
    """Why an escape ended."""

    STATIONARY = "second-order stationary"
    BUDGET = "out of budget"
    NO_WAY_DOWN = "no way down"
    BY_HEART = "other data gain no more"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Round:
    """One thing that was tried.

    Attributes:
        way: "slope" (along the gradient), "displacement" (at random), "curvature" (along the lowest eigenvector).
        loss: The lowest so far, when it was done.
        gradients: Spent on it, the descent after it included.
        distance: How far its first step went, before the descent; 0 where there was none.
        eigenvalue: The lowest that was found; None where none was looked for.
    """

    way: str
    loss: float
    gradients: float
    distance: float = 0.0
    eigenvalue: float | None = None


@dataclass(frozen=True)
class Escape:
    """Where the way down led.

    Attributes:
        displacement: From `objective.theta` to the lowest point found, by the batches that judge, if some did;
            zero if none was lower.
        before: Loss at `objective.theta`, over the batches asked for.
        after: Loss at the lowest point of them, which without batches that judge is that of `displacement`; never
            above `before`.
        gradients: Spent, in evaluations of the gradient over those batches.
        rounds: What was done, in order.
        end: Why it ended.
        certificate: Where stationary, how far below zero an eigenvalue could still lie at the lowest point.
    """

    displacement: Float[Tensor, " n"]
    before: float
    after: float
    gradients: float
    rounds: tuple[Round, ...]
    end: End
    certificate: Certificate | None
