"""Which tensors are stepped together: those that have taken equally many steps, in pieces that fit a cache."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Elements of a piece for every thread. Adam touches five tensors: 5 * 4 bytes * 2^15 is what a core's second-level
# cache of 1 MiB holds with room; half and twice as many were no faster (benchmarks/optim.py). It is also the grain
# below which PyTorch does not split elementwise work among threads.
PIECE = 2**15

Columns = Sequence[Sequence[Tensor]]


def alike(
    params: Sequence[Tensor], state: Mapping[Tensor, Mapping[str, Any]], ages: Sequence[str]
) -> list[list[Tensor]]:
    """Part parameters into lists of one device, one type and the same counts in their state.

    Args:
        params: Parameters that have a state.
        state: By parameter.
        ages: Keys of the counts; one that is missing counts as 0.
    """
    lists: dict[Hashable, list[Tensor]] = {}
    for param in params:
        own = state[param]
        key = (param.dtype, param.device, *(own.get(age, 0) for age in ages))
        lists.setdefault(key, []).append(param)
    return list(lists.values())


def pieces(columns: Columns, *, whole: bool) -> Iterator[Columns]:
    """Cut columns of tensors into pieces that stay in a CPU's cache while all of a step is done to them.

    Many small tensors make one piece, a large one is many: so each is read from memory once a step, as by a fused
    kernel, and not once an operation. Elsewhere than on a CPU the columns stay together.

    Args:
        columns: Columns of equal length; what stands in one row is one parameter and what belongs to it.
        whole: Whether the tensors must not be cut.
    """
    if columns[0][0].device.type != "cpu":
        yield columns
        return
    largest = PIECE * torch.get_num_threads()
    start, held = 0, 0
    for row, tensors in enumerate(zip(*columns, strict=True)):
        size = tensors[0].numel()
        if size > largest and not whole and all(map(_flat, tensors)):
            if row > start:
                yield _rows(columns, start, row)
            yield from _slices(tensors, largest)
            start, held = row + 1, 0
            continue
        if held + size > largest and row > start:
            yield _rows(columns, start, row)
            start, held = row, 0
        held += size
    if start < len(columns[0]):
        yield _rows(columns, start, len(columns[0]))


def _rows(columns: Columns, start: int, end: int) -> Columns:
    return columns if end - start == len(columns[0]) else [column[start:end] for column in columns]


def _slices(tensors: Sequence[Tensor], size: int) -> Iterator[Columns]:
    for slices in zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True):
        yield [[piece] for piece in slices]


def _flat(tensor: Tensor) -> bool:
    # A subclass, such as a sharded tensor, need not have views that write through.
    return tensor.is_contiguous() and type(tensor) in (Tensor, torch.nn.Parameter)
