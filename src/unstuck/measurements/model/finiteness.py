"""Where NaN or Inf appears first, before anything can be measured at all."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from unstuck.measurements.model.operations import dtype_of, find_breaking, kind_of
from unstuck.measurements.records.updates import NonFinite
from unstuck.objective.ledger import GRADIENT, Ledger
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch
from unstuck.training import Training

# What a broken number of the data is exchanged for, to see whether it matters: a possible target of most losses.
_BENIGN = 0.5

# Parameters and buffers to try one by one; one that broke has mostly broken few others.
_MOST = 8


def find_non_finite(
    training: Training, batches: Sequence[Batch], ledger: Ledger | None = None
) -> NonFinite | None:
    """Say where NaN or Inf appears first; None where there is none that matters.

    Trainable parameters and the optimizer's state come first, for they are there before any batch. What is
    in data, buffers and frozen parameters counts only where loss or gradient come out non-finite because of
    it: as a mask, or as a missing value that the loss leaves out, it is meant. Then batch by batch: the data,
    the first operation that makes it out of finite numbers with its module, the loss, the gradient. Running
    statistics are asked in eval mode, for while training nothing shows.

    A training that fails in another way is None, too; the objective tells why. Costs one gradient over the
    batches, and up to a dozen of one batch where there is something to find. The training is borrowed as in
    `Replay`.
    """
    found = _stored(training)
    if found is not None:
        return found
    replay = Replay(training, dtype=None, ledger=ledger or Ledger())
    for index, batch in enumerate(batches):
        evaluated = _evaluate(replay, batch)
        if evaluated is None:
            return None
        if any(map(kind_of, evaluated.values())):
            return _first(replay, index, batch, evaluated)
    return _in_evaluation(replay, batches[0]) if batches else None


def _stored(training: Training) -> NonFinite | None:
    parameters = dict(training.model.named_parameters())
    for name, parameter in parameters.items():
        if parameter.requires_grad and (kind := kind_of(parameter)):
            return NonFinite("parameter", name, kind, dtype=dtype_of(parameter))
    state: Mapping[Any, Any] = training.optimizer.state if training.optimizer else {}
    for name, parameter in parameters.items():
        entries = state.get(parameter)
        for key, value in entries.items() if isinstance(entries, Mapping) else ():
            for tensor in tree_leaves(value):
                kind = kind_of(tensor) if isinstance(tensor, Tensor) else ""
                # A single number may be infinite on purpose, as "the best so far" is at the beginning.
                if kind == "NaN" or (kind and tensor.numel() > 1):
                    return NonFinite("state", f"{key} of {name}", kind, dtype=dtype_of(tensor))
    return None


def _evaluate(replay: Replay, batch: Batch) -> dict[str, Tensor] | None:
    """Give the loss under "" and the gradients by the parameters' names; None if they cannot be had."""
    replay.ledger.spend(GRADIENT, batch.examples)
    with contextlib.suppress(Exception), replay.session():
        leaves = replay.parameters.leaves(replay.parameters.current())
        loss = replay.loss(batch, leaves)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            return None
        gradients = cast("Sequence[Tensor | None]", torch.autograd.grad(loss, leaves, allow_unused=True))
        names = [slot.name for slot in replay.parameters.slots]
        found = {
            name: gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None
        }
        return {"": loss.detach()} | found
    return None


def _first(replay: Replay, index: int, batch: Batch, evaluated: dict[str, Tensor]) -> NonFinite:
    data = [(name, tensor) for name, tensor in _named(batch.content, "batch") if kind_of(tensor)]
    if data and _is_to_blame(replay, batch):
        name, tensor = max(data, key=lambda item: kind_of(item[1]) == "NaN")
        return NonFinite("data", name, kind_of(tensor), index, dtype=dtype_of(tensor))

    def is_broken() -> bool:
        again = _evaluate(replay, batch)
        return again is not None and any(map(kind_of, again.values()))

    found, undefined = find_breaking(replay.training.model, is_broken)
    if found is None:
        standing = _standing(replay.training.model, masks=undefined is None)
        name = _alone_to_blame(replay, batch, list(standing))
        if name is not None:
            return replace(standing[name], batch=index)
        found = undefined
    loss = evaluated[""]
    if found is not None and (kind_of(loss) or not found.derivative):
        return NonFinite(
            "forward",
            found.module,
            found.kind,
            index,
            found.operation,
            found.dtype,
            found.overflow,
            of_infinities=found.of_infinities,
        )
    if kind := kind_of(loss):
        return NonFinite("loss", "loss", kind, index, dtype=dtype_of(loss))
    # From the loss backwards: the last of the model is the first to hear.
    name = [name for name, gradient in evaluated.items() if kind_of(gradient)][-1]
    if found is None:
        return NonFinite("gradient", name, kind_of(evaluated[name]), index, dtype=dtype_of(evaluated[name]))
    return NonFinite(
        "gradient", name, found.kind, index, found.operation, found.dtype, found.overflow, found.module
    )


