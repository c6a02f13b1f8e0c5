"""A copy of model and optimizer that goes on as the user's own loop does."""

import copy
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from unstuck.batch.pool import Update
from unstuck.errors import MeasurementError
from unstuck.measurements.optimizer.steps import copied
from unstuck.objective import Batch, Objective
from unstuck.objective.generators import seed_everything
from unstuck.objective.reach import generators, within
from unstuck.objective.sampling import moved, one_line
from unstuck.optim.closures import step_with_gradients, wants_closure
from unstuck.training import Training


@contextmanager
def borrowed(objective: Objective) -> Generator[None]:
    """Borrow what a loss may write on beside the model that it is given; all is put back, random generators too.

    A loss that means the training's own model, whatever it is given, meets leaves in its parameters' places.
    """
    replay = objective.replay
    with replay.session():
        replay.resume(replay.parameters.leaves(objective.theta.clone()))
        yield


class Copied:
    """Copies of a training's model and optimizer; made before, and used only while the training is `borrowed`.

    Args:
        training: Whose.
        objective: By which it is borrowed: at each evaluation of the loss Ctrl-C may end what is done with a copy.

    Attributes:
        device: Where the model is.
        model: The copy.
        optimizer: The copy; moves the copied parameters.

    Raises:
        MeasurementError: The model or the optimizer cannot be copied, or there is no optimizer.
    """

    def __init__(self, training: Training, objective: Objective) -> None:
        if training.optimizer is None:
            msg = "nothing can go on without `optimizer`: pass the one of the run to Training"
            raise MeasurementError(msg)
        try:
            self.model, self.optimizer = _both(training.model, training.optimizer)
        except Exception as error:  # strangers' models may hold what cannot be copied
            msg = f"the model cannot be copied: {one_line(error)}"
            raise MeasurementError(msg) from error
        self._loss, self._clip = training.loss, training.clip
        self._through = objective.replay.through
        self._generators = generators(within(training.model, training.loss))
        self.device = next(self.model.parameters()).device

    def again(self) -> "Copied":
        """Give another copy, of this one as it stands."""
        other = copy.copy(self)
        other.model, other.optimizer = _both(self.model, self.optimizer)
        return other

    def scale_rate(self, factor: float) -> None:
        """Multiply every learning rate."""
        for group in self.optimizer.param_groups:
            if "lr" in group:
                group["lr"] = group["lr"] * factor

    def step(self, update: Update) -> None:
        """Make one update from the mean over its batches."""
        examples = sum(batch.examples for batch in update)

        def closure() -> Any:
            self.model.zero_grad(set_to_none=True)
            total: Any = 0.0
            for batch in update:
                loss = self._evaluate(batch)
                if len(update) > 1:
                    loss = loss * (batch.examples / examples)
                loss.backward()
                total = total + loss.detach()
            if self._clip is not None:
                clip_grad_norm_(self.model.parameters(), self._clip)
            return total

        if wants_closure(self.optimizer):
            self.optimizer.step(closure)
        else:
            closure()
            step_with_gradients(self.optimizer, closure)
        if all(parameter.grad is None for parameter in self.model.parameters()):
            msg = "`loss` does not evaluate the model that it is given, so that no copy can be trained"
            raise MeasurementError(msg)

    def loss(self, batches: Sequence[Batch], *, training: bool = True) -> float:
        """Evaluate the loss over batches, as in training or in eval mode; infinite where it is not finite."""
        modes = [(module, module.training) for module in self.model.modules()]
        if not training:
            self.model.eval()
        # Statistics that BatchNorm gathers belong to the steps.
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        examples = sum(batch.examples for batch in batches)
        with torch.no_grad():
            value = math.fsum(batch.examples / examples * float(self._evaluate(batch)) for batch in batches)
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        for module, mode in modes:
            module.training = mode
        return value if math.isfinite(value) else math.inf

    def finite(self) -> bool:
        """Whether all parameters are finite."""
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    def graph_bytes(self, update: Update) -> int:
        """Give the bytes that the graph of an update's first batch holds, parameters apart."""
        storages: dict[int, int] = {}
        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._evaluate(update[0])
        return sum(storages.values())

    def _evaluate(self, batch: Batch) -> Any:
        seed_everything(batch.seed, self._generators)
        content = moved(batch.content, self.device)
        return self._through(lambda: self._loss(self.model, content))


def _both(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Copy both, so that the one moves the other."""
    memo: dict[int, Any] = {}
    return copy.deepcopy(model, memo), copied(optimizer, memo)
