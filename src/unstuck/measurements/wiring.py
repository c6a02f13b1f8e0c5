"""Whom the updates reach: which parameters are not trained, and what they could gain."""

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from unstuck.estimate import Estimate
from unstuck.measurements.descent import Best, line_search
from unstuck.measurements.judging import Judge
from unstuck.measurements.records.updates import Excluded, Wiring
from unstuck.objective import Objective
from unstuck.objective.ledger import GRADIENT
from unstuck.objective.parameters import Slot
from unstuck.objective.reach import modules, within
from unstuck.objective.sampling import one_line
from unstuck.training import Training

# Where to look first along a gradient: at a hundredth of the length of the weights, or of 1 if they are shorter.
_FIRST = 0.01


def measure_wiring(training: Training, judge: Judge) -> Wiring:
    """Find the parameters that no update reaches, and measure what a line search along their gradient gains.

    The user's flags are never touched: leaves that require a gradient stand in for frozen parameters. Where
    a parameter is meant to be trained and no gradient comes to it, the gradient is taken as if nothing
    detached it. Costs one gradient of one batch where all is well, else about six over the sample.
    """
    slots = _all_slots(training)
    reasons = {number: reason for number, slot in enumerate(slots) if (reason := _reason(training, slot))}
    wiring = Wiring(
        excluded=_grouped(slots, reasons),
        scalars=sum(slot.parameter.numel() for slot in slots),
        scheduled=training.scheduler is not None
        or any("initial_lr" in group for group in _groups(training.optimizer)),
        begun=_has_begun(training),
    )
    if judge.objective.space.parts is not None:
        return replace(
            wiring, reason="the model is divided by fully_shard, so that only what is listed is seen"
        )
    try:
        wide = Judge(_widened(judge.objective, slots), judge.halves, judge.base)
        expected = [number for number in range(len(slots)) if number not in reasons]
        reached = _reached(wide.objective, judge.halves.finds, expected)
        reasons |= {number: "unreached" for number in expected if number not in reached}
        return _with_gains(wiring, wide, reasons) if reasons else wiring
    except (
        Exception
    ) as error:  # a model that cannot be differentiated by what it holds frozen, or a stranger's
        return replace(wiring, reason=one_line(error))


def _groups(optimizer: Optimizer | None) -> list[dict[str, Any]]:
    return optimizer.param_groups if optimizer else []


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
    return "unlisted"


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


def _reached(wide: Objective, only: Sequence[int], expected: Sequence[int]) -> set[int]:
    """Which of the expected slots autograd comes to, on any batch; mostly the first one tells of all."""
    reached: set[int] = set()
    for index in only:
        gradients, _ = _gradients(wide, index)
        reached |= {number for number, gradient in enumerate(gradients) if gradient is not None}
        if reached.issuperset(expected):
            break
    return reached


def _gradients(wide: Objective, index: int) -> tuple[Sequence[Tensor | None], float]:
    batch, weight = wide.batches[index], wide.weights[index]
    wide.ledger.spend(GRADIENT, batch.examples)
    with wide.replay.session():
        leaves = wide.replay.leaves(wide.theta)
        loss = wide.replay.loss(batch, leaves)
        found = cast("Sequence[Tensor | None]", torch.autograd.grad(loss, leaves, allow_unused=True))
        return [gradient if gradient is None else gradient.detach() for gradient in found], weight


def _with_gains(wiring: Wiring, judge: Judge, reasons: dict[int, str]) -> Wiring:
    wide, slots = judge.objective, judge.objective.parameters.slots
    excluded = _mean(wide, judge.halves.finds, reasons.__contains__)
    if "unreached" in reasons.values():
        # A model that writes on its parameters under no_grad cannot be run so.
        with contextlib.suppress(Exception):
            attached = _mean(_attached(wide), judge.halves.finds, lambda n: reasons.get(n) == "unreached")
            excluded = excluded + attached
            pieces = wide.parameters.pieces(attached)
            unused = {n for n, why in reasons.items() if why == "unreached" and not bool(pieces[n].any())}
            reasons = reasons | dict.fromkeys(unused, "unused")
    wiring = replace(wiring, excluded=_grouped(slots, reasons))
    length = float(excluded.norm())
    if not 0.0 < length < math.inf:
        return wiring
    trained = _mean(wide, judge.halves.finds, lambda number: number not in reasons, decayed=True)
    away, own = _search(judge, excluded), _search(judge, trained)
    energy = {number: float(piece.norm()) for number, piece in enumerate(wide.parameters.pieces(excluded))}
    ranked = [number for number in sorted(energy, key=lambda n: -energy[n]) if energy[number]]
    return replace(
        wiring,
        excluded_gain=judge.gain(away.values),
        trained_gain=judge.gain(own.values) if own else Estimate(0.0, 0.0),
        extra=Judge(wide, judge.halves, own.values if own else judge.base).gain(away.values),
        gains_in=tuple(slots[number].name for number in ranked),
    )


def _mean(
    wide: Objective, only: Sequence[int], chosen: Callable[[int], bool], *, decayed: bool = False
) -> Tensor:
    """The gradient over the batches `only`, zero outside of the chosen slots."""
    gradient = wide.value_and_gradient(wide.theta, only, decayed=decayed)[1]
    pieces = enumerate(wide.parameters.pieces(gradient))
    return wide.parameters.flatten(
        [piece if chosen(number) else torch.zeros_like(piece) for number, piece in pieces]
    )


def _attached(wide: Objective) -> Objective:
    """Give the same objective of a loss in which nothing cuts a gradient off."""
    training = wide.replay.training

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with warnings.catch_warnings(), Attached():
            # PyTorch warns of numbers that are read from what requires a gradient, as `detach` avoids.
            warnings.simplefilter("ignore")
            return training.loss(model, batch)

    attached = copy.copy(wide)
    attached.replay = copy.copy(wide.replay)
    attached.replay.training = replace(training, loss=loss)
    return attached


def _search(judge: Judge, gradient: Tensor) -> Any:
    norm = float(gradient.norm())
    if not 0.0 < norm < math.inf:
        return None
    first = _FIRST * max(float(judge.objective.theta[gradient != 0.0].norm()), 1.0)
    best: Best = line_search(judge, -gradient / norm, first)
    return best


_DATA = cast("Any", torch.Tensor.data).__get__


class Attached(TorchFunctionMode):
    """While it is active, nothing cuts a gradient off: neither `detach`, `data` nor `no_grad`."""

    _CUTS = (torch.Tensor.detach, torch.detach)

    def __torch_function__(self, func: Any, types: Iterable[Any], args: Any = (), kwargs: Any = None) -> Any:
        if func in self._CUTS or func == _DATA:
            return args[0].view_as(args[0])
        if getattr(func, "__name__", "") == "_set_grad_enabled":
            return None
        return func(*args, **(kwargs or {}))
