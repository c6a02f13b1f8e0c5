"""Training on an objective, all of its batches at once or some: what studies of optimizers share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from unstuck.objective import Objective
from unstuck.optim import Optimizer, Rule, Schedule
from unstuck.study.landscape import Vector

FAR = 1e6  # times the first loss: a walk that is so far up has diverged, and ends


@dataclass(frozen=True)
class Walk:
    """What an optimizer did.

    Attributes:
        theta: Where it ended.
        losses: Before the first update, and after each; infinite from where it diverged.
        norms: Of the gradients there.
    """

    theta: Vector
    losses: tuple[float, ...]
    norms: tuple[float, ...]

    @property
    def diverged(self) -> bool:
        """Whether it left for good."""
        return not math.isfinite(self.losses[-1])


def walk(  # noqa: PLR0913 - what an optimizer is made of
    objective: Objective,
    rule: Rule,
    rate: float,
    steps: int,
    *,
    start: Vector | None = None,
    schedule: Schedule | None = None,
    only: Callable[[int], Sequence[int]] | None = None,
    enough: float = -math.inf,
    seen: Callable[[int, Vector], None] | None = None,
) -> Walk:
    """Make so many updates from a point, and leave the objective as it is.

    Args:
        objective: The loss.
        rule: Of the optimizer.
        rate: Its learning rate.
        steps: Number of updates.
        start: Where to begin; by default where the objective is.
        schedule: Multiplies the rate, step by step.
        only: Gives the batches that a step sees; by default all of them.
        enough: A loss below which it ends early.
        seen: Is told the number of updates behind and the point, before each update and at the end.
    """
    names = [piece.clone().requires_grad_() for piece in _pieces(objective, start)]
    optimizer = Optimizer(names, rule, lr=rate)
    losses, norms = list[float](), list[float]()
    for step in range(steps + 1):
        theta = torch.cat([name.detach().flatten() for name in names])
        if seen is not None:
            seen(step, theta)
        loss, gradient = objective.value_and_gradient(theta, only(step) if only else None)
        losses.append(loss)
        norms.append(float(gradient.norm()))
        if not loss < FAR * max(abs(losses[0]), 1.0) or not math.isfinite(norms[-1]):
            rest = steps - step
            return Walk(
                theta, (*losses[:-1], *[math.inf] * (rest + 1)), (*norms[:-1], *[math.inf] * (rest + 1))
            )
        if loss < enough:
            break
        if step < steps:
            if schedule is not None:
                optimizer.param_groups[0]["lr"] = rate * schedule(step)
            for name, piece in zip(names, objective.parameters.pieces(gradient), strict=True):
                name.grad = piece
            optimizer.step()
    theta = torch.cat([name.detach().flatten() for name in names])
    return Walk(theta, tuple(losses), tuple(norms))


def _pieces(objective: Objective, start: Vector | None) -> list[torch.Tensor]:
    theta = objective.theta if start is None else start
    return [piece.detach() for piece in objective.parameters.pieces(theta)]
