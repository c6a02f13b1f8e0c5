"""Where NaN or Inf appears first, before anything can be measured at all."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from unstuck.errors import TrainingError
from unstuck.measurements.records.updates import NonFinite
from unstuck.objective.ledger import GRADIENT, Ledger
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch
from unstuck.training import Training

_HALF = (torch.float16, torch.bfloat16)

# Operations that put an infinity on purpose (masks), or give memory that nobody has written yet.
_INNOCENT = ("masked_fill", "full", "fill", "where", "empty", "scalar_tensor", "new_", "lift_fresh", "copy")


def find_non_finite(
    training: Training, batches: Sequence[Batch], ledger: Ledger | None = None
) -> NonFinite | None:
    """Say where NaN or Inf appears first; None where there is none that matters.

    Parameters, NaN in buffers and the optimizer's state come first, for they are there before any batch. An
    infinity in a buffer, or anything in the data, counts only where loss or gradient come out non-finite: as
    a mask, or as a missing value that the loss leaves out, it is meant. Then batch by batch: the data, the
    first operation that makes it out of finite numbers with its module, the loss, the gradient.

    Costs one gradient over the batches. The training is borrowed as in `Replay`.
    """
    found = _stored(training)
    if found is not None:
        return found
    replay = Replay(training, dtype=None, ledger=ledger or Ledger())
    for index, batch in enumerate(batches):
        try:
            found = _in_batch(replay, index, batch)
        except TrainingError:  # it fails for a reason of its own, which the objective tells
            return None
        if found is not None:
            return found
    return None


def _stored(training: Training) -> NonFinite | None:
    for name, parameter in training.model.named_parameters():
        if parameter.requires_grad and (kind := _kind(parameter)):
            return NonFinite("parameter", name, kind, dtype=_dtype(parameter))
    for name, buffer in training.model.named_buffers():
        if _kind(buffer) == "NaN":
            return NonFinite("buffer", name, "NaN", dtype=_dtype(buffer))
    names = {id(parameter): name for name, parameter in training.model.named_parameters()}
    state: Mapping[Tensor, Any] = training.optimizer.state if training.optimizer else {}
    for parameter, entries in state.items():
        for key, value in entries.items() if isinstance(entries, Mapping) else ():
            if isinstance(value, Tensor) and (kind := _kind(value)):
                name = names.get(id(parameter), "a parameter")
                return NonFinite("state", f"{key} of {name}", kind, dtype=_dtype(value))
    return None


def _in_batch(replay: Replay, index: int, batch: Batch) -> NonFinite | None:
    replay.ledger.spend(GRADIENT, batch.examples)
    loss, gradients = _evaluate(replay, batch)
    if not isinstance(loss, Tensor):
        return None
    broken = [
        (slot.name, gradient)
        for slot, gradient in zip(replay.parameters.slots, gradients, strict=True)
        if gradient is not None and _kind(gradient)
    ]
    if not _kind(loss) and not broken:
        return None
    return _first(replay, index, batch, loss, broken)


def _first(
    replay: Replay, index: int, batch: Batch, loss: Tensor, broken: Sequence[tuple[str, Tensor]]
) -> NonFinite:
    data = [(name, tensor) for name, tensor in _named(batch.content, "batch") if _kind(tensor)]
    for name, tensor in data:
        if _kind(tensor) == "NaN":
            return NonFinite("data", name, "NaN", index, dtype=_dtype(tensor))
    watch = _watched(replay, batch)
    if watch.found is not None and _kind(loss):
        operation, kind, dtype, overflow = watch.found
        return NonFinite("forward", watch.module, kind, index, operation, dtype, overflow)
    for name, tensor in data:
        return NonFinite("data", name, "Inf", index, dtype=_dtype(tensor))
    if kind := _kind(loss):
        return _standing(replay.training.model, index) or NonFinite(
            "loss", "loss", kind, index, dtype=_dtype(loss)
        )
    # From the loss backwards: the last of the model is the first to hear.
    name, gradient = broken[-1]
    operation, _, dtype, overflow = watch.found or (None, "", _dtype(gradient), False)
    return NonFinite("gradient", name, _kind(gradient), index, operation, dtype, overflow)


def _standing(model: nn.Module, index: int) -> NonFinite | None:
    """A frozen parameter or a buffer with an infinity that turned out to matter."""
    for place, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            if kind := _kind(tensor):
                return NonFinite(place, name, kind, index, dtype=_dtype(tensor))
    return None


def _evaluate(replay: Replay, batch: Batch) -> tuple[Any, Sequence[Tensor | None]]:
    with replay.session():
        leaves = replay.parameters.leaves(replay.parameters.current())
        loss = replay.loss(batch, leaves)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            return None, ()
        gradients = cast("Sequence[Tensor | None]", torch.autograd.grad(loss, leaves, allow_unused=True))
        return loss.detach(), [gradient if gradient is None else gradient.detach() for gradient in gradients]


def _watched(replay: Replay, batch: Batch) -> "_Watch":
    """Evaluate the batch again, and look at every operation, forwards and backwards."""
    names = {id(module): name for name, module in replay.training.model.named_modules()}
    watch = _Watch()

    def enter(module: nn.Module, _: Any) -> None:
        watch.inside.append(names.get(id(module)) or type(module).__name__)

    def leave(*_: Any) -> None:
        if watch.inside:
            watch.inside.pop()

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        # A compiled model does not bear being watched; then the place alone is told.
        with contextlib.suppress(Exception), watch:
            _evaluate(replay, batch)
    finally:
        for handle in handles:
            handle.remove()
    return watch


class _Watch(TorchDispatchMode):
    """Notes the first operation that makes NaN or Inf out of finite numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.module = "loss"
        self.found: tuple[str, str, str, bool] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Asked beforehand, since an operation in place overwrites its input.
        watched = self.found is None and not func.__name__.startswith(_INNOCENT)
        finite = watched and not any(map(_kind, _floating((args, kwargs))))
        before = tree_map(_in_single, (args, kwargs)) if finite and _is_half((args, kwargs)) else None
        outputs = func(*args, **kwargs)
        broken = next((tensor for tensor in _floating(outputs) if _kind(tensor)), None) if finite else None
        if broken is not None:
            overflow = before is not None and _is_finite(func, *before)
            self.found = func.__name__.partition(".")[0], _kind(broken), _dtype(broken), overflow
            self.module = self.inside[-1] if self.inside else "loss"
        return outputs


