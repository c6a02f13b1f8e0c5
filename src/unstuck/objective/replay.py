"""One batch's loss, the same at every call: with the same dropout and the same running statistics."""

import math
from collections.abc import Callable, Generator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unstuck import processes
from unstuck.errors import TrainingError, UnstuckError
from unstuck.interrupts import Interrupts
from unstuck.objective.borrowing import Borrowed, Copies
from unstuck.objective.generators import generators_kept, seed_everything, states
from unstuck.objective.ledger import Ledger
from unstuck.objective.parameters import Parameters
from unstuck.objective.reach import generators, modules, within
from unstuck.objective.sampling import Batch, describe, moved, one_line
from unstuck.objective.thrift import Thrift
from unstuck.objective.twice import differentiable_kernels
from unstuck.space import is_distributed
from unstuck.training import Training


class Replay:
    """Evaluates the user's loss function at other parameters than the model's own.

    Between calls the training is as the user left it; inside `session` it is borrowed.

    Attributes:
        ledger: Where evaluations are counted.
        swift: Whether kernels are exchanged for the sake of second derivatives, see `Swift`.
        fused: Whether losses alone are computed with whatever attention kernel PyTorch would choose. They are then
            not to be compared, beyond rounding, with those that gradients come with.
        writes_parameters: Whether the model writes on its parameters while it is evaluated; until `check`, True.
        thrift: Which blocks of the model are computed again, where graphs do not fit the memory; `check` decides.
        fixed: Whether the loss is surely the same under every seed: it drew no random number, and was the same twice.
    """

    def __init__(
        self,
        training: Training,
        *,
        dtype: torch.dtype | None,
        ledger: Ledger,
        thawed: AbstractSet[str] = frozenset(),
        among: Sequence[str] = (),
    ) -> None:
        self.training = training
        self.ledger = ledger
        self.swift = True
        self.fused = False
        self._dtype = dtype
        # The loss may have modules of its own, or mean a model that it found elsewhere.
        things = within(training.model, training.loss)
        found = modules(things)
        self.parameters = Parameters(training.model, found=found, thawed=thawed, dtype=dtype, among=among)
        self._copies = Copies(found, dtype=dtype)
        self._generators = generators(things)
        self._interrupts = Interrupts()
        self._wrappers = Wrappers(found)
        self._borrowed = Borrowed(things)
        self.thrift = Thrift(training.model, self._generators)
        self._present: tuple[Tensor, list[Tensor]] | None = None
        self.writes_parameters = True
        self.fixed = False
        self._same_without_grad = False

    @contextmanager
    def session(self, *, values: bool = False) -> Generator[None]:
        """Borrow the training: whatever happens inside, everything of the user's is put back at the end.

        `values` says that nothing but losses are evaluated inside.
        """
        sharded = self.parameters.sharded
        with (
            self._interrupts.held(),
            generators_kept(self._generators),
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            differentiable_kernels(attention=not (values and self.fused and self._same_without_grad)),
            nullcontext() if sharded is None else sharded.borrowed(),
        ):
            self._borrowed.remember()
            try:
                yield
            finally:
                self._settle()
                self._present = None

    def leaves(self, theta: Float[Tensor, " n"]) -> list[Tensor]:
        """Give leaves to differentiate by, the same ones for the same `theta` throughout a session.

        They share the memory of `theta`, unless the model writes on its parameters.
        """
        if self.parameters.sharded:
            return self.parameters.pieces(theta)
        if self.writes_parameters:
            return self.parameters.leaves(theta.clone())
        if self._present is None or self._present[0] is not theta:
            self._present = theta, self.parameters.leaves(theta)
        return self._present[1]

    def loss(self, batch: Batch, leaves: Sequence[Tensor], *, twice: bool = False) -> Any:
        """Evaluate one batch; only inside a session. The leaves stay in the model until it is evaluated again.

        A scalar tensor, as `check` made sure. `twice` says that it will be differentiated twice.

        Raises:
            TrainingError: The user's loss failed.
        """
        self.resume(leaves)
        self.thrift.hang(twice=twice)
        # A copy: a loss may write on its batch, or take things out of it.
        content = moved(batch.content, self.parameters.device, self._dtype, copy=True)
        self._seed(batch)
        try:
            return self.through(lambda: self.training.loss(self.training.model, content))
        except UnstuckError:
            raise
        except Exception as error:
            msg = f"`loss` failed on a batch of `data`, {describe(batch.content)}: {one_line(error)}"
            raise TrainingError(msg) from error

    def through(self, function: Callable[[], Any]) -> Any:
        """Call code of the user's inside a session, where Ctrl-C is held back else."""
        return self._interrupts.through(function)

    def _seed(self, batch: Batch) -> None:
        # Not the same dropout for every process's part of a batch.
        seed_everything(batch.seed + _APART * processes.rank(), self._generators)

    def resume(self, leaves: Sequence[Tensor]) -> None:
        """Put the leaves in the model's places, for a graph that computes parts of itself again."""
        self._settle()
        self._copies.place()
        self._wrappers.silence()
        self.parameters.place(leaves)

    def value(self, batch: Batch, theta: Float[Tensor, " n"]) -> float:
        """Evaluate one batch's loss alone; only inside a session. Infinite where it is not finite."""
        with torch.set_grad_enabled(not self._same_without_grad):
            loss = processes.together(lambda: finite(self.loss(batch, self.leaves(theta))))
        return self._mean(batch, loss)

    def gradient(self, batch: Batch, theta: Float[Tensor, " n"]) -> tuple[float, Float[Tensor, " n"]]:
        """Evaluate one batch's loss and its gradient; only inside a session."""
        leaves = self.leaves(theta)
        loss = processes.together(lambda: self.loss(batch, leaves))
        value = self._mean(batch, finite(loss))
        if self.parameters.sharded:
            return value, self.parameters.flatten(self.parameters.sharded.gradients(loss, batch.share))
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return value, self.summed(batch, self.parameters.flatten(gradients))

    def summed(self, batch: Batch, part: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """From what one batch's part gives in each process, to what the whole batch gives; may overwrite."""
        if processes.count() == 1:
            return part
        return processes.total(part.mul_(batch.share) if batch.share else part.zero_())

    def _mean(self, batch: Batch, value: float) -> float:
        if processes.count() == 1:
            return value
        own = value * batch.share if batch.share else 0.0
        return float(processes.total(torch.tensor(own, dtype=torch.float64)))

    def _settle(self) -> None:
        """Put back what the last evaluation left in the model."""
        if self.parameters.sharded:
            self.parameters.sharded.reshard()
        self._borrowed.restore()

    def check(self, batch: Batch) -> None:
        """Evaluate one batch as it will be evaluated later, and judge what came.

        Raises:
            TrainingError: The loss fails, is no scalar, is not finite or does not depend on the parameters.
        """
        theta = self.parameters.current()
        with self.session():
            written = theta.clone()
            leaves = self.parameters.leaves(written)
            self._seed(batch)
            seeded = states(self._generators)
            loss = processes.together(lambda: self._checked(batch, leaves))
            drew = states(self._generators) != seeded
            self.writes_parameters = written._version > 0 or not torch.equal(written, theta)  # noqa: SLF001
            self.parameters.aliased = not self.parameters.writes_on_held()
            if self.parameters.sharded:
                gradients = self.parameters.sharded.gradients(loss, batch.share)
            else:
                gradients = processes.together(lambda: self._differentiated(loss, leaves))
            processes.together(lambda: _check_gradients(self.parameters, gradients))
            same = self._is_same_without_grad(batch, theta, finite(loss))
            self._same_without_grad = processes.every(true=same)
            self.fixed = self._same_without_grad and processes.every(true=not drew)

    def _checked(self, batch: Batch, leaves: Sequence[Tensor]) -> Tensor:
        def evaluate() -> Tensor:
            loss = self.loss(batch, leaves)
            _check_loss(loss)
            return loss

        # A divided model gathers its parameters around each block, out of sight.
        loss = evaluate() if self.parameters.sharded else self.thrift.weighed(evaluate, leaves)
        if not loss.requires_grad:
            raise TrainingError(self._independent)
        return loss

    def _differentiated(self, loss: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
        gradients = _differentiate(loss, leaves)
        if all(gradient is None for gradient in gradients):
            raise TrainingError(self._independent)
        return gradients

    @property
    def _independent(self) -> str:
        among = self.parameters.among
        return _INDEPENDENT_OF_THESE.format(", ".join(among)) if among else _INDEPENDENT

    def _is_same_without_grad(self, batch: Batch, theta: Float[Tensor, " n"], value: float) -> bool:
        """Whether autograd can be spared; not if the loss differentiates by itself, as physics-informed ones do."""
        with torch.no_grad():
            try:
                return finite(self.loss(batch, self.leaves(theta))) == value
            except TrainingError:
                return False


# Between the seeds of two processes: more than there are batches.
_APART = 15_485_863


class Wrappers:
    """`DistributedDataParallel` around the model, or inside: its own traffic between processes is stopped.

    It would wait for gradients that never come to its parameters. What it would have summed is summed here.
    """

    def __init__(self, found: Sequence[nn.Module]) -> None:
        self._wrappers = [module for module in found if isinstance(module, DistributedDataParallel)]

    def silence(self) -> None:
        """Stop it; only while the wrappers are remembered in a `Borrowed`."""
        for wrapper in self._wrappers:
            wrapper.require_backward_grad_sync = False
            wrapper.require_forward_param_sync = False


def finite(loss: Tensor) -> float:
    """Give the number, infinity in the place of NaN and minus infinity."""
    value = float(loss.detach())
    return value if math.isfinite(value) else math.inf


_INDEPENDENT = (
    "`loss` does not depend on the parameters of `model`: compute it from model(...) of the model that is "
    "passed in, without .detach(), .item(), torch.tensor() or torch.no_grad()"
)


_INDEPENDENT_OF_THESE = "`only`: `loss` does not depend on the parameters that match {}"


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor):
        msg = f"`loss` must return a scalar tensor, not {type(loss).__name__}: {loss!r:.60}"
        raise TrainingError(msg)
    if is_distributed(loss):
        msg = "`loss` must return an ordinary tensor: take .full_tensor() of what it computes from parameters itself"
        raise TrainingError(msg)
    if loss.numel() != 1 or loss.is_complex() or loss.is_meta:
        kind = f"{str(loss.dtype).removeprefix('torch.')} tensor of shape {list(loss.shape)} on {loss.device}"
        msg = f"`loss` must return a real scalar, not a {kind}: take its mean"
        raise TrainingError(msg)
    if not math.isfinite(loss.item()):
        msg = (
            f"`loss` is {loss.item()} on the first batch of `data` already: "
            "look for NaN or Inf in the data, the checkpoint or the parameters"
        )
        raise TrainingError(msg)


def _differentiate(loss: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    try:
        return cast("Sequence[Tensor | None]", torch.autograd.grad(loss, leaves, allow_unused=True))
    except Exception as error:
        msg = f"`loss` cannot be differentiated by the parameters: {one_line(error)}"
        raise TrainingError(msg) from error


def _check_gradients(parameters: Parameters, gradients: Sequence[Tensor | None]) -> None:
    for slot, gradient in zip(parameters.slots, gradients, strict=True):
        if gradient is not None and not bool(gradient.to_dense().isfinite().all()):
            msg = (
                f"`loss` is finite but its gradient is not, at `{slot.name}`: "
                "look for sqrt(0), log(0), 0/0 or an overflow in half precision"
            )
            raise TrainingError(msg)