def _is_to_blame(replay: Replay, batch: Batch) -> bool:
    """Whether all comes out finite once the broken numbers of the batch are exchanged."""
    try:
        content = copy.deepcopy(batch.content)
        with torch.no_grad():
            for _, tensor in _named(content, "batch"):
                tensor.nan_to_num_(_BENIGN, _BENIGN, _BENIGN)
    except Exception:  # a batch of a stranger's making, which cannot be tried
        return True
    evaluated = _evaluate(replay, replace(batch, content=content))
    return evaluated is None or not any(map(kind_of, evaluated.values()))


def _standing(model: nn.Module, *, masks: bool) -> dict[str, NonFinite]:
    """Frozen parameters and buffers with NaN or Inf, by name; with or without those that may well be masks."""
    found: dict[str, NonFinite] = {}
    for place, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            kind = kind_of(tensor)
            if kind and (masks or kind == "NaN" or bool(tensor.isposinf().any())):
                found[name] = NonFinite(place, name, kind, dtype=dtype_of(tensor))
    return found


def _alone_to_blame(replay: Replay, batch: Batch, names: Sequence[str]) -> str | None:
    """The first that breaks the loss when all others are mended, if mending all of them makes it finite."""
    if not names or _breaks(replay, batch, mended=names):
        return None
    for name in names[:_MOST] if len(names) > 1 else ():
        if _breaks(replay, batch, mended=[other for other in names if other != name]):
            return name
    return names[0]


def _breaks(replay: Replay, batch: Batch, *, mended: Sequence[str] = (), evaluating: bool = False) -> bool:
    """Whether the loss breaks with some parameters and buffers mended, or in eval mode."""
    training = replay.training

    def loss(model: nn.Module, content: Any) -> Tensor:
        # All of this is put back by `Replay`, as any change that a loss makes.
        if evaluating:
            model.eval()
        for name in mended:
            _mend(model, name)
        return training.loss(model, content)

    evaluated = _evaluate(Replay(replace(training, loss=loss), dtype=None, ledger=replay.ledger), batch)
    return evaluated is not None and any(map(kind_of, evaluated.values()))


def _mend(model: nn.Module, name: str) -> None:
    path, _, own = name.rpartition(".")
    attributes = vars(model.get_submodule(path))
    for place in (attributes["_parameters"], attributes["_buffers"]):
        if place.get(own) is not None:
            place[own] = place[own].detach().nan_to_num(_BENIGN, _BENIGN, _BENIGN)


def _in_evaluation(replay: Replay, batch: Batch) -> NonFinite | None:
    """What breaks the loss in eval mode only, as running statistics do."""
    model = replay.training.model
    standing = _standing(model, masks=False)
    if not standing or not model.training or not _breaks(replay, batch, evaluating=True):
        return None
    return next(iter(standing.values()))


def _named(content: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Floating tensors of a batch and what to call them; arrays as tensors that share their memory."""
    if isinstance(content, np.ndarray) and content.dtype.kind == "f" and content.flags.writeable:
        content = torch.from_numpy(content)
    if isinstance(content, Tensor):
        if content.is_floating_point():
            yield name, content.detach()
        return
    for key, item in _members(content):
        yield from _named(item, name + key)


def _members(content: Any) -> list[tuple[str, Any]]:
    if isinstance(content, Mapping):
        return [(f"[{key!r}]", item) for key, item in cast("Mapping[Any, Any]", content).items()]
    if isinstance(content, list | tuple):
        return [(f"[{number}]", item) for number, item in enumerate(cast("Sequence[Any]", content))]
    plain = isinstance(content, np.ndarray | type) or not hasattr(content, "__dict__")
    return [] if plain else [(f".{key}", item) for key, item in vars(content).items()]
