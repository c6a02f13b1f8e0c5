"""Models divided by `fully_shard`: each process's shards as one vector, and the model evaluated at another one.

Such a model gathers its parameters out of sight while it runs, so that nothing can be put in their places. Here, and
only here, numbers are written into the user's own tensors, and put back bit for bit at the end.
"""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from unstuck import processes
from unstuck.errors import TrainingError
from unstuck.space import Frame, Space, is_distributed

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import Shard

# They take a second to import; where nobody has, nothing is of their kinds.
_MODELS, _TENSORS = "torch.distributed.fsdp", "torch.distributed.tensor"


def _is_sharded(module: nn.Module) -> "TypeGuard[FSDPModule]":
    return _MODELS in sys.modules and isinstance(module, sys.modules[_MODELS].FSDPModule)


def _is_wrapped(module: nn.Module) -> bool:
    return _MODELS in sys.modules and isinstance(module, sys.modules[_MODELS].FullyShardedDataParallel)


def _is_shard(place: Any) -> "TypeGuard[Shard]":
    return isinstance(place, sys.modules[_TENSORS].Shard)


def local(tensor: Tensor) -> Tensor:
    """Give what this process holds of a tensor: all of an ordinary one."""
    return tensor.to_local() if is_distributed(tensor) else tensor


def like(whole: Tensor, part: Tensor) -> Tensor:
    """Give this process's part as a tensor that is divided as `whole` is."""
    if not is_distributed(whole):
        return part
    return sys.modules[_TENSORS].DTensor.from_local(
        part,
        whole.device_mesh,
        whole.placements,
        run_check=False,
        shape=whole.shape,
        stride=whole.stride(),
    )


def is_divided(model: nn.Module) -> bool:
    """Whether no process holds all of the model."""
    return any(is_distributed(parameter) for parameter in model.parameters())


def reshard(model: nn.Module) -> None:
    """Let go of whole parameters, as an evaluation may have left them: they are of older values than the shards."""
    for module in model.modules():
        if _is_sharded(module):
            module.reshard()


def space_of(model: nn.Module, parameters: Sequence[Tensor]) -> Space:
    """Say which numbers of the whole vector this process holds.

    Raises:
        TrainingError: The parameters are divided in a way that is not known here.
    """
    size = sum(parameter.numel() for parameter in parameters)
    if any(_is_wrapped(module) for module in model.modules()):
        msg = (
            "`model` is wrapped in FullyShardedDataParallel: divide it by torch.distributed.fsdp.fully_shard"
        )
        raise TrainingError(msg)
    divided = [parameter for parameter in parameters if is_distributed(parameter)]
    if not divided:
        return Space(size)
    if len(divided) < len(parameters):
        msg = "some parameters of `model` are divided and some are not: call fully_shard(model) on the whole too"
        raise TrainingError(msg)
    _check(divided, model)
    first, over = divided[0], _dividing(divided[0])
    parts: list[tuple[int, int]] = []
    begin = 0
    for parameter in divided:
        row = parameter.numel() // max(parameter.shape[0], 1)
        held = begin + row * _first_row(parameter)
        parts.append((held, held + parameter.to_local().numel()))
        begin += parameter.numel()
    longest = -int(processes.least(-float(sum(last - first for first, last in parts))))
    frame = Frame(first.device_mesh, tuple(first.placements), longest, over)
    return Space(size, tuple(parts), processes.count() // over, frame)


def _check(divided: Sequence[Any], model: nn.Module) -> None:
    if not any(_is_sharded(module) for module in model.modules()):
        msg = (
            "the parameters of `model` are DTensors that fully_shard has not made: only its division is known"
        )
        raise TrainingError(msg)
    first = divided[0]
    same = all(p.device_mesh == first.device_mesh and p.placements == first.placements for p in divided)
    if not same or first.device_mesh.size() != processes.count():
        msg = "the parameters of `model` must all be divided over all processes in the same way"
        raise TrainingError(msg)
    for place in first.placements:
        # Kinds derived from `Shard` divide in other orders.
        if type(place) not in (sys.modules[_TENSORS].Shard, sys.modules[_TENSORS].Replicate) or (
            _is_shard(place) and place.dim != 0
        ):
            msg = f"parameters of `model` are divided as {place}: only the first dimension may be, by fully_shard"
            raise TrainingError(msg)
    if sum(_is_shard(place) for place in first.placements) > 1:
        msg = "parameters of `model` are divided along two dimensions of the mesh: one is what is known here"
        raise TrainingError(msg)


def _dividing(parameter: Any) -> int:
    """Over how many processes a parameter is divided."""
    pairs = zip(parameter.placements, parameter.device_mesh.shape, strict=True)
    return next((size for place, size in pairs if _is_shard(place)), 1)


def _first_row(parameter: Any) -> int:
    """The first row that this process holds, where rows are dealt out as `torch.chunk` does."""
    for dimension, place in enumerate(parameter.placements):
        if _is_shard(place):
            number = parameter.device_mesh.get_local_rank(dimension)
            chunk = -(-parameter.shape[0] // parameter.device_mesh.size(dimension))
            return min(number * chunk, parameter.shape[0])
    return 0


class Sharded:
    """Evaluates a divided model by its own means.

    Args:
        model: What `fully_shard` was called on, or holds such modules.
        parameters: Those that count.
        held: Others that the backward pass gives gradients to, too.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor], held: Sequence[Tensor] = ()) -> None:
        self._model = model
        self._parameters = parameters
        self._touched = [*parameters, *held]

    @contextmanager
    def borrowed(self) -> Generator[None]:
        """Put the shards and the gradients back at the end."""
        self.reshard()
        with torch.no_grad():
            kept = [local(parameter).clone() for parameter in self._touched]
        gradients = [parameter.grad for parameter in self._touched]
        self._forget()
        try:
            yield
        finally:
            self.reshard()
            _write(self._touched, kept)
            for parameter, gradient in zip(self._touched, gradients, strict=True):
                parameter.grad = gradient

    def reshard(self) -> None:
        """Let the model hold its shards alone, as between two steps."""
        reshard(self._model)

    def place(self, pieces: Sequence[Tensor]) -> None:
        """Let the model compute with these shards; only inside `borrowed`."""
        _write(self._parameters, pieces)

    def gradients(self, loss: Tensor, share: float) -> list[Tensor]:
        """Give this process's shards of the mean gradient over the processes, each counting by its `share`.

        Raises:
            TrainingError: It failed in all of them.
            LostError: It failed in this one; the others wait for it in vain.
        """
        self._forget()
        # The shards get the mean over processes, not the sum.
        processes.together(lambda: _differentiate(loss * (share * processes.count())))
        found = [
            torch.zeros_like(local(parameter.detach())) if parameter.grad is None else local(parameter.grad)
            for parameter in self._parameters
        ]
        self._forget()
        return found

    def _forget(self) -> None:
        for parameter in self._touched:
            parameter.grad = None


def _write(parameters: Sequence[Tensor], pieces: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, piece in zip(parameters, pieces, strict=True):
            local(parameter).copy_(piece)


def _differentiate(loss: Any) -> None:
    try:
        loss.backward()
    except Exception as error:
        reason = " ".join(str(error).split())
        msg = f"`loss` cannot be differentiated by the parameters: {type(error).__name__}: {reason:.300}"
        raise TrainingError(msg) from error
