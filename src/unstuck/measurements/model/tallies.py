"""What one nonlinearity does to a gradient, summed over calls and batches."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unstuck.measurements.model.activations import Nonlinearity
from unstuck.measurements.records.layers import Activation

# Flat is a slope below one percent of the largest: what a hundred steps do there, one does elsewhere.
_FLAT = 0.01

# A unit is saturated when it is flat on so large a share of the examples.
_NEARLY_ALL = 0.99

# Where nonlinearities have their largest slope: around 0, or between their bounds.
_GRID = torch.linspace(-8.0, 8.0, 3201)

# The norm of the derivative of a softmax, diag(p) - p p^T, where two classes share all.
_LARGEST_SOFTMAX = 0.5


@dataclass
class _Look:
    """One call, value by value; all of one shape.

    Attributes:
        slope: Relative to the largest.
        low: Flat, below the middle.
        flat: Flat, anywhere.
        pull: Where the arriving gradient would move the value off its flat side.
        passed: The gradient at the input, relative to the largest slope.
        impact: |gradient times input|.
    """

    slope: Tensor
    low: Tensor
    flat: Tensor
    pull: Tensor | None = None
    passed: Tensor | None = None
    impact: Tensor | None = None


class Tally:
    """Sums over all calls of one nonlinearity."""

    def __init__(self, first: Nonlinearity, name: str) -> None:
        self._first = first
        self._name = name
        self._largest = 1.0 if first.kind == "softmax" else largest_slope(first)
        self._axis = unit_axis(first)
        units = 1 if self._axis is None else first.x.shape[self._axis]
        self._flat = torch.zeros(units, dtype=torch.float64, device=first.x.device)
        self._low = torch.zeros_like(self._flat)
        self._least = torch.full_like(self._flat, math.inf)
        self._most = torch.full_like(self._flat, -math.inf)
        self._seen = self._slope = self._silent = self._examples = 0.0
        self._arrived = self._left = self._back = self._impact = 0.0
        self._hidden = self._gate = False
        self._heard = False

    def add(self, seen: Nonlinearity, examples: int) -> None:
        """Add one call in a batch of so many examples, whose mean is the loss."""
        look = _look_at_softmax(seen) if seen.kind == "softmax" else _look(seen, self._largest)
        self._hidden |= seen.hidden
        self._gate |= seen.gate
        self._flat += self._by_unit(look.flat)
        self._low += self._by_unit(look.low)
        values = self._units(seen.x)
        self._least = torch.minimum(self._least, values.amin(0))
        self._most = torch.maximum(self._most, values.amax(0))
        self._seen += seen.x.numel() / len(self._flat)
        self._slope += float(look.slope.sum())
        rows = look.flat.reshape(len(look.flat), -1) if look.flat.ndim else look.flat.reshape(1, 1)
        self._silent += float(rows.all(1).sum())
        self._examples += len(rows)
        if seen.gradient is None or look.pull is None or look.passed is None or look.impact is None:
            return
        self._heard = True
        energy = seen.gradient.to(look.slope.dtype).square() * examples**2
        self._arrived += float(energy.sum())
        self._left += float(look.passed.square().sum()) * examples**2
        self._back += float(energy[look.flat & look.pull].sum())
        self._impact += examples * float(look.impact[look.flat].sum())

    def record(self, total: float) -> Activation:
        """Give what was summed; `total` is the sum of the losses of all examples."""
        share_flat, share_low = self._flat / self._seen, self._low / self._seen
        bounded = self._first.kind in ("bounded", "softmax")
        # A unit that is given the same on all examples is cut off before: it is not for it to wake up.
        varies = self._most > self._least
        dead = (share_low >= 1.0) & varies & (self._first.kind == "rectifier")
        saturated = (share_flat >= _NEARLY_ALL) & ~dead & (bounded or math.isfinite(self._first.bounds[1]))
        heard = self._heard and self._arrived > 0.0
        return Activation(
            name=self._name,
            op=_plain(self._first),
            kind="bounded" if bounded else self._first.kind,
            units=len(self._flat),
            seen=round(self._seen),
            dead=float(dead.double().mean()),
            saturated=float(saturated.double().mean()),
            flat=float(share_flat.mean()),
            slope=self._slope / (self._seen * len(self._flat)),
            silent=self._silent / self._examples,
            passed=_finite(math.sqrt(self._left / self._arrived)) if heard else None,
            back=_finite(self._back / self._arrived) if heard else None,
            leverage=_finite(self._impact / abs(total)) if heard and total else None,
            output=not self._hidden,
            gate=self._gate,
        )

    def _by_unit(self, mask: Tensor) -> Tensor:
        return self._units(mask).sum(0)

    def _units(self, x: Tensor) -> Tensor:
        """Give the values in float64, a column a unit."""
        x = x if self._axis is None else x.movedim(self._axis, -1)
        return x.reshape(-1, len(self._flat)).double()


def unit_axis(seen: Nonlinearity) -> int | None:
    """Along which axis the units lie; None if there is but one.

    After a convolution, the axis that has as many entries as it made channels: the second, or the last where
    they were moved there, as vision transformers do. Everywhere else the last: (batch, time, features).
    """
    if seen.x.ndim < 2:  # noqa: PLR2004
        return None
    channels = seen.origin.channels
    if channels is None or seen.x.ndim == 2 or seen.x.shape[1] != channels:  # noqa: PLR2004
        return -1
    return 1


def _plain(seen: Nonlinearity) -> str:
    """Name a nonlinearity as its users do."""
    if seen.op == "hardtanh" and seen.bounds == (0.0, 6.0):
        return "relu6"
    return seen.op.strip("_").removeprefix("safe_")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def largest_slope(seen: Nonlinearity) -> float:
    """The largest slope that a nonlinearity has anywhere."""
    grid = (_GRID + _middle(seen)).to(seen.x.device)
    return float(_slope(seen, grid).abs().max()) or 1.0


def _slope(seen: Nonlinearity, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(seen.apply(leaf).sum(), leaf)[0]


def _middle(seen: Nonlinearity) -> float:
    low, high = seen.bounds
    return (low + high) / 2.0 if math.isfinite(low) and math.isfinite(high) else 0.0


def _look(seen: Nonlinearity, largest: float) -> _Look:
    x = seen.x.to(torch.float64 if seen.x.dtype == torch.float64 else torch.float32)
    slope = _slope(seen, x) / largest
    flat = slope.abs() < (0.0 if seen.kind == "leaky" else _FLAT)
    above = x - _middle(seen)
    look = _Look(slope.abs(), flat & (above <= 0.0), flat)
    if seen.gradient is not None and seen.gradient.shape == x.shape:
        gradient = seen.gradient.to(x.dtype)
        look.pull = gradient * above.sign() > 0.0
        look.passed = gradient * slope
        look.impact = (look.passed * x).abs() * largest
    return look


def _look_at_softmax(seen: Nonlinearity) -> _Look:
    """A softmax is flat where one class has it all: its slope there is 4 p (1 - p)."""
    x = seen.x.to(torch.float64 if seen.x.dtype == torch.float64 else torch.float32)
    p = x.softmax(seen.axis)
    most, winner = p.max(seen.axis, keepdim=True)
    slope = (4.0 * most * (1.0 - most)).expand_as(p)
    flat = slope < _FLAT
    look = _Look(slope, torch.zeros_like(flat), flat)
    if seen.gradient is not None and seen.gradient.shape == x.shape:
        gradient = seen.gradient.to(x.dtype)
        # Another class than the winner would lower the loss.
        least = gradient.amin(seen.axis, keepdim=True)
        look.pull = (least < gradient.gather(seen.axis, winner)).expand_as(p)
        inner = p * (gradient - (p * gradient).sum(seen.axis, keepdim=True))
        look.passed = inner / _LARGEST_SOFTMAX
        look.impact = (inner * (x - x.mean(seen.axis, keepdim=True))).abs()
    return look
