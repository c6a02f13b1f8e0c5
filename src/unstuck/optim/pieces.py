"""Which tensors are stepped together: those that have taken equally many steps, in pieces that fit a cache."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

# Elements of a piece for every thread. Adam's five tensors are then 5 MiB: they come from the third-level cache, and
# what a piece costs in calls is little beside its work. From 2^15 to 2^20 it was the fastest (benchmarks/optim.py).
PIECE = 2**18

# Times that where nothing divides: three sums over three tensors leave little to gain in a cache, and a momentum's
# steps are shorter by a fifth with large tensors whole (benchmarks/optim.py).
UNSCALED = 4

State = dict[str, Any]
Columns = Sequence[Sequence[Tensor]]


def alike(
    params: Sequence[Tensor], states: Sequence[State], counts: Callable[[State], Hashable]
) -> list[tuple[list[Tensor], list[State]]]:
    """Part parameters and their states into lists of one device, one type and the same counts of steps."""
    lists: dict[Hashable, tuple[list[Tensor], list[State]]] = {}
    last, same = None, None
    for param, state in zip(params, states, strict=True):
        key = (counts(state), param.dtype, param.device)
        if same is None or key != last:  # to hash every device would take as long as a small tensor's step
            last, same = key, lists.setdefault(key, ([], []))
        same[0].append(param)
        same[1].append(state)
    return list(lists.values())


def pieces(columns: Columns, *, whole: bool, scaled: bool = True) -> Iterator[Columns]:
    """Cut columns of tensors into pieces that stay in a CPU's cache while all of a step is done to them.

    Many small tensors make one piece, a large one is many: so each is read from memory once a step, as by a fused
    kernel, and not once an operation. Elsewhere than on a CPU the columns stay together.

    Args:
        columns: Columns of equal length; what stands in one row is one parameter and what belongs to it.
        whole: Whether the tensors must not be cut.
        scaled: Whether the rule has a scale, with a tensor more to make and all to be read again and again.
    """
    if columns[0][0].device.type != "cpu":
        yield columns
        return
    largest = PIECE * torch.get_num_threads() * (1 if scaled else UNSCALED)
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
