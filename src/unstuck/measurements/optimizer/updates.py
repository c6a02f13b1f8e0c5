"""What the optimizer's update would be without rounding, and with a scale that fits the present gradients."""

import math
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck import processes
from unstuck.estimate import Estimate
from unstuck.measurements.judging import Judge
from unstuck.measurements.optimizer.moments import Moments
from unstuck.measurements.optimizer.second_moments import added_by, known_key
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.records.updates import Precision, SecondMoment
from unstuck.objective import Objective
from unstuck.objective.parameters import Slot
from unstuck.objective.shards import local
from unstuck.training import Training

# Steps to compare over: rounding and scale act at every step, so that a few show it; dearer than one gradient
# over the sample it shall not be, unless the sample has next to no batches.
_MOST_STEPS, _FEWEST_STEPS = 16, 4

# Unless this share of the exact update is lost, or sigma is off by this factor, several steps need not be tried.
_WORTH_TRYING_LOST, _WORTH_TRYING_RATIO = 0.25, math.log(3.0)

# Rounding of a wider type than this is not the cause of anything at the size of a step.
_EXACT = torch.float64


def measure_precision(training: Training, judge: Judge) -> Precision | None:
    """Compare the optimizer's next steps with the same ones in float64.

    None without an optimizer, where all parameters are float64, where the optimizer keeps copies of them in a
    wider type (rounding then loses nothing for good), and where the next step moves nothing or nowhere
    finite. Costs two gradients of one batch, and three over the sample where rounding takes a good
    part.

    Raises:
        MeasurementError: The optimizer cannot take its steps on copies, or in float64.
        TrainingError: The loss cannot be computed in float64, where that is needed.
    """
    objective, optimizer = judge.objective, training.optimizer
    if optimizer is None or all(slot.parameter.dtype == _EXACT for slot in objective.parameters.slots):
        return None
    if any(_is_kept_wider(optimizer, slot) for slot in objective.parameters.slots):
        return None
    first = [judge.halves.finds[0]]
    rounded = Twin(objective, optimizer).step(first).to(_EXACT)
    exact = Twin(objective, optimizer, _EXACT).step(first)
    measured = _compared(objective, rounded, exact)
    if measured is None or measured.lost < _WORTH_TRYING_LOST:
        return measured
    return _walked(training, judge, measured)


def _is_kept_wider(optimizer: Optimizer, slot: Slot) -> bool:
    """Whether the state holds a copy of the parameter that rounds to it, in a wider type."""
    parameter: Tensor = slot.parameter.detach()
    state = cast("dict[str, Any]", optimizer.state.get(slot.parameter, {}))
    return any(
        isinstance(value, Tensor)
        and value.shape == parameter.shape
        and value.is_floating_point()
        and torch.finfo(value.dtype).eps < torch.finfo(parameter.dtype).eps
        and processes.every(true=torch.equal(local(value.detach()).to(parameter.dtype), local(parameter)))
        for value in state.values()
    )


def _compared(
    objective: Objective, rounded: Float[Tensor, " n"], exact: Float[Tensor, " n"]
) -> Precision | None:
    space = objective.space
    lengths = space.norm(rounded), space.norm(exact)
    if not lengths[1] or not all(map(math.isfinite, lengths)):
        return None
    meant = exact != 0.0
    lost, all_meant = (space.share(mask)[0] for mask in (meant & (rounded == 0.0), meant))
    product = max(lengths[0] * lengths[1], torch.finfo(_EXACT).tiny)
    dtypes = {str(slot.parameter.dtype).removeprefix("torch.") for slot in objective.parameters.slots}
    return Precision(
        dtype="+".join(sorted(dtypes)),
        lost=lost / all_meant,
        length=lengths[0] / lengths[1],
        cosine=space.dot(rounded, exact) / product,
    )


def _walked(training: Training, judge: Judge, measured: Precision) -> Precision:
    objective = judge.objective
    precise = Objective(training, objective.batches, dtype=_EXACT, ledger=objective.ledger)
    optimizer, order = cast("Optimizer", training.optimizer), short_walk(judge)
    rounded = Twin(objective, optimizer).walk(order)
    exact = Twin(precise, optimizer, _EXACT).walk(order)
    # Both are judged by the loss in float64: what half precision sees of it is too coarse to compare.
    judges = dict(zip(judge.halves.judges, precise.values(precise.theta, judge.halves.judges), strict=True))
    base = [judges.get(index, value) for index, value in enumerate(judge.base)]
    found = gains(Judge(precise, judge.halves, base).bare, rounded, exact)
    return Precision(measured.dtype, measured.lost, measured.length, measured.cosine, len(order), *found)


def measure_second_moment(training: Training, judge: Judge) -> SecondMoment | None:
    """Compare sigma with the present root mean square of batch gradients, and the steps with either.

    None without an optimizer; without a ratio, but with a reason, where there is no sigma to compare. Costs
    half a gradient over the sample, and three more where they differ.

    Raises:
        MeasurementError: The optimizer cannot take its steps on copies.
    """
    optimizer = training.optimizer
    if optimizer is None:
        return None
    name = type(optimizer).__name__
    key, assumed = known_key(optimizer, [slot.parameter for slot in judge.objective.parameters.slots])
    if key is None:
        return SecondMoment(name, None, _missing(training, judge.objective))
    moments = Moments(judge.objective, optimizer, key)
    groups = moments.present(judge.halves.finds)
    ratio = moments.ratio(groups)
    if ratio is None:
        return SecondMoment(name, None, "there is no gradient, or no scale, to compare", assumed=assumed)
    added = added_by(optimizer)
    share = moments.added(groups) if added else None
    compared = SecondMoment(name, ratio, assumed=assumed, added=added, added_share=share)
    if abs(ratio.value) < _WORTH_TRYING_RATIO:
        return compared
    order = short_walk(judge)
    present = Twin(judge.objective, optimizer).walk(order)
    fresh = Twin(judge.objective, optimizer)
    moments.refresh(fresh.states(), groups)
    gained, fresh_gained, extra = gains(judge.bare, present, fresh.walk(order))
    return replace(compared, steps=len(order), present_gain=gained, fresh_gain=fresh_gained, extra=extra)


def _missing(training: Training, objective: Objective) -> str:
    optimizer = cast("Optimizer", training.optimizer)
    if any(optimizer.state.get(slot.parameter) for slot in objective.parameters.slots):
        return "the optimizer keeps no second moment of each parameter"
    return "the optimizer keeps nothing of these parameters: it has made no step, or needs no state"


def gains(
    judge: Judge, before: Float[Tensor, " n"], after: Float[Tensor, " n"]
) -> tuple[Estimate, Estimate, Estimate]:
    """What either displacement gains, and what the second gains more than the first."""
    theta = judge.objective.theta
    values = [judge.look(theta + moved.to(theta)) for moved in (before, after)]
    extra = Judge(judge.objective, judge.halves, values[0]).gain(values[1])
    return judge.gain(values[0]), judge.gain(values[1]), extra


def short_walk(judge: Judge) -> list[int]:
    """Give the batches of a few steps that cost about one gradient over the sample."""
    count = min(_MOST_STEPS, max(_FEWEST_STEPS, len(judge.base)))
    finds = judge.halves.finds
    return [finds[number % len(finds)] for number in range(count)]
