"""Batches taken from the user's data, without the data noticing."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from copy import copy as shallow_copy
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

from unstuck import processes
from unstuck.errors import TrainingError, UnstuckError
from unstuck.interrupts import Interrupts
from unstuck.objective.borrowing import Borrowed
from unstuck.objective.generators import generators_kept, seed_everything
from unstuck.objective.reach import generators, within

_END = object()

# So many tensors in a list may be an input and its target.
_PAIR = 2


@dataclass(frozen=True)
class Batch:
    """One batch: what one step of the training sees, of which several processes have a part each.

    Attributes:
        content: This process's part.
        examples: In the parts of all processes.
        seed: What its dropout is replayed with.
        own: Examples in this process's part, where that is not all; none where its data had ended before.
    """

    content: Any
    examples: int
    seed: int
    own: int | None = None

    @property
    def here(self) -> int:
        """Examples in this process's part."""
        return self.examples if self.own is None else self.own

    @property
    def share(self) -> float:
        """This process's part of the examples."""
        return self.here / self.examples


def counted(content: Any, own: int, seed: int) -> Batch:
    """Make a batch of what each process has of it."""
    if processes.count() == 1:
        return Batch(content, own, seed)
    return Batch(content, int(processes.total(torch.tensor(own))), seed, own)


@dataclass(frozen=True)
class Draw:
    """Batches drawn from the data, whether they are all there is, and how many times each of them is there."""

    batches: tuple[Batch, ...]
    exhausted: bool
    times: int = 1

    @property
    def examples(self) -> int:
        """The number of examples in all batches."""
        return sum(batch.examples for batch in self.batches)


def draw(data: Iterable[Any], *, seed: int, enough: Callable[[int, int], bool], anew: bool = False) -> Draw:
    """Draw batches until `enough(batches, examples)` holds or the data ends.

    Neither global random state nor anything that the data holds is changed, nor the iterator of a DataLoader
    with persistent workers. The batches are copies, for data may fill the same memory again.

    Args:
        data: A DataLoader, a list, or whatever else can be iterated.
        seed: Of the global generators.
        enough: Is asked with what was drawn so far.
        anew: Seed the generators that the data own as well, to see other draws than the next one.

    Raises:
        TrainingError: The data gave no batch, or failed.
    """
    batches: list[Batch] = []
    examples = 0
    exhausted = True
    with _borrowed(data) as (interrupts, owned):
        seed_everything(seed, owned if anew else ())
        for content, size in _in_step(_read(data, interrupts)):
            if batches and enough(len(batches), examples):
                exhausted = False
                break
            batches.append(counted(content, size, seed + len(batches)))
            examples += batches[-1].examples
    if not batches:
        msg = f"`data` gave no batch: pass a DataLoader or a list with at least one batch, not {data!r:.60}"
        raise TrainingError(msg)
    return Draw(tuple(batches), exhausted)


def repeated(drawn: Draw, fewest: int) -> Draw:
    """Repeat the batches under new seeds until there are `fewest`: what differs is the dropout."""
    times = -(-fewest // len(drawn.batches))
    # Turns of one batch side by side, so that every batch is in the half that finds and in the one that judges.
    batches = tuple(
        replace(batch, seed=batch.seed + turn * len(drawn.batches))
        for batch in drawn.batches
        for turn in range(times)
    )
    return Draw(batches, drawn.exhausted, times)


def alike(one: Batch, other: Batch) -> bool:
    """Whether they hold the same tensors."""
    pairs = list(zip(tensors(one.content), tensors(other.content), strict=False))
    return bool(pairs) and all(
        mine.shape == theirs.shape and torch.equal(torch.nan_to_num(mine), torch.nan_to_num(theirs.to(mine)))
        for mine, theirs in pairs
    )


def count_examples(content: Any) -> int:
    """Number of examples: how many a packed sequence or a list of them holds, else the first dimension of a tensor.

    Of several tensors the first counts, one that is a field of the batch itself before those in lists; 1 without any.
    """
    if isinstance(content, PackedSequence):
        return int(content.batch_sizes[0])
    lengths = [len(tensor) for tensor in tensors(content) if tensor.ndim]
    if len(set(lengths)) > 1:
        lengths = _listed(content) or lengths
    return max(lengths[0], 1) if lengths else 1


def _listed(content: Any) -> list[int]:
    """How many examples there are where tensors differ in length, as images or sentences in lists do."""
    fields = list(_members(content))
    whole = [field for field in fields if isinstance(field, Tensor | np.ndarray) and field.ndim]
    kinds = {(field.dtype, field.shape[1:]) for field in whole}
    if type(content) is list and len(whole) == len(fields) > _PAIR and len(kinds) == 1:
        return [len(whole)]  # sentences, alike but for their length
    if whole:
        return [len(whole[0])]
    lists = {len(field) for field in fields if type(field) in (list, tuple) and _alike(field)}
    return list(lists) if len(lists) == 1 else []


def _alike(items: Sequence[Any]) -> bool:
    """Whether these may be examples: tensors of one type and as many dimensions, or what has names for its parts."""
    kinds = {(item.dtype, item.ndim) for item in items if isinstance(item, Tensor | np.ndarray)}
    named = [isinstance(item, Mapping) for item in items]
    return bool(named) and (all(named) or (len(kinds) == 1 and not any(named)))


def moved(
    content: Any,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    copy: bool = False,
) -> Any:
    """Give the same batch with its tensors on `device`, floating ones as `dtype` if one is given.

    With `copy` no tensor or container is shared with the original.
    """

    def leaf(item: Any) -> Any:
        if isinstance(item, Tensor):
            target = dtype if dtype and item.is_floating_point() else item.dtype
            tensor = item.detach().to(device or item.device, target, copy=copy)
            return tensor.requires_grad_() if item.requires_grad else tensor
        return item.copy() if copy and isinstance(item, np.ndarray) else item

    return mapped(content, leaf)


def mapped(content: Any, leaf: Callable[[Any], Any], *, objects: bool = True) -> Any:
    """Give the same batch with `leaf` of everything in the place of all that is not a container.

    Objects with names for their parts count as containers, of which copies are given, unless `objects` is off.
    """
    if isinstance(content, MutableMapping):
        # Such as the BatchEncoding of Transformers, whose constructor wants more than items.
        items = cast("MutableMapping[Any, Any]", shallow_copy(content))
        for key, item in items.items():
            items[key] = mapped(item, leaf, objects=objects)
        return items
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(mapped(item, leaf, objects=objects) for item in content))
    if type(content) in (list, tuple):
        return type(content)(mapped(item, leaf, objects=objects) for item in content)
    if objects and (held := attributes(content)) is not None:
        copied = shallow_copy(content)
        for name, item in held.items():
            object.__setattr__(copied, name, mapped(item, leaf))  # the dataclass may be frozen
        return copied
    return leaf(content)


