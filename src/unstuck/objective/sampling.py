"""Batches taken from the user's data, without the data noticing."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from unstuck.errors import TrainingError
from unstuck.objective.borrowing import generators_kept, generators_within, seed_everything


@dataclass(frozen=True)
class Batch:
    """One batch with its number of examples and the seed that its dropout is replayed with."""

    content: Any
    examples: int
    seed: int


@dataclass(frozen=True)
class Draw:
    """Batches drawn from the data, and whether they are all there is."""

    batches: tuple[Batch, ...]
    exhausted: bool

    @property
    def examples(self) -> int:
        """The number of examples in all batches."""
        return sum(batch.examples for batch in self.batches)


def draw(data: Iterable[Any], *, seed: int, enough: Callable[[int, int], bool]) -> Draw:
    """Draw batches until `enough(batches, examples)` holds or the data ends.

    Neither global random state nor any generator that the data owns is changed, nor the iterator of a
    DataLoader with persistent workers.

    Raises:
        TrainingError: The data gave no batch.
    """
    batches: list[Batch] = []
    examples = 0
    exhausted = True
    with generators_kept(list(generators_within(data))):
        seed_everything(seed)
        for content in _iterate(data):
            if batches and enough(len(batches), examples):
                exhausted = False
                break
            size = count_examples(content)
            batches.append(Batch(content, size, seed=seed + len(batches)))
            examples += size
    if not batches:
        msg = f"`data` gave no batch: pass a DataLoader or a list with at least one batch, not {data!r:.60}"
        raise TrainingError(msg)
    return Draw(tuple(batches), exhausted)


def repeated(drawn: Draw, fewest: int) -> Draw:
    """Repeat the batches under new seeds until there are `fewest`: what differs is the dropout."""
    times = -(-fewest // len(drawn.batches))
    # Turns of one batch side by side, so that every batch is in the half that finds and in the one that judges.
    batches = tuple(
        Batch(batch.content, batch.examples, batch.seed + turn * len(drawn.batches))
        for batch in drawn.batches
        for turn in range(times)
    )
    return Draw(batches, drawn.exhausted)


def count_examples(content: Any) -> int:
    """Number of examples: the first dimension of the first tensor found in the batch, else 1."""
    for tensor in _tensors(content):
        if tensor.ndim:
            return max(int(tensor.shape[0]), 1)
    return 1


def moved(content: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Give the same batch with its tensors on `device`, floating ones as `dtype` if one is given."""
    if isinstance(content, Tensor):
        target = dtype if dtype and content.is_floating_point() else content.dtype
        return content.to(device, target)
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(moved(item, device, dtype) for item in content))
    if type(content) in (list, tuple):
        return type(content)(moved(item, device, dtype) for item in content)
    if type(content) is dict:
        return {key: moved(item, device, dtype) for key, item in cast("dict[Any, Any]", content).items()}
    if isinstance(content, Mapping) and hasattr(content, "to"):
        # Such as the BatchEncoding of Transformers; its `to` works in place.
        return cast("Any", copy.copy(content)).to(device)
    return content


def describe(content: Any) -> str:
    """Say in a few words what a batch is made of, for error messages."""
    if isinstance(content, Tensor):
        return f"{str(content.dtype).removeprefix('torch.')}{list(content.shape)}"
    if isinstance(content, Mapping):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in content.items()) + "}"
    if isinstance(content, list | tuple):
        return "(" + ", ".join(describe(item) for item in content[:4]) + ")"
    return type(content).__name__


def _iterate(data: Iterable[Any]) -> Iterator[Any]:
    if isinstance(data, DataLoader):
        # A copy, since a loader with persistent workers has one iterator, which may be in use.
        data = cast("DataLoader[Any]", copy.copy(data))
        vars(data)["_iterator"] = None
    return iter(data)


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, np.ndarray):
        yield torch.as_tensor(content)
    else:
        for item in _members(content):
            yield from _tensors(item)


def _members(content: Any) -> Iterable[Any]:
    if isinstance(content, Mapping):
        return content.values()
    if isinstance(content, list | tuple):
        return content
    return vars(content).values() if hasattr(content, "__dict__") else ()


def total_bytes(content: Any) -> int:
    """Memory of the batch's tensors."""
    return sum(tensor.nbytes for tensor in _tensors(content))
