"""A few successive steps, taken apart: lengths, angles, noise, what rounding leaves unchanged."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from unstuck.measurements.optimizer.second_moments import holds, known_key, weight
from unstuck.objective.decay import coupled
from unstuck.objective.shards import local
from unstuck.watching.models import (
    Inventory,
    as_written,
    inventory,
    layer_of,
    model_of,
    momentum_of,
    names_of,
    parameters_of,
    unwrapped,
)
from unstuck.watching.sampled import Group, Sample

# Coordinates that are copied to compare two moments, at most: 16 MB in float32. Of more parameters every n-th is
# taken; the relative error of a length over so many is below a thousandth.
_MOST = 4_000_000

# Of a model that `fully_shard` has divided, the numbers are those of this process's shard, and lengths are scaled up
# to the whole: what asks the other processes would wait for them in the midst of their steps.

# So often in a row no gradient may come to any parameter before what came earlier is forgotten: other parameters are
# trained by now, those of the next fold, say.
_MISSED = 4

# Of the cosine between the step and the way down: less says that it goes somewhere else, and nothing of its length.
_DOWN = 0.2


class Sampler:
    """Compares successive steps of one optimizer.

    Attributes:
        size: Number of parameters that it moves.
        reached: Ids of those that had a gradient when a sample was taken, since the last time that none had any.
        inventory: What the model has, when last seen.
        close: Whether a sample is being taken.
        erased: Whether gradients were seen to come, and were gone at the step.
        missed: How often in a row none came when they were waited for.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module | None = None) -> None:
        # Neither is kept alive by being watched.
        self._held = weakref.ref(optimizer)
        everything = parameters_of(optimizer)
        outer = model_of(everything) if model is None else model
        found = None if outer is None else unwrapped(outer)
        self._outer = None if outer is None else weakref.ref(outer)
        self._model = None if found is None else weakref.ref(found)
        self.size = sum(tensor.numel() for tensor in everything)
        names = map(as_written, names_of(found, everything))
        self._names = dict(zip(map(id, everything), names, strict=True))
        self.reached: set[int] = set()
        self.inventory: Inventory | None = None
        self.close = self.erased = False
        self.missed = 0
        self._probing = self._came = self._had = self._within = False
        self._tensors: list[Tensor] = []
        self._left: Tensor | None = None  # the weights after step k-1
        self._before: Tensor | None = None
        self._last: Tensor | None = None
        self._micro: list[Tensor] = []
        self._versions = 0  # of the weights at the last backward pass
        self._step: Tensor | None = None
        self._down = 0.0
        self._piled, self._outside = False, 0.0
        self._sample: Sample | None = None

    @property
    def model(self) -> nn.Module | None:
        """Whose parameters they are, if that is known."""
        return None if self._model is None else self._model()

    @property
    def outer(self) -> nn.Module | None:
        """The same with what is wrapped around it, as by compiling."""
        return None if self._outer is None else self._outer()

    def parameters(self) -> list[Tensor]:
        """What the optimizer moves, as long as there is one."""
        optimizer = self._held()
        return [] if optimizer is None else parameters_of(optimizer)

    @property
    def momentum(self) -> float | None:
        """What share of a step later ones repeat, as long as there is an optimizer."""
        optimizer = self._held()
        return None if optimizer is None else momentum_of(optimizer)

    @property
    def scheduled(self) -> bool:
        """Whether a schedule of PyTorch's has been given the optimizer, which may come to lower its rate."""
        optimizer = self._held()
        return optimizer is not None and "initial_lr" in optimizer.param_groups[0]

    @property
    def _optimizer(self) -> Optimizer:
        optimizer = self._held()
        assert optimizer is not None  # noqa: S101  # it is stepping
        return optimizer

    def before(self) -> None:
        """Before a step: remember the weights, if it is step k."""
        if self.close:
            # A step may itself clear what it has used.
            self._had, self._within = self._has(), True
        if self._last is not None:
            self._before = self._thinned(self._tensors)
            if self._left is not None:
                self._outside = float((self._before - self._left).norm())
                self._left = None

    def before_micro_batch(self) -> None:
        """Before a backward pass: see whether the gradient of the step before is still there, if it is for step k."""
        if self._last is not None and not self._micro and self._complete():
            self._piled = bool(self._last.any()) and torch.equal(self._gradients(), self._last)
        elif self._within and self._micro and self._complete() and self._moved():
            self._piled |= bool(self._micro[-1].any()) and torch.equal(self._gradients(), self._micro[-1])

    def micro_batch(self) -> None:
        """After a backward pass: remember what has been added up so far, if it is for step k."""
        if self._probing:
            came = {id(tensor) for tensor in self.parameters() if tensor.grad is not None}
            self._came |= bool(came)
            self.reached |= came
        if self._last is not None and self._complete():
            self._micro.append(self._gradients())
            self._versions = self._written()
        if self._within:  # a closure's, which the step is made from
            self._had = self._had or self._has()

    def _written(self) -> int:
        """How often the weights have been written to."""
        return sum(tensor._version for tensor in self._tensors)  # noqa: SLF001

    def _moved(self) -> bool:
        """Whether that was since the last backward pass: a closure is at another point, not at another batch."""
        return self._written() != self._versions

    def _has(self) -> bool:
        return any(tensor.grad is not None and bool(local(tensor.grad).any()) for tensor in self.parameters())

    def after(self) -> Sample | None:
        """After a step: begin, go on, or give the sample, which is `close` no more."""
        self._within = False
        if not self.close:
            self._begin()
        elif self._probing:
            self.erased = self._came and not self._had
            self.missed = 0 if self._came or self._had else self.missed + 1
            if self.missed >= _MISSED:
                self.reached.clear()
            self._forget()
        elif self._step is not None:
            return self._finish(self._step)
        elif self._before is not None and self._last is not None and self._complete():
            sample = self._compared(self._before, self._thinned(self._tensors), self._last, self._gradients())
            # Sums that hold each other tell nothing of how gradients change from one step to the next.
            self._sample = (
                replace(sample, gradient_cosine=None, signal=None, noise=None) if sample.piled else sample
            )
            self._before = self._last = None
            self._micro = []
        else:
            self._forget()
        return None

    def _begin(self) -> None:
        if (model := self.model) is not None:
            self.inventory = inventory(model)
        self.reached |= {id(tensor) for tensor in self.parameters() if tensor.grad is not None}
        self._tensors = [tensor for tensor in self.parameters() if _is_plain(tensor.grad)]
        if self._tensors:
            self._last, self._left, self.close = self._gradients(), self._thinned(self._tensors), True
        elif all(tensor.grad is None for tensor in self.parameters()):
            self._probing = self.close = True

    def _finish(self, step: Float[Tensor, " n"]) -> Sample | None:
        sample = self._sample
        if (
            sample is not None
            and self._complete()
            and not sample.piled
            and sample.descent_cosine
            and sample.descent_cosine > _DOWN
        ):
            sample = replace(sample, overshoot=_ratio(float(self._gradients() @ step), self._down))
        self._forget()
        return sample

    def _complete(self) -> bool:
        return all(_is_plain(tensor.grad) for tensor in self._tensors)

    def _forget(self) -> None:
        self._left = self._before = self._last = self._step = self._sample = None
        self._tensors, self._micro = [], []
        self.close = self._piled = self._probing = self._came = False
        self._outside = 0.0

    def _compared(self, before: Tensor, after: Tensor, last: Tensor, gradient: Tensor) -> Sample:
        update = self._step = after - before
        self.erased = bool(self._micro) and bool(self._micro[-1].any()) and not self._had
        moved = gradient != 0.0
        signal, noise = self._noise(last, gradient)
        numbers = torch.stack(
            [
                gradient @ last,
                last @ last,
                gradient @ gradient,
                gradient @ update,
                update @ update,
                signal,
                noise,
                (moved & (update == 0.0)).sum().to(gradient),
                moved.sum().to(gradient),
                self._mean_square(gradient),
                self._squared(gradient, before),
            ]
        )
        sums = torch.stack([self._sums(gradient), self._sums(before), self._sums(update)])
        along, past, square, down, step, signal_, noise_, still, all_, moment, taken = numbers.tolist()
        parts = [
            _lengths(*row, stands_for=count) for *row, count in zip(*sums.tolist(), self._counts, strict=True)
        ]
        whole = _together(parts)
        self._down = -down
        count = gradient.numel()
        return Sample(
            gradient_norm=whole.gradient_norm,
            weight_norm=whole.weight_norm,
            update_norm=whole.update_norm,
            gradient_cosine=_ratio(along, math.sqrt(past) * math.sqrt(square)),
            descent_cosine=_ratio(-down, math.sqrt(step) * math.sqrt(square)),
            signal=signal_,
            noise=noise_,
            sigma=None if math.isnan(moment) else math.sqrt(moment),
            sigma_ratio=None if math.isnan(moment) else _ratio(math.sqrt(moment), math.sqrt(taken / count)),
            unchanged=_ratio(still, all_),
            overshoot=None,
            layers=self._by_layer(parts),
            groups=self._by_group(parts),
            piled=self._piled,
            outside=self._outside,
            numb=any(part.gradient_norm == 0.0 for part in parts),
            unbalanced=math.sqrt(taken / square) if square > 0.0 else 1.0,
        )

    def _noise(self, last: Float[Tensor, " n"], gradient: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Signal and noise: from the micro-batches if there are several, else from two successive steps."""
        sums = self._micro
        count = len(sums)
        if count > 1:
            shares = torch.stack(
                [after - before for before, after in zip([0.0 * sums[0], *sums], sums, strict=False)]
            )
            noise = count * shares.var(dim=0).sum()
            # Clipping and scalers have made another length of what was added up.
            square = gradient @ gradient / (sums[-1] @ sums[-1])
            return gradient @ gradient - square * noise, square * noise
        return gradient @ last, (gradient - last).square().sum() / 2.0

    def _squared(self, gradient: Float[Tensor, " n"], weights: Float[Tensor, " n"]) -> Tensor:
        """Sum of squares of what the optimizer takes for the gradient: with its coupled weight decay."""
        of = {
            id(tensor): decay
            for group in self._optimizer.param_groups
            if (decay := coupled(self._optimizer, group))
            for tensor in group["params"]
        }
        if of:
            shares = weights.new_tensor([of.get(id(tensor), 0.0) for tensor in self._tensors])
            lengths = torch.tensor(self._lengths, device=weights.device)
            gradient = gradient + shares.repeat_interleave(lengths) * weights
        return gradient @ gradient

    def _mean_square(self, gradient: Float[Tensor, " n"]) -> Tensor:
        """Mean of the optimizer's running mean of squares, debiased; NaN where it keeps none."""
        key, _ = known_key(self._optimizer, self._tensors[:1])
        if key is None or not all(holds(self._optimizer, tensor, key) for tensor in self._tensors):
            return gradient.new_full((), math.nan)
        found = self._thinned([self._optimizer.state[tensor][key] for tensor in self._tensors])
        mean = found.square().mean() if key == "exp_inf" else found.mean()
        group, state = self._optimizer.param_groups[0], self._optimizer.state[self._tensors[0]]
        return mean / weight(group, state, key)

    def _gradients(self) -> Float[Tensor, " n"]:
        return self._thinned([tensor.grad for tensor in self._tensors if tensor.grad is not None])

    def _thinned(self, tensors: Sequence[Tensor]) -> Float[Tensor, " n"]:
        """One vector of all, or of every n-th coordinate, in the widest type among them."""
        here = [local(tensor.detach()) for tensor in tensors]
        each = max(math.ceil(sum(tensor.numel() for tensor in here) / _MOST), 1)
        strides = [each if tensor.numel() > each else 1 for tensor in here]
        pieces = [
            tensor.to_dense().reshape(-1)[::stride] for tensor, stride in zip(here, strides, strict=True)
        ]
        self._lengths = [piece.numel() for piece in pieces]
        self._counts = [
            stride * tensor.numel() / max(part.numel(), 1)
            for stride, tensor, part in zip(strides, tensors, here, strict=True)
        ]
        first = pieces[0]
        wide = torch.float64 if any(piece.dtype == torch.float64 for piece in pieces) else torch.float32
        return torch.cat([piece.to(first.device, wide) for piece in pieces])

    def _sums(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Sum of squares of each tensor's piece."""
        lengths = torch.tensor(self._lengths, device=vector.device)
        return torch.segment_reduce(vector.square(), "sum", lengths=lengths)

    def _by_layer(self, parts: Sequence[Group]) -> dict[str, Group]:
        layers: dict[str, list[Group]] = {}
        for tensor, part in zip(self._tensors, parts, strict=True):
            layers.setdefault(layer_of(self._names.get(id(tensor), "added later")), []).append(part)
        return {layer: _together(own) for layer, own in layers.items()}

    def _by_group(self, parts: Sequence[Group]) -> tuple[Group, ...]:
        of = {id(tensor): part for tensor, part in zip(self._tensors, parts, strict=True)}
        return tuple(
            _together([of[id(tensor)] for tensor in group["params"] if id(tensor) in of])
            for group in self._optimizer.param_groups
        )


def _is_plain(gradient: Tensor | None) -> bool:
    """Whether its numbers can be had: those of a sparse one, as of an embedding, if all of them fit."""
    if gradient is None or not gradient.is_floating_point():
        return False
    sparse = gradient.layout == torch.sparse_coo and gradient.numel() <= _MOST
    return sparse or gradient.layout == torch.strided


def _lengths(gradient: float, weight: float, update: float, *, stands_for: float) -> Group:
    return Group(*(math.sqrt(stands_for * square) for square in (gradient, weight, update)))


def _together(parts: Sequence[Group]) -> Group:
    return Group(
        math.hypot(*(part.gradient_norm for part in parts)),
        math.hypot(*(part.weight_norm for part in parts)),
        math.hypot(*(part.update_norm for part in parts)),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0.0 and math.isfinite(part) and math.isfinite(whole) else None
