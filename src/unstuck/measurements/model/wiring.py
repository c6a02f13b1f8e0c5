"""Whom the updates reach: which parameters are not trained, and what they could gain."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.measurements.descent import Best, line_search
from unstuck.measurements.judging import Judge
from unstuck.measurements.model.cuts import (
    attached_gradient,
    behind_steps,
    gradients_of,
    mean_gradient,
    moving,
    on_stairs,
    some,
    sway_of,
)
from unstuck.measurements.model.strays import felt, strays
from unstuck.measurements.optimizer.steps import Slope, Twin
from unstuck.measurements.records.updates import Excluded, Wiring
from unstuck.objective import Objective
from unstuck.objective.parameters import Slot
from unstuck.objective.reach import modules, within
from unstuck.objective.sampling import one_line
from unstuck.training import Training

# Some optimizers gather gradients over a few calls before they move anything.
_PATIENCE = 8

# The loss of one batch, and its gradients by the `id` of their parameters.
Found = tuple[float, dict[int, Tensor]]

# A gradient below this share of each number that it is of, the rounding of single precision, is next to nothing.
_NEXT_TO_NOTHING = 2.0**-23

# Where to look first along a gradient: at a hundredth of the length of the weights, or of 1 if they are shorter.
_FIRST = 0.01

# Nothing comes to a tensor whose gradient is zero, number by number, on so many batches.
_ENOUGH = 2


def measure_wiring(training: Training, judge: Judge) -> Wiring:
    """Find the parameters that no update reaches, and measure what a line search along their gradient gains.

    The user's flags are never touched: leaves that require a gradient stand in for frozen parameters. Where
    a parameter is meant to be trained and no gradient comes to it, the gradient is taken as if nothing
    detached it and no step function, such as `round`, had ended it; and where that is not to be had, it is seen
    whether the loss depends on it at all. Costs one gradient of one batch where all is well, else about six over
    the sample.
    """
    slots = (*_all_slots(training), *_strays(training, judge))
    reasons = {number: reason for number, slot in enumerate(slots) if (reason := _reason(training, slot))}
    wiring = Wiring(
        excluded=_grouped(slots, reasons),
        scalars=sum(slot.parameter.numel() for slot in slots),
        scheduled=training.scheduler is not None
        or any("initial_lr" in group for group in _groups(training.optimizer)),
        rate_share=_rate_share(training),
        begun=_has_begun(training),
    )
    if judge.objective.space.parts is not None:
        return replace(
            wiring, reason="the model is divided by fully_shard, so that only what is listed is seen"
        )
    try:
        wide = Judge(_widened(judge.objective, slots), judge.halves, judge.base)
        expected = [number for number in range(len(slots)) if number not in reasons]
        reached, moved, first = _reached(wide.objective, judge.halves.finds, expected)
        reasons |= {number: "unreached" for number in expected if number not in reached}
        silent = [number for number in expected if number in reached and number not in moved]
        if training.optimizer is not None:
            unmoved = _unmoved(judge.objective, training.optimizer, first, judge.halves.finds)
            reasons |= {number: "unmoved" for number in expected if id(slots[number].parameter) in unmoved}
        return _with_gains(wiring, wide, reasons, silent) if reasons or silent else wiring
    except (
        Exception
    ) as error:  # a model that cannot be differentiated by what it holds frozen, or a stranger's
        return replace(wiring, reason=one_line(error))


def _groups(optimizer: Optimizer | None) -> list[dict[str, Any]]:
    return optimizer.param_groups if optimizer else []


def _rate_share(training: Training) -> float | None:
    groups = _groups(training.optimizer)
    shares = [
        float(group["lr"]) / float(group["initial_lr"])
        for group in groups
        if float(group.get("initial_lr", 0.0)) > 0.0
    ]
    if not shares and isinstance(training.scheduler, ReduceLROnPlateau) and len(groups) == 1:
        # It keeps no note of where it began; of a single group the optimizer does.
        given = float(training.optimizer.defaults.get("lr", 0.0)) if training.optimizer else 0.0
        shares = [float(groups[0]["lr"]) / given] if given > 0.0 else []
    return min(shares, default=None)


def _has_begun(training: Training) -> bool:
    """False only where a scheduler stands at its beginning and the optimizer has made no step."""
    stepped = bool(training.optimizer and training.optimizer.state)
    return stepped or getattr(training.scheduler, "last_epoch", 1) != 0


def _reason(training: Training, slot: Slot) -> str | None:
    if not slot.parameter.requires_grad:
        return "frozen"
    if training.optimizer is None:
        return None
    for group in _groups(training.optimizer):
        if any(parameter is slot.parameter for parameter in group["params"]):
            # Strangers' optimizers may find their rate themselves, and have none or None.
            rate = group.get("lr")
            return "rate" if rate is not None and float(rate) == 0.0 else None
    registered = any(parameter is slot.parameter for parameter in training.model.parameters())
    return "unlisted" if registered else "unregistered"


def _grouped(slots: Sequence[Slot], reasons: dict[int, str]) -> tuple[Excluded, ...]:
    def group(reason: str) -> Excluded:
        chosen = [slots[number] for number in sorted(reasons) if reasons[number] == reason]
        return Excluded(
            reason, tuple(slot.name for slot in chosen), sum(slot.parameter.numel() for slot in chosen)
        )

    return tuple(group(reason) for reason in sorted(set(reasons.values())))


def _all_slots(training: Training) -> tuple[Slot, ...]:
    """Every floating parameter, frozen or not, and where it hangs."""
    places: dict[int, list[tuple[dict[str, Tensor | None], str]]] = {}
    for module in modules(within(training.model, training.loss)):
        own: dict[str, Tensor | None] = vars(module)["_parameters"]
        for name, parameter in own.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((own, name))
    return tuple(
        Slot(name, parameter, tuple(places[id(parameter)]))
        for name, parameter in training.model.named_parameters()
        if parameter.is_floating_point() and not parameter.is_meta
    )


def _strays(training: Training, judge: Judge) -> tuple[Slot, ...]:
    """What the model computes with and does not know as its parameters, if a gradient comes to it."""
    found = strays(training.model) if judge.objective.space.parts is None else ()
    if not found:
        return ()
    wide = _widened(judge.objective, (*_all_slots(training), *found))
    return felt(wide, judge.halves.finds[0], found)


def _widened(objective: Objective, slots: Sequence[Slot]) -> Objective:
    """Give the same loss as a function of all parameters; weight decay stays where it is."""
    narrow = objective.parameters
    parameters = narrow.of(slots)
    wide = copy.copy(objective)
    wide.replay = copy.copy(objective.replay)
    wide.replay.parameters = wide.parameters = parameters
    wide.theta = parameters.current()
    if objective.decay is not None:
        own = {
            id(slot.parameter): piece
            for slot, piece in zip(narrow.slots, narrow.pieces(objective.decay), strict=True)
        }
        zeros = [own.get(id(slot.parameter), torch.zeros_like(slot.parameter)) for slot in slots]
        wide.decay = parameters.flatten(zeros)
    return wide


def _reached(
    wide: Objective, only: Sequence[int], expected: Sequence[int]
) -> tuple[set[int], set[int], Found]:
    """Which expected slots autograd comes to, on any batch, to which with more than zeros, and the first gradient.

    Mostly the first batch tells of all.
    """
    reached: set[int] = set()
    moved: set[int] = set()
    first: Found = math.nan, {}
    for looked, index in enumerate(only, start=1):
        gradients, value = gradients_of(wide, index)
        there = {number: gradient for number, gradient in enumerate(gradients) if gradient is not None}
        if looked == 1:
            slots = wide.parameters.slots
            first = value, {id(slots[number].parameter): gradient for number, gradient in there.items()}
        reached |= set(there)
        moved |= {number for number, gradient in there.items() if some(gradient)}
        if reached.issuperset(expected) and (moved.issuperset(expected) or looked >= _ENOUGH):
            break
    return reached, moved, first


def _unmoved(objective: Objective, optimizer: Optimizer, first: Found, only: Sequence[int]) -> set[int]:
    """Which parameters the optimizer's own steps leave exactly where they are though there is a gradient, by `id`.

    The gradient of the `first` batch is known, and mostly one step moves all. Where one does not, it is asked again
    in float64, since rounding may have swallowed it, and for some steps, since some optimizers wait.
    """
    value, gradients = first
    gradient = objective.parameters.flatten(
        [
            gradients.get(id(slot.parameter), torch.zeros_like(slot.parameter))
            for slot in objective.parameters.slots
        ]
    )
    try:
        left = _standing(Twin(objective, optimizer), only[:1], (value, gradient))
        wide = (list(only) * _PATIENCE)[:_PATIENCE]
        return left and _standing(Twin(objective, optimizer, torch.float64), wide, (value, gradient))
    except MeasurementError:  # a stranger's optimizer
        return set()


def _feels(gradient: Tensor | None, parameter: Tensor) -> bool:
    return gradient is not None and bool(
        (gradient.to_dense().abs() > _NEXT_TO_NOTHING * parameter.abs()).any()
    )


def _standing(twin: Twin, batches: Sequence[int], first: Slope) -> set[int]:
    """Which parameters stand where they stood after a step on each of the batches, though they had a gradient.

    One that is next to nothing beside the parameter itself is none: steps along it come to less than any rounding.
    """
    begun = [parameter.detach().clone() for parameter in twin.copies]
    felt: set[int] = set()
    left: set[int] = set()
    for number, index in enumerate(batches):
        twin.step([index], None if number else first)
        triples = list(zip(twin.objective.parameters.slots, twin.copies, begun, strict=True))
        felt |= {id(slot.parameter) for slot, now, before in triples if _feels(now.grad, before)}
        left = {id(slot.parameter) for slot, now, before in triples if torch.equal(now, before)} & felt
        if not left:
            break
    return left


def _with_gains(wiring: Wiring, judge: Judge, reasons: dict[int, str], silent: Sequence[int]) -> Wiring:
    wide, slots = judge.objective, judge.objective.parameters.slots
    excluded = mean_gradient(wide, judge.halves.finds, reasons.__contains__)
    stepped, passed, ends = behind_steps(judge, silent)
    if stepped:
        reasons, excluded = reasons | dict.fromkeys(stepped, "stepped"), excluded + passed
    severed = moving(judge, on_stairs(judge, [number for number in silent if number not in stepped]))
    unreached = [number for number, why in reasons.items() if why == "unreached"]
    if unreached:
        attached = attached_gradient(judge, unreached)
        excluded = excluded + attached
        pieces = wide.parameters.pieces(attached)
        lost = [number for number in unreached if not some(pieces[number])]
        reasons, severed = reasons | dict.fromkeys(lost, "unused"), severed | moving(judge, lost)
    reasons = reasons | dict.fromkeys(severed, "severed")
    sway = sway_of(judge, severed) if severed else None
    wiring = replace(wiring, excluded=_grouped(slots, reasons), ends=ends, sway=sway)
    if not reasons:
        return wiring
    length = float(excluded.norm())
    if not 0.0 < length < math.inf:
        return wiring
    trained = mean_gradient(wide, judge.halves.finds, lambda number: number not in reasons, decayed=True)
    # Before it meets the edge of a step the loss does not change at all.
    starts = (_FIRST, 1.0) if stepped else (_FIRST,)
    searched = [_search(judge, excluded, start) for start in starts]
    away = min(searched, key=lambda best: judge.found(best.values))
    own = _search(judge, trained, _FIRST)
    energy = {number: float(piece.norm()) for number, piece in enumerate(wide.parameters.pieces(excluded))}
    ranked = [number for number in sorted(energy, key=lambda n: -energy[n]) if energy[number]]
    return replace(
        wiring,
        excluded_gain=judge.gain(away.values),
        trained_gain=judge.gain(own.values) if own else Estimate(0.0, 0.0),
        extra=Judge(wide, judge.halves, own.values if own else judge.base).gain(away.values),
        gains_in=tuple(slots[number].name for number in ranked),
    )


def _search(judge: Judge, gradient: Tensor, start: float) -> Any:
    norm = float(gradient.norm())
    if not 0.0 < norm < math.inf:
        return None
    first = start * max(float(judge.objective.theta[gradient != 0.0].norm()), 1.0)
    best: Best = line_search(judge, -gradient / norm, first)
    return best
