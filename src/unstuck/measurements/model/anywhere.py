"""NaN or Inf looked for in all processes: it may be in one shard of the data, or of the parameters, alone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from unstuck import processes
from unstuck.measurements.model.finiteness import find_non_finite
from unstuck.measurements.model.operations import dtype_of, kind_of
from unstuck.measurements.records.updates import NonFinite
from unstuck.objective import Batch
from unstuck.objective.ledger import GRADIENT, Ledger
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import tensors
from unstuck.objective.shards import is_divided, local
from unstuck.training import Training


def find_anywhere(training: Training, batches: Sequence[Batch], ledger: Ledger) -> NonFinite | None:
    """Say where it appears first, in the first process that has it; see `find_non_finite`.

    Of a divided model, which no process can run by itself, it says no more than whether parameters, optimizer, data,
    loss or gradient are broken.
    """
    if is_divided(training.model):
        return next(_in_step(training, batches, ledger), None)
    with processes.alone():
        found = find_non_finite(training, batches, ledger)
    return _first(found)


def _in_step(training: Training, batches: Sequence[Batch], ledger: Ledger) -> Iterator[NonFinite]:
    """Look at every place in turn, all processes at the same one."""
    if found := _first(_stored(training)):
        yield found
    replay = Replay(training, dtype=None, ledger=ledger)
    theta = replay.parameters.current()
    for index, batch in enumerate(batches):
        ledger.spend(GRADIENT, batch.examples)
        with replay.session():
            value, gradient = replay.gradient(batch, theta)
        if math.isfinite(value) and replay.parameters.space.finite(gradient):
            continue
        data = next(
            (
                NonFinite("data", "batch", kind, index)
                for kind in map(kind_of, tensors(batch.content))
                if kind
            ),
            None,
        )
        if found := _first(data):
            yield found
        place = "gradient" if math.isfinite(value) else "loss"
        yield NonFinite(place, place, "NaN or Inf", index)


def _stored(training: Training) -> NonFinite | None:
    state: Mapping[Any, Any] = training.optimizer.state if training.optimizer else {}
    for name, parameter in training.model.named_parameters():
        if parameter.requires_grad and (kind := kind_of(local(parameter.detach()))):
            return NonFinite("parameter", name, kind, dtype=dtype_of(parameter))
        for key, value in state.get(parameter, {}).items():
            for tensor in tree_leaves(value):
                if isinstance(tensor, Tensor) and tensor.numel() > 1 and (kind := kind_of(local(tensor))):
                    return NonFinite("state", f"{key} of {name}", kind, dtype=dtype_of(tensor))
    return None


def _first(found: NonFinite | None) -> NonFinite | None:
    return next((each for each in processes.gathered(found) if each is not None), None)