def attributes(content: Any) -> dict[str, Any] | None:
    """What a batch holds that is an object with names for its parts, as a dataclass is; None for all others."""
    if isinstance(content, Tensor | np.ndarray | type) or callable(content):
        return None
    if is_dataclass(content):
        return {field.name: getattr(content, field.name) for field in fields(content)}
    held: dict[str, Any] = vars(content) if hasattr(content, "__dict__") else {}
    return dict(held) if any(isinstance(item, Tensor | np.ndarray) for item in held.values()) else None


def describe(content: Any) -> str:
    """Say in a few words what a batch is made of, for error messages."""
    if isinstance(content, Tensor):
        return f"{str(content.dtype).removeprefix('torch.')}{list(content.shape)}"
    if isinstance(content, Mapping):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in content.items()) + "}"
    if isinstance(content, list | tuple):
        return "(" + ", ".join(describe(item) for item in content[:4]) + ")"
    return type(content).__name__


def _in_step(contents: Iterator[Any]) -> Iterator[tuple[Any, int]]:
    """Give copies of the contents with their examples, in all processes until the last one's data end.

    One whose data end before gives its last batch again, with no examples.

    Raises:
        TrainingError: The data failed, in this process or in another.
    """
    last: Any = _END
    while True:
        content = processes.together(lambda: next(contents, _END))
        if processes.every(true=content is _END):
            return
        if content is not _END:
            last = moved(content, copy=True)
        processes.together(partial(_check_begun, last))
        yield last, 0 if content is _END else count_examples(last)


def _check_begun(last: Any) -> None:
    if last is _END:
        msg = "`data` gave no batch: every process needs a shard of its own"
        raise TrainingError(msg)


@contextmanager
def _borrowed(data: Iterable[Any]) -> Generator[tuple[Interrupts, Sequence[Any]]]:
    things = within(data, installed=True)
    interrupts, owned = Interrupts(), generators(things)
    with interrupts.held(), generators_kept(owned):
        borrowed = Borrowed(things, tensors=False)
        try:
            yield interrupts, owned
        finally:
            borrowed.restore()


def _read(data: Iterable[Any], interrupts: Interrupts) -> Iterator[Any]:
    number = 0
    try:
        iterator = interrupts.through(lambda: iterate(data))
        while (content := interrupts.through(lambda: next(iterator, _END))) is not _END:
            number += 1
            yield content
    except Exception as error:
        msg = f"`data` failed to give batch {number + 1}: {one_line(error)}"
        raise TrainingError(msg) from error


def iterate(data: Iterable[Any]) -> Iterator[Any]:
    """Begin a pass over the data; only while they are borrowed, as inside `draw`."""
    if isinstance(data, DataLoader):
        # A copy, since a loader with persistent workers has one iterator, which may be in use.
        data = cast("DataLoader[Any]", shallow_copy(data))
        vars(data)["_iterator"] = None
    return iter(data)


def reason(error: Exception) -> str:
    """Give our own message as it is, and of a stranger's error its kind too."""
    return str(error) if isinstance(error, UnstuckError) else one_line(error)


def one_line(error: Exception) -> str:
    """Give the kind of an error and the beginning of its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"


def tensors(content: Any) -> Iterator[Tensor]:
    """Give every tensor in a batch, arrays among them, in the order in which they stand."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, np.ndarray):
        yield torch.as_tensor(content)
    else:
        for item in _members(content):
            yield from tensors(item)


def _members(content: Any) -> Iterable[Any]:
    if isinstance(content, Mapping):
        return content.values()
    if isinstance(content, list | tuple):
        return content
    held = attributes(content) or (vars(content) if hasattr(content, "__dict__") else {})
    return held.values()


def total_bytes(content: Any) -> int:
    """Memory of the batch's tensors."""
    return sum(tensor.nbytes for tensor in tensors(content))
