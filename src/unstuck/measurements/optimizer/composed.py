"""How far an optimizer composed of parts moves for a gradient of 1, and how far it may."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.measurements.optimizer.second_moments import as_number
from unstuck.optim import HeavyBall, MovingAverage, Nesterov, NesterovAverage, Part, Role, Rule, reading


@dataclass(frozen=True)
class Response:
    """How an optimizer moves one parameter tensor.

    Attributes:
        rate: Step for a gradient of 1 without momentum: the learning rate over the scale.
        limit: Largest rate times curvature at which the steps do not grow.
    """

    rate: Tensor | float
    limit: float


def averaged(beta: float) -> float:
    """The limit with an exponential average of the gradient, which alternation leaves (1 - b) / (1 + b) of."""
    return 2.0 * (1.0 + beta) / (1.0 - beta)


def composed(group: Mapping[str, Any], state: Mapping[str, Any]) -> Response:
    """Read the response from the parts of a rule and from what they remember.

    Raises:
        MeasurementError: Of one of the parts it is not known.
    """
    rule: Rule = group["rule"]
    momentum, scale = rule.part(Role.MOMENTUM), rule.part(Role.SCALE)
    if rule.layerwise or (scale is not None and reading.scale_of(rule) is None):
        msg = f"the step that {rule!r} can bear is not known"
        raise MeasurementError(msg)
    inverse = reading.inverse_scale(rule, state)
    factor, limit = _carried(momentum, max(reading.age(state, Role.MOMENTUM), 1))
    rate = as_number(group["lr"]) * factor
    return Response(rate if inverse is None else rate * inverse, limit)


def _carried(part: Part | None, age: int) -> tuple[float, float]:
    """What a momentum multiplies the first movement by, and the limit that it sets."""
    match part:
        case None:
            return 1.0, 2.0
        case HeavyBall(decay, dampening=dampening):
            return 1.0, 2.0 * (1.0 + decay) / (1.0 - dampening)
        case Nesterov(decay):
            return 1.0, 2.0 * (1.0 + decay) / (1.0 + 2.0 * decay)
        case MovingAverage(beta, debias=debias):
            return 1.0 / (1.0 - beta**age) if debias else 1.0, averaged(beta)
        case NesterovAverage(beta):
            (own, whole), (ahead, corrected) = part.weights(age)
            return 1.0, 2.0 / (own / whole + ahead / corrected * (1.0 - beta) / (1.0 + beta))
        case _:
            msg = f"the step that a rule with {part!r} can bear is not known"
            raise MeasurementError(msg)
