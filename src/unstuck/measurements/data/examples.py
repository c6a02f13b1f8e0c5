"""Inputs and labels of single examples as plain columns of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.measurements.data.dependence import normal_scores

# Whole numbers, such as tokens, are spread over so many columns by counting, and by place if there are few places.
_BINS, _PLACES = 256, 64

# Two values only lie equally far from the middle, up to their rounding.
_CONSTANT = 1e-3

# Inputs wider than this are thinned out; images are averaged to this many pixels a side.
_WIDEST, _SIDE = 8192, 32

# More different whole numbers than this, and every fourth example another, are a quantity rather than classes.
_CLASSES = 20


@dataclass(frozen=True)
class Examples:
    """Different examples, one a row.

    Attributes:
        inputs: As in the batches, by the tensors of a batch.
        targets: Their labels.
        marks: Numbers that are the same for the same inputs only.
        extra: Other columns given for them.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    marks: Tensor
    extra: Tensor | None = None

    def without(self, marks: Tensor) -> "Examples":
        """Leave out those whose inputs are among others."""
        return self.chosen(~torch.isin(self.marks, marks))

    def chosen(self, rows: Tensor) -> "Examples":
        """Give some of the rows."""
        extra = None if self.extra is None else self.extra[rows]
        return Examples(
            tuple(tensor[rows] for tensor in self.inputs), self.targets[rows], self.marks[rows], extra
        )


def distinct(
    inputs: Sequence[Sequence[Tensor]],
    targets: Sequence[Tensor],
    most: int,
    extra: Sequence[Tensor] | None = None,
) -> Examples:
    """Join batches and leave out repeated inputs: an example must not predict itself.

    Texts of different lengths are padded with zeros; labels below zero, which criteria ignore, are left out.
    """
    joined = tuple(_joined([batch[n] for batch in inputs]).cpu() for n in range(len(inputs[0])))
    target = _joined(targets).cpu()
    marks = sum((_marks(tensor) for tensor in joined), torch.zeros(len(target), dtype=torch.float64))
    whole = Examples(joined, target, marks, torch.cat(list(extra)) if extra else None)
    _, inverse = whole.marks.unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(inverse))
    first.scatter_reduce_(0, inverse, torch.arange(len(inverse)), reduce="amin")
    if target.ndim == 1 and not target.is_floating_point() and target.dtype != torch.bool:
        first = first[target[first] >= 0]
    return whole.chosen(first.sort().values[:most])


def features(inputs: Sequence[Tensor]) -> list[Float[Tensor, "n _"]]:
    """Give columns of numbers for inputs of any shape; and those of sequences and sets summed over their members.

    What one member tells, wherever it stands, shows in the sum among as many fewer columns as there are members.
    """
    made = [_of_numbers(tensor) if _is_real(tensor) else _of_tokens(tensor) for tensor in inputs]
    sums = [tensor.float().nan_to_num().sum(1)[:, :_WIDEST] for tensor in inputs if _is_sequence(tensor)]
    sums += [_counts(tensor) for tensor in inputs if _is_text(tensor)]
    return [torch.cat(made, 1), *([torch.cat(sums, 1)] if sums else [])]


def discrete(inputs: Sequence[Tensor]) -> bool:
    """Whether all inputs are of few different numbers, as tokens, signs and bits are."""
    return all(t.dtype != torch.uint8 and len(t.unique()) <= _BINS // 2 for t in inputs)


def names(inputs: Sequence[Tensor]) -> bool:
    """Whether inputs are whole numbers of which no two examples share any, at any place."""
    flat = [tensor.reshape(len(tensor), -1) for tensor in inputs]
    places = [place for tensor in flat for place in tensor.unbind(1)]
    return not any(map(_is_real, flat)) and all(len(place.unique()) == len(place) for place in places)


def columns(targets: Tensor) -> Float[Tensor, "n _"]:
    """Give columns of numbers for labels: indicators of classes, or the normal scores of quantities."""
    flat = targets.flatten(1) if targets.ndim > 1 else targets[:, None]
    if targets.is_floating_point() or targets.dtype == torch.bool:
        return normal_scores(flat[:, :: max(flat.shape[1] // 256, 1)].float())
    values, classes = flat.unique(return_inverse=True)
    if len(values) > max(_CLASSES, len(flat) // 4):
        return normal_scores(flat.float())
    if flat.shape[1] == 1:
        return torch.nn.functional.one_hot(classes[:, 0]).float()
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(len(values), 4, generator=drawn)[classes].flatten(1)


def scatter(targets: Tensor) -> Float[Tensor, "n _"] | None:
    """Give columns that say how far quantities lie from the middle; None for classes, which have none."""
    if not targets.is_floating_point():
        return None
    squares = columns(targets).square()
    return squares if bool((squares.std(0) > _CONSTANT).any()) else None


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.dtype in (torch.bool, torch.uint8)


def _is_sequence(tensor: Tensor) -> bool:
    return _is_real(tensor) and tensor.ndim == 3  # noqa: PLR2004


def _is_text(tensor: Tensor) -> bool:
    return not _is_real(tensor) and tensor.ndim == 2 and tensor.shape[1] > 1  # noqa: PLR2004


def _joined(parts: Sequence[Tensor]) -> Tensor:
    if len({part.shape[1:] for part in parts}) == 1 or any(part.ndim != 2 for part in parts):  # noqa: PLR2004
        return torch.cat(list(parts))
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def _marks(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(len(tensor), -1).double()
    drawn = torch.Generator().manual_seed(1)
    return flat.nan_to_num() @ torch.rand(flat.shape[1], generator=drawn, dtype=torch.float64)


def _of_numbers(tensor: Tensor) -> Tensor:
    real = tensor.float().nan_to_num()
    if real.ndim == 4 and real.shape[-1] * real.shape[-2] > _SIDE * _SIDE:  # noqa: PLR2004
        real = torch.nn.functional.adaptive_avg_pool2d(real, _SIDE)
    flat = real.reshape(len(real), -1)
    return flat[:, :: -(-flat.shape[1] // _WIDEST)]


def _counts(tensor: Tensor) -> Tensor:
    bins = tensor.reshape(len(tensor), -1) % _BINS
    return torch.zeros(len(bins), _BINS).scatter_add_(1, bins.long(), torch.ones(bins.shape))


def _of_tokens(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(len(tensor), -1)
    parts = [_counts(tensor)]
    if flat.shape[1] <= _PLACES:
        low = _WIDEST // _PLACES
        parts.append(torch.nn.functional.one_hot((flat % low).long(), low).flatten(1).float())
    if flat.shape[1] <= _PLACES or not bool((flat > _BINS).any()):
        parts.append(flat[:, :_WIDEST].float())
    return torch.cat(parts, 1)