def _is_finite(func: Any, args: Any, kwargs: Any) -> bool:
    with contextlib.suppress(Exception):
        return not any(map(_kind, _floating(func(*args, **kwargs))))
    return False


def _is_half(value: Any) -> bool:
    leaves = tree_leaves(value)
    # A narrowing cast itself can overflow, too.
    return any(leaf in _HALF if isinstance(leaf, torch.dtype) else _half(leaf) for leaf in leaves)


def _half(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype in _HALF


def _in_single(leaf: Any) -> Any:
    if isinstance(leaf, torch.dtype):
        return torch.float32 if leaf in _HALF else leaf
    return leaf.float() if _half(leaf) else leaf


def _floating(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _kind(tensor: Tensor) -> str:
    """Give "NaN", "Inf" or, where all is finite, ""."""
    if not tensor.is_floating_point() or tensor.is_meta:
        return ""
    values = tensor.detach()
    values = values if values.layout == torch.strided else values.to_dense()
    if bool(values.isfinite().all()):
        return ""
    return "NaN" if bool(values.isnan().any()) else "Inf"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _named(content: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, item in cast("Mapping[Any, Any]", content).items():
            yield from _named(item, f"{name}[{key!r}]")
    elif isinstance(content, list | tuple):
        for number, item in enumerate(cast("Sequence[Any]", content)):
            yield from _named(item, f"{name}[{number}]")
