"""Scores that are products of rows of a fixed length, as cosines are: how low the loss can go with those."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unstuck.measurements.loss.floors import descend, value
from unstuck.measurements.loss.tape import Call, Tail, Tape

# What multiplies rows by rows, and what divides by their lengths itself.
_PRODUCTS = ("matmul", "mm", "bmm", "einsum", "linear")
_COSINES = ("cosine_similarity",)

# Rows are of one length if they differ by no more than half precision rounds.
_EVEN = 1e-3

# Two searches agree on a floor to this share of the loss.
_APART = 0.02


def floor_of_cosines(built: Tail, loss: float, shaping: frozenset[str] | set[str]) -> float | None:
    r"""Give the least loss over all rows of the lengths that they have, where outputs are the rows' products.

    $\min_{U, V} L(U V^\top)$ with $\|u_i\| = a$ and $\|v_j\| = b$ for all rows: what no parameters of what makes the
    rows can pass, as long as these are normalised and no learnt scale multiplies the products.

    Returns:
        None where outputs are no such products, or two searches do not agree.
    """
    rows = _rows(built, shaping)
    if rows is None:
        return None
    end, axes = rows
    present = end.present()
    lengths = [
        None if axis is None else t.norm(dim=axis).mean() for t, axis in zip(present, axes, strict=True)
    ]

    def bounded(values: Sequence[Tensor]) -> Tensor:
        each = zip(values, axes, lengths, strict=True)
        return end(
            [v if a is None or n is None else n * torch.nn.functional.normalize(v, dim=a) for v, a, n in each]
        )

    drawn = torch.Generator().manual_seed(0)
    noise = [torch.randn(t.shape, generator=drawn).to(t.device, t.dtype) for t in present]
    found = [value(bounded, descend(bounded, start, 0.0)) for start in (present, noise)]
    lowest = min(found)
    return lowest if 0.0 < lowest <= loss and max(found) - lowest <= _APART * loss else None


def _rows(built: Tail, shaping: frozenset[str] | set[str]) -> tuple[Tail, list[int | None]] | None:
    """The tail that begins at the rows, and along which axis each tensor of them is of one length."""
    tape = built.tape
    made = tape.nodes[built.starts[0]].call if len(built.starts) == 1 else None
    if made is None or (call := tape.calls[made]).name not in (*_PRODUCTS, *_COSINES):
        return None
    calls, starts = {made}, dict[int, int | None]()
    for number in _learnt(tape, call):
        while (maker := tape.nodes[number].call) is not None and tape.calls[maker].name in shaping:
            before = _learnt(tape, tape.calls[maker])
            if len(before) != 1:
                return None
            calls.add(maker)
            number = before[0]  # noqa: PLW2901 - the way back to what was normalised
        axis = _axis(tape.nodes[number].tensor) if call.name in _PRODUCTS else None
        if call.name in _PRODUCTS and (axis is None or tape.nodes[number].call is None):
            return None
        starts[number] = axis
    if not starts:
        return None
    ordered = sorted(starts)
    return built.begun(ordered, calls), [starts[number] for number in ordered]


def _learnt(tape: Tape, call: Call) -> list[int]:
    return [number for number in dict.fromkeys(call.uses) if tape.nodes[number].learnt]


def _axis(tensor: Tensor) -> int | None:
    """The axis along which all rows, two at least, are of one length that is not zero."""
    for axis in range(tensor.ndim - 1, -1, -1):
        lengths = tensor.detach().float().norm(dim=axis)
        if tensor.shape[axis] < 2 or lengths.numel() < 2:  # noqa: PLR2004 - one number is of its own length
            continue
        mean = float(lengths.mean())
        if mean > 0.0 and float((lengths - mean).abs().max()) <= _EVEN * mean:
            return axis
    return None
