"""The steps that the optimizer would take next, taken on copies."""

import contextlib
import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.objective import Objective

# What a scheduler puts on an optimizer: a `step` that counts the user's own steps.
_SCHEDULERS = {"step", "_opt_called"}


class Twin:
    """A copy of the optimizer, with its state, that moves a copy of the parameters.

    It has no hooks: neither those of a scheduler nor the user's.

    Attributes:
        value: The loss of the last step's batches, before the step.
        slope: Norm of their gradient.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer) -> None:
        self._objective = objective
        self.value = self.slope = math.nan
        slots = objective.parameters.slots
        self._copies = [slot.parameter.detach().clone().requires_grad_() for slot in slots]
        memo = {id(slot.parameter): copied for slot, copied in zip(slots, self._copies, strict=True)}
        self._optimizer = copy.deepcopy(optimizer, memo)  # type: ignore[arg-type]
        # A copy of an optimizer holds its state and groups alone; LBFGS and strangers' ones keep more.
        rest = vars(optimizer).keys() - vars(self._optimizer).keys() - _SCHEDULERS
        for name in rest:
            with contextlib.suppress(Exception):  # a logger or a lock, which no step needs
                vars(self._optimizer)[name] = copy.deepcopy(vars(optimizer)[name], memo)

    def scale_rate(self, factor: float) -> None:
        """Multiply the learning rate of every group that has one."""
        for group in self._optimizer.param_groups:
            if "lr" in group:
                group["lr"] = group["lr"] * factor

    def step(self, only: Sequence[int]) -> Float[Tensor, " n"]:
        """Take one step on the batches `only`, and give the displacement from the point since the beginning."""
        objective = self._objective

        def closure() -> float:
            theta = objective.parameters.flatten(self._copies)
            value, gradient = objective.value_and_gradient(theta, only, decayed=False)
            self.value, self.slope = value, float(gradient.norm())
            for parameter, piece in zip(self._copies, objective.parameters.pieces(gradient), strict=True):
                parameter.grad = piece.to(parameter.device, parameter.dtype)
            return value

        with torch.enable_grad():
            self._optimizer.step(closure)
        return objective.parameters.flatten(self._copies) - objective.theta


def next_step(objective: Objective, optimizer: Optimizer, only: Sequence[int]) -> Float[Tensor, " n"]:
    """Displacement by the optimizer's next step on the batches `only`."""
    return Twin(objective, optimizer).step(only)


def next_steps(
    objective: Objective, optimizer: Optimizer, order: Sequence[int], marks: Sequence[int]
) -> list[Float[Tensor, " n"]]:
    """Displacements after so many steps as each of `marks` says, one batch of `order` after the other."""
    twin = Twin(objective, optimizer)
    found: list[Float[Tensor, " n"]] = []
    for taken, index in enumerate(order, start=1):
        displacement = twin.step([index])
        if taken in marks:
            found.append(displacement)
    return found
