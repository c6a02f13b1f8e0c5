"""The user's loss as it is computed when a model is evaluated, while the model is borrowed.

Everything that these write on, modes, hooks and buffers, is put back by the session they run in.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.errors import MeasurementError
from unstuck.training import Loss


@dataclass(slots=True)
class Buffers:
    """What a model's buffers have become on the way; None: what they are.

    With slots, since what lies in a dictionary is put back with everything else that was borrowed.
    """

    values: dict[str, Tensor] | None = None


def evaluating(loss: Loss, buffers: Buffers) -> Loss:
    """The same loss with the model in eval mode, and with the buffers that it has come to."""

    def evaluate(model: nn.Module, batch: Any) -> Tensor:
        _fill(model, buffers)
        model.eval()
        return loss(model, batch)

    return evaluate


def carrying(loss: Loss, buffers: Buffers) -> Loss:
    """The same loss, whose running statistics go on from one evaluation to the next."""

    def carry(model: nn.Module, batch: Any) -> Tensor:
        _fill(model, buffers)
        value = loss(model, batch)
        buffers.values = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        return value

    return carry


def ignoring_inputs(loss: Loss, factor: float) -> Loss:
    """The same loss in eval mode of the mean output times `factor`, whatever the inputs."""

    def evaluate(model: nn.Module, batch: Any) -> Tensor:
        replaced: list[Tensor] = []

        def same(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, Tensor) and output.ndim and output.is_floating_point():
                replaced.append((factor * output.mean(dim=0, keepdim=True)).expand_as(output))
                return replaced[-1]
            return output

        model.eval()
        model.register_forward_hook(same)
        value = loss(model, batch)
        if not replaced:
            msg = "the loss does not go by one tensor that the model gives"
            raise MeasurementError(msg)
        return value

    return evaluate


def _fill(model: nn.Module, buffers: Buffers) -> None:
    """Write on the model's buffers, which are copies while it is borrowed."""
    if buffers.values is None:
        return
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in buffers.values and buffers.values[name].shape == buffer.shape:
                buffer.copy_(buffers.values[name])
