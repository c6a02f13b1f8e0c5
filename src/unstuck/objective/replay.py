"""One batch's loss, the same at every call: with the same dropout and the same running statistics."""

import math
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unstuck.errors import TrainingError, UnstuckError
from unstuck.objective.borrowing import Modules, generators_kept, generators_within, seed_everything
from unstuck.objective.ledger import Ledger
from unstuck.objective.parameters import Parameters
from unstuck.objective.sampling import Batch, describe
from unstuck.training import Training


class Replay:
    """Evaluates the user's loss function at other parameters than the model's own.

    Between calls the training is as the user left it; inside `session` it is borrowed.

    Attributes:
        ledger: Where evaluations are counted.
    """

    def __init__(self, training: Training, *, dtype: torch.dtype | None, ledger: Ledger) -> None:
        self.training = training
        self.ledger = ledger
        self.parameters = Parameters(training.model, dtype=dtype)
        self._modules = Modules(training.model, dtype=dtype)
        self._generators = list(generators_within(training.model, training.loss))

    @contextmanager
    def session(self) -> Generator[None]:
        """Borrow the training: whatever happens inside, everything of the user's is put back at the end."""
        with ExitStack() as stack:
            stack.callback(self._modules.restore)
            stack.enter_context(generators_kept(self._generators))
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            # The fused kernels of attention have no second derivative; the plain one has.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if "torch._dynamo" in sys.modules:
                # Nor have compiled modules; they are run as the Python they were compiled from.
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    def loss(self, batch: Batch, leaves: Sequence[Tensor]) -> Tensor:
        """Evaluate one batch; only inside a session."""
        self._modules.rewind()
        seed_everything(batch.seed)
        with self.parameters.placed(leaves):
            return self.training.loss(self.training.model, batch.content)

    def check(self, batch: Batch) -> None:
        """Evaluate one batch as it will be evaluated later, and judge what came.

        Raises:
            TrainingError: The loss fails, is no scalar, is not finite or does not depend on the parameters.
        """
        with self.session():
            leaves = self.parameters.leaves(self.parameters.current())
            try:
                loss = self.loss(batch, leaves)
            except UnstuckError:
                raise
            except Exception as error:
                reason = " ".join(str(error).split())
                msg = (
                    f"`loss` failed on a batch of `data`, {describe(batch.content)}: "
                    f"{type(error).__name__}: {reason:.300}"
                )
                raise TrainingError(msg) from error
            _check_loss(loss)
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise TrainingError(_INDEPENDENT)
        _check_gradients(self.parameters, gradients)


_INDEPENDENT = (
    "`loss` does not depend on the parameters of `model`: compute it from model(...) of the model that is "
    "passed in, without .detach(), .item() or torch.no_grad()"
)


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor):
        msg = f"`loss` must return a scalar tensor, not {type(loss).__name__}: {loss!r:.60}"
        raise TrainingError(msg)
    if loss.numel() != 1:
        msg = f"`loss` must return a scalar, not a tensor of shape {list(loss.shape)}: take its mean"
        raise TrainingError(msg)
    if not math.isfinite(loss.item()):
        msg = (
            f"`loss` is {loss.item()} on the first batch of `data` already: "
            "look for NaN or Inf in the data, the checkpoint or the parameters"
        )
        raise TrainingError(msg)
    if not loss.requires_grad:
        raise TrainingError(_INDEPENDENT)


def _check_gradients(parameters: Parameters, gradients: Sequence[Tensor | None]) -> None:
    for slot, gradient in zip(parameters.slots, gradients, strict=True):
        if gradient is not None and not bool(gradient.isfinite().all()):
            msg = (
                f"`loss` is finite but its gradient is not, at `{slot.name}`: "
                "look for sqrt(0), log(0), 0/0 or an overflow in half precision"
            )
            raise TrainingError(msg)
