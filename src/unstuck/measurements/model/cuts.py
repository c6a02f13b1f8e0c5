"""Why no gradient comes to what is to be trained: detached, behind step functions, or nothing can come.

All of it is asked of a loss as a function of all parameters, trained or not, its slots by their numbers.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.judging import Judge
from unstuck.measurements.model.letting import Attached, StraightThrough, letting_through
from unstuck.objective import Objective
from unstuck.objective.ledger import GRADIENT

# Random displacements by which it is seen how much depends on what no gradient comes to.
_DRAWS = 3

# Where there is no gradient it is looked for at weights as they are initialised, and so many times larger: units
# whose inputs or weights have grown huge give one at small weights, and stairs at none.
_SIZES = (1.0, 1e-2, 1e-4, 1e-6)

# A loss that changes by more than so many roundings of itself has been moved.
_ROUNDINGS = 100.0


def some(gradient: Tensor | None) -> bool:
    """Whether anything but zeros comes."""
    return gradient is not None and bool(gradient.any())


def gradients_of(wide: Objective, index: int) -> tuple[Sequence[Tensor | None], float]:
    """Gradients of one batch by all slots, None where autograd does not come, and the loss."""
    batch = wide.batches[index]
    wide.ledger.spend(GRADIENT, batch.examples)
    with wide.replay.session():
        leaves = wide.replay.leaves(wide.theta)
        loss = wide.replay.loss(batch, leaves)
        found = cast("Sequence[Tensor | None]", torch.autograd.grad(loss, leaves, allow_unused=True))
        gradients = [gradient if gradient is None else gradient.detach() for gradient in found]
        return gradients, float(loss.detach())


def mean_gradient(
    wide: Objective, only: Sequence[int], chosen: Callable[[int], bool], *, decayed: bool = False
) -> Tensor:
    """The gradient over the batches `only`, zero outside of the chosen slots."""
    gradient = wide.value_and_gradient(wide.theta, only, decayed=decayed)[1]
    pieces = enumerate(wide.parameters.pieces(gradient))
    return wide.parameters.flatten(
        [piece if chosen(number) else torch.zeros_like(piece) for number, piece in pieces]
    )


def behind_steps(judge: Judge, silent: Sequence[int]) -> tuple[set[int], Tensor, tuple[str, ...]]:
    """To which silent slots a gradient would come past step functions, that gradient, and those functions."""
    wide, mode = judge.objective, StraightThrough()
    none: tuple[set[int], Tensor, tuple[str, ...]] = (set(), torch.zeros_like(wide.theta), ())
    if not silent:
        return none
    index = judge.halves.finds[0]
    with contextlib.suppress(Exception):
        gradients, _ = gradients_of(_through(wide, lambda: mode), index)
        if mode.met and any(some(gradients[number]) for number in silent):
            through = mean_gradient(_through(wide, StraightThrough), judge.halves.finds, silent.__contains__)
            pieces = wide.parameters.pieces(through)
            return {number for number in silent if some(pieces[number])}, through, tuple(sorted(mode.met))
    return none


def attached_gradient(judge: Judge, unreached: Sequence[int]) -> Tensor:
    """The gradient of those slots in a loss in which nothing cuts it off; zero where that cannot be had."""
    wide = judge.objective
    # A model that writes on its parameters under no_grad cannot be run so.
    with contextlib.suppress(Exception):
        attached = _through(wide, Attached, StraightThrough)
        return mean_gradient(attached, judge.halves.finds, unreached.__contains__)
    return torch.zeros_like(wide.theta)


def on_stairs(judge: Judge, silent: Sequence[int]) -> list[int]:
    """Which silent slots have no gradient elsewhere either, as no zero and no dead unit has it: only stairs do."""
    flat, wide = list(silent), judge.objective
    # Both signs of each draw: what a clamp or a unit cuts off on one side of zero it lets through on the other.
    for size in (sign * size for size in _SIZES for sign in (1.0, -1.0)):
        if flat:
            shaken = copy.copy(wide)
            shaken.theta = _begun_anew(wide, flat, size)
            gradients, _ = gradients_of(shaken, judge.halves.finds[0])
            flat = [number for number in flat if not some(gradients[number])]
    return flat


def moving(judge: Judge, lost: Sequence[int]) -> set[int]:
    """Which slots the loss depends on all the same: it changes when they do."""
    if not lost:
        return set()
    wide, index = judge.objective, judge.halves.finds[:1]
    here = wide.values(wide.theta, index)[0]
    least = _ROUNDINGS * wide.parameters.eps * abs(here)

    def moves(some: Sequence[int]) -> bool:
        there = wide.values(_shaken(wide, some, 0), index)[0]
        return abs(there - here) > least

    return {number for number in lost if moves([number])} if moves(lost) else set()


def sway_of(judge: Judge, severed: AbstractSet[int]) -> Estimate:
    """By how much the loss of a batch changes when they are exchanged for others of their size."""
    objective, judges = judge.objective, judge.halves.judges
    draws = [judge.look(_shaken(objective, sorted(severed), seed)) for seed in range(_DRAWS)]
    changes = [sum(abs(there[index] - judge.base[index]) for there in draws) / _DRAWS for index in judges]
    return weighted_mean(changes, [objective.weights[index] for index in judges])


def _shaken(wide: Objective, some: Sequence[int], seed: int) -> Tensor:
    """Displace some slots at random by as much as they are long, or by 1 a number where they are zero."""
    generator = torch.Generator().manual_seed(seed)
    theta = wide.theta.clone()
    for number, piece in enumerate(wide.parameters.pieces(theta)):
        noise = torch.randn(piece.shape, generator=generator).to(piece)
        if number in some:
            size = float(piece.square().mean().sqrt())
            piece.add_(noise, alpha=size or 1.0)
    return theta


def _begun_anew(wide: Objective, some: Sequence[int], size: float) -> Tensor:
    """Draw some slots as initialisations do, so many times larger."""
    generator = torch.Generator().manual_seed(0)
    theta = wide.theta.clone()
    for number, piece in enumerate(wide.parameters.pieces(theta)):
        noise = torch.randn(piece.shape, generator=generator).to(piece)
        if number in some:
            incoming = piece[0].numel() if piece.ndim > 1 else 1
            piece.copy_(noise * (size / math.sqrt(max(incoming, 1))))
    return theta


def _through(wide: Objective, *modes: Callable[[], TorchFunctionMode]) -> Objective:
    """Give the same objective of a loss that lets gradients through."""
    training = wide.replay.training
    open_ = copy.copy(wide)
    open_.replay = copy.copy(wide.replay)
    open_.replay.training = replace(training, loss=letting_through(training.loss, *modes))
    return open_
