"""Batches put together anew from the examples of other batches."""

from collections.abc import Callable, MutableMapping, Sequence
from copy import copy as shallow_copy
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from unstuck.errors import MeasurementError

Take = Callable[[Int[Tensor, " rows"]], Any]


def pooled(contents: Sequence[Any], sizes: Sequence[int]) -> Take:
    """Pool the examples of batches of `sizes`; the result gives a batch of those asked for, by number.

    Tensors, arrays and lists with one entry for each example are taken apart, through tuples, mappings and
    objects with attributes; whatever is the same in every batch stays so.

    Raises:
        MeasurementError: A part is neither.
    """
    first = contents[0]
    if len({type(content) for content in contents}) > 1:
        msg = f"some batches hold {type(first).__name__} where others hold something else"
        raise MeasurementError(msg)
    if isinstance(first, Tensor):
        return _tensors(contents, sizes)
    if isinstance(first, np.ndarray):
        return _arrays(contents, sizes)
    if isinstance(first, MutableMapping):
        return _mappings(cast("Sequence[MutableMapping[Any, Any]]", contents), sizes)
    if isinstance(first, list | tuple):
        return _sequences(cast("Sequence[Sequence[Any]]", contents), sizes)
    return _others(contents, sizes)


def _tensors(contents: Sequence[Tensor], sizes: Sequence[int]) -> Take:
    if _per_example(contents, sizes):
        if len({(tensor.shape[1:], tensor.dtype) for tensor in contents}) > 1:
            msg = "the batches are padded to different lengths"
            raise MeasurementError(msg)
        together = torch.cat([tensor.detach() for tensor in contents])
        wanted = contents[0].requires_grad
        return lambda rows: together[rows.to(together.device)].requires_grad_(wanted)
    if all(torch.equal(tensor, contents[0]) for tensor in contents):
        return lambda _: contents[0]
    msg = f"a tensor of shape {list(contents[0].shape)} does not hold one row for each example"
    raise MeasurementError(msg)


def _arrays(contents: Sequence[Any], sizes: Sequence[int]) -> Take:
    if _per_example(contents, sizes) and len({array.shape[1:] for array in contents}) == 1:
        together = np.concatenate(contents)
        return lambda rows: together[rows.numpy()]
    if all(np.array_equal(array, contents[0]) for array in contents):
        return lambda _: contents[0]
    msg = f"an array of shape {list(contents[0].shape)} does not hold one row for each example"
    raise MeasurementError(msg)


def _mappings(contents: Sequence[MutableMapping[Any, Any]], sizes: Sequence[int]) -> Take:
    first = contents[0]
    if any(content.keys() != first.keys() for content in contents):
        msg = "the batches have different keys"
        raise MeasurementError(msg)
    parts = {key: pooled([content[key] for content in contents], sizes) for key in first}

    def take(rows: Int[Tensor, " rows"]) -> Any:
        # Such as the BatchEncoding of Transformers, whose constructor wants more than items.
        items = shallow_copy(first)
        for key, part in parts.items():
            items[key] = part(rows)
        return items

    return take


def _sequences(contents: Sequence[Sequence[Any]], sizes: Sequence[int]) -> Take:
    kind = cast("Any", type(contents[0]))
    if _lists_examples(contents, sizes):
        together = [item for content in contents for item in content]
        return lambda rows: kind([together[row] for row in rows.tolist()])
    if len({len(content) for content in contents}) > 1:
        msg = "the batches have different numbers of parts"
        raise MeasurementError(msg)
    parts = [pooled(members, sizes) for members in zip(*contents, strict=True)]
    if hasattr(kind, "_fields"):
        return lambda rows: kind(*(part(rows) for part in parts))
    return lambda rows: kind([part(rows) for part in parts])


def _others(contents: Sequence[Any], sizes: Sequence[int]) -> Take:
    first = contents[0]
    if hasattr(first, "__dict__") and not isinstance(first, type) and not callable(first):
        members = [vars(content) for content in contents]
        attributes = _mappings(members, sizes)

        def take(rows: Int[Tensor, " rows"]) -> Any:
            copied = shallow_copy(first)
            vars(copied).update(attributes(rows))
            return copied

        return take
    if all(content is first or bool(content == first) for content in contents):
        return lambda _: first
    msg = f"the batches hold {type(first).__name__} that differ, and are not one for each example"
    raise MeasurementError(msg)


def _per_example(contents: Sequence[Any], sizes: Sequence[int]) -> bool:
    return all(
        content.ndim > 0 and len(content) == size for content, size in zip(contents, sizes, strict=True)
    )


def _lists_examples(contents: Sequence[Sequence[Any]], sizes: Sequence[int]) -> bool:
    """Whether these are lists of examples; of two tensors of two rows it is the tensors that hold them."""
    if any(len(content) != size for content, size in zip(contents, sizes, strict=True)):
        return False
    pairs = zip(contents, sizes, strict=True)
    return not any(
        isinstance(item, Tensor | np.ndarray) and item.ndim > 0 and len(item) == size
        for content, size in pairs
        for item in content
    )
