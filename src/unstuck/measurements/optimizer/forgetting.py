"""What weight decay undoes of what the steps learn."""

import math

from torch.optim import Optimizer

from unstuck.measurements.judging import Judge
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.optimizer.updates import gains
from unstuck.measurements.records.updates import Forgetting
from unstuck.objective.decay import shrinking
from unstuck.training import Training

# Where decay takes a hundredth of each weight at each step, what is learnt is forgotten within a hundred: sooner than
# any usual average of the gradients, and some hundred times sooner than with usual rates and coefficients.
FORGETS = 0.01

# So many gradients over the sample for either walk, and at least so many steps.
_GRADIENTS, _FEWEST = 4, 8


def measure_forgetting(training: Training, judge: Judge) -> Forgetting | None:
    """Compare the steps of the time in which decay forgets with the same ones without decay, by the loss alone.

    None where decay takes less than a hundredth of a weight at a step, as it nearly always does; that costs nothing.
    Else it costs up to eight gradients over the sample.

    Raises:
        MeasurementError: The optimizer cannot take its steps on copies.
    """
    optimizer = training.optimizer
    share = shrinking(optimizer) if optimizer else 0.0
    if optimizer is None or share < FORGETS:
        return None
    finds = judge.halves.finds
    count = min(math.ceil(1.0 / share), max(_GRADIENTS * len(finds), _FEWEST))
    order = [finds[number % len(finds)] for number in range(count)]
    present, without = Twin(judge.objective, optimizer), Twin(judge.objective, optimizer)
    _release(without.optimizer)
    found = gains(judge.bare, present.walk(order), without.walk(order))
    return Forgetting(share, count, *found)


def _release(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
