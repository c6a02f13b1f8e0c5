"""What a momentum remembers, beside what gradients are now."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from unstuck.measurements.judging import Judge
from unstuck.measurements.optimizer.second_moments import as_number, known_key
from unstuck.measurements.optimizer.steps import State, Twin
from unstuck.measurements.optimizer.updates import gains, short_walk
from unstuck.measurements.records.updates import Momentum
from unstuck.objective.decay import by_parameter
from unstuck.training import Training

_KEY = "momentum_buffer"

# The size of a batch's gradient is known to a tenth or so after so many.
_BATCHES = 4

# Gradients of one size and direction throughout make the ratio 1; unless it is so many times that, nothing is tried.
_WORTH_TRYING = 3.0


def measure_momentum(training: Training, judge: Judge) -> Momentum | None:
    r"""Compare a heavy ball's momentum with the largest that the present gradients could keep up.

    With gradients of root mean square length $G$ that is $G (1 - d) / (1 - \mu)$ of momentum $\mu$ and dampening
    $d$. What is longer comes from gradients past: of a loss on another scale, or of a run that was going astray.
    Costs four gradients of a batch; and where it is several times longer, or one more movement along it raises the
    loss, some steps as they are and with the momentum begun anew.

    Returns:
        None without a momentum, or where it is divided by a running size of gradients afterwards.

    Raises:
        MeasurementError: The optimizer cannot take its steps on copies.
    """
    optimizer, objective = training.optimizer, judge.objective
    parameters = [slot.parameter for slot in objective.parameters.slots]
    if optimizer is None or known_key(optimizer, parameters)[0] is not None:
        return None
    groups = by_parameter(optimizer)
    kept = objective.parameters.flatten(
        [_kept(optimizer, parameter, groups.get(id(parameter), {})) for parameter in parameters]
    )
    length = objective.space.norm(kept)
    squares = (
        [
            objective.space.norm(objective.value_and_gradient(objective.theta, [index])[1]) ** 2
            for index in judge.halves.finds[:_BATCHES]
        ]
        if length
        else []
    )
    if not squares or not (size := math.sqrt(math.fsum(squares) / len(squares))):
        return None
    if length / size < _WORTH_TRYING and not _climbs(optimizer, judge):
        return Momentum(length / size)
    present, fresh = Twin(objective, optimizer), Twin(objective, optimizer)
    for state in fresh.states():
        _begin_anew(state)
    order = short_walk(judge)
    return Momentum(length / size, len(order), *gains(judge.bare, present.walk(order), fresh.walk(order)))


def _kept(optimizer: Optimizer, parameter: Tensor, group: Mapping[str, Any]) -> Tensor:
    """Give the momentum, divided by what gradients of length 1 would keep up at the most."""
    momentum, dampening = as_number(group.get("momentum")), as_number(group.get("dampening"))
    known = 0.0 < momentum < 1.0 and dampening < 1.0
    return _buffer(optimizer, parameter) * ((1.0 - momentum) / (1.0 - dampening) if known else 0.0)


def _climbs(optimizer: Optimizer, judge: Judge) -> bool:
    """Whether one more movement along the momentum alone raises the loss."""
    objective = judge.objective
    groups = by_parameter(optimizer)
    moves = [
        as_number(groups.get(id(slot.parameter), {}).get("lr")) * _buffer(optimizer, slot.parameter)
        for slot in objective.parameters.slots
    ]
    moved = objective.theta - objective.parameters.flatten(moves)
    return judge.gain(judge.look(moved)).surely_below(0.0)


def _buffer(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    state = cast("State", optimizer.state.get(parameter, {}))
    buffer = state.get(_KEY)
    if not isinstance(buffer, Tensor):
        return torch.zeros_like(parameter.detach())
    return buffer.detach().to(parameter.dtype)


def _begin_anew(state: State) -> None:
    if isinstance(state.get(_KEY), Tensor):
        state[_KEY] = torch.zeros_like(state[_KEY])
