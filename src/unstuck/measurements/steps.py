"""The step that the optimizer would take next, taken on copies."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.objective import Objective


def next_step(objective: Objective, optimizer: Optimizer, only: Sequence[int]) -> Float[Tensor, " n"]:
    """Displacement by the optimizer's next step on the batches `only`; its own state stays as it is.

    The copy has no hooks: neither those of a scheduler nor the user's.
    """
    slots = objective.parameters.slots
    copies = [slot.parameter.detach().clone().requires_grad_() for slot in slots]
    memo = {id(slot.parameter): twin for slot, twin in zip(slots, copies, strict=True)}
    twin = copy.deepcopy(optimizer, memo)  # type: ignore[arg-type]

    def closure() -> float:
        theta = objective.parameters.flatten(copies)
        value, gradient = objective.value_and_gradient(theta, only, decayed=False)
        for parameter, piece in zip(copies, objective.parameters.pieces(gradient), strict=True):
            parameter.grad = piece.to(parameter.device, parameter.dtype)
        return value

    with torch.enable_grad():
        twin.step(closure)
    return objective.parameters.flatten(copies) - objective.theta
