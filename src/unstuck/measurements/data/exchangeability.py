"""Could the batches have been drawn at random? Told from their contents alone, without the model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import chi2, rankdata
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.measurements.records import Structure

# A column with at most this many values counts as classes; so do integers with few values for their number.
_FEW_VALUES = 20

# Integers count as classes while each has this many examples on average: below, counts say little.
_EXAMPLES_PER_CLASS = 5

# The counts of classes are compared with those of so many random orders.
_ORDERS = 99

# Wide parts are looked at in this many random projections: class structure shows in almost every one.
_WIDE, _PROJECTIONS = 16, 8

# Consecutive batches are taken together until they hold so many examples: the chi-square law of mean ranks
# wants groups of five at least (Kruskal & Wallis, 1952, section 3).
_BLOCK = 8

Values = Float[np.ndarray, " examples"]
Blocks = Int[np.ndarray, " examples"]


@dataclass(frozen=True)
class Column:
    """One number for each example, and where in the batch it comes from."""

    part: str
    values: Values
    classes: bool


def most_structured(contents: Sequence[Any], sizes: Sequence[int]) -> Structure:
    """Find the part of the batches that differs most between them.

    Of numbers the ranks are compared between batches (Kruskal & Wallis, 1952), of classes their counts
    (chi-square, its law matched to those of random orders). The probability counts all parts (Bonferroni).

    Raises:
        MeasurementError: No part has numbers that vary, or all batches together make one block.
    """
    blocks = _blocks(sizes)
    found = [_structure(column, blocks) for column in columns(contents, sizes) if np.ptp(column.values) > 0.0]
    if not found or blocks[-1] == 0:
        msg = "the batches hold no numbers that vary between examples, or too few examples"
        raise MeasurementError(msg)
    worst = max(found, key=lambda structure: (-structure.probability, structure.excess))
    probability = min(worst.probability * len(found), 1.0)
    return Structure(
        worst.part, worst.excess, probability, worst.correlation, worst.purity, worst.expected_purity
    )


def columns(contents: Sequence[Any], sizes: Sequence[int]) -> list[Column]:
    """Give the numbers of each part that holds some for each example."""
    parts = [dict(_leaves(content, "")) for content in contents]
    found: list[Column] = []
    for name in parts[0]:
        tensors = [part[name] for part in parts if name in part]
        fits = zip(tensors, sizes, strict=False)
        if len(tensors) == len(parts) and all(tensor.shape[0] == size for tensor, size in fits):
            found += _columns(name, tensors)
    return found


def _leaves(content: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, np.ndarray) and content.dtype.kind in "biuf":
        content = torch.as_tensor(content)
    if isinstance(content, Tensor):
        if content.ndim and content.layout == torch.strided and not content.is_complex():
            yield path or "batch", content.detach().cpu()
        return
    for name, item in _members(content, path):
        yield from _leaves(item, name)


def _members(content: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(content, Mapping):
        items = cast("Mapping[Any, Any]", content).items()
        return [(f"{path}{'.' if path else ''}{key}", item) for key, item in items]
    if isinstance(content, list | tuple):
        members = cast("Sequence[Any]", content)
        return [(_name(path, number, len(members)), item) for number, item in enumerate(members)]
    return _members(vars(content), path) if hasattr(content, "__dict__") else []


def _name(path: str, number: int, count: int) -> str:
    pair = ("inputs", "targets")
    return pair[number] if not path and count == len(pair) else f"{path}[{number}]"


def _columns(name: str, tensors: Sequence[Tensor]) -> list[Column]:
    flat = [tensor.reshape(len(tensor), -1) for tensor in tensors]
    widths = {tensor.shape[1] for tensor in flat}
    whole = not tensors[0].is_floating_point()
    if widths == {1}:
        return [_column(name, torch.cat(flat)[:, 0], whole=whole)]
    if len(widths) == 1 and max(widths) <= _WIDE:
        every = torch.cat(flat).T
        return [_column(f"{name}, column {i}", values, whole=whole) for i, values in enumerate(every)]
    summaries = {"mean": torch.cat([tensor.double().mean(dim=1) for tensor in flat])}
    if len(widths) == 1:
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(max(widths), _PROJECTIONS, generator=generator, dtype=torch.float64)
        projected = torch.cat([tensor.double() @ directions for tensor in flat]).T
        summaries |= {f"projection {i}": values for i, values in enumerate(projected)}
    else:
        widest = [torch.full((len(tensor),), tensor.shape[1]) for tensor in flat]
        summaries["length"] = torch.cat(widest)
    return [_column(f"{name}, {what}", values, whole=False) for what, values in summaries.items()]


def _column(part: str, values: Tensor, *, whole: bool) -> Column:
    numbers = torch.nan_to_num(values.double()).numpy()
    distinct = len(np.unique(numbers))
    few = distinct <= _FEW_VALUES or (whole and distinct * _EXAMPLES_PER_CLASS <= len(numbers))
    return Column(part, numbers, classes=few)


def _blocks(sizes: Sequence[int]) -> Blocks:
    """Number the block of each example."""
    numbers: list[int] = []
    held = block = 0
    for size in sizes:
        if held >= _BLOCK:
            held, block = 0, block + 1
        numbers += [block] * size
        held += size
    return np.array(numbers)


def _structure(column: Column, blocks: Blocks) -> Structure:
    ranks = rankdata(column.values)
    ranks = (ranks - ranks.mean()) / ranks.std(ddof=1)
    counts = np.bincount(blocks)
    means = np.bincount(blocks, weights=ranks) / counts
    correlation = _neighbours(means)
    if column.classes:
        return _of_classes(column, blocks, correlation)
    statistic = float((counts * means**2).sum())
    degrees = max(len(counts) - 1, 1)
    return Structure(column.part, statistic / degrees, float(chi2.sf(statistic, degrees)), correlation)


def _of_classes(column: Column, blocks: Blocks, correlation: float) -> Structure:
    labels = np.unique(column.values, return_inverse=True)[1]
    statistic, purity = _counted(labels, blocks)
    generator = np.random.default_rng(0)
    random = np.array([_counted(generator.permutation(labels), blocks) for _ in range(_ORDERS)])
    mean, variance = float(random[:, 0].mean()), float(random[:, 0].var(ddof=1))
    # Equal in mean and variance to scale * chi-square(degrees); one order of all examples has no variance.
    scale = variance / (2.0 * mean) if mean > 0.0 else 0.0
    probability = float(chi2.sf(statistic / scale, mean / scale)) if scale > 0.0 else 1.0
    return Structure(
        column.part,
        statistic / mean if mean > 0.0 else 1.0,
        probability,
        correlation,
        purity,
        float(random[:, 1].mean()),
    )


def _counted(labels: Blocks, blocks: Blocks) -> tuple[float, float]:
    """Give the chi-square statistic of the counts, and the share of the most common class in a block."""
    classes, count = int(labels.max()) + 1, int(blocks.max()) + 1
    table = np.bincount(blocks * classes + labels, minlength=count * classes).reshape(count, classes)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / len(labels)
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(table.max(axis=1).sum() / len(labels))


def _neighbours(means: Float[np.ndarray, " blocks"]) -> float:
    """Correlation of each mean with the next; 0 where there are too few to tell."""
    centred = means - means.mean()
    total = float((centred**2).sum())
    if len(means) < 3 or total == 0.0:  # noqa: PLR2004  # two neighbours always fall apart
        return 0.0
    value = float((centred[:-1] * centred[1:]).sum()) / total
    return value if math.isfinite(value) else 0.0
