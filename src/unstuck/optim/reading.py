"""What a rule has come to for one parameter, read from its group and from what is remembered of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unstuck.optim.decay import DecoupledWeightDecay, WeightDecay
from unstuck.optim.direction import Term
from unstuck.optim.optimizer import SINCE
from unstuck.optim.rule import Role, Rule
from unstuck.optim.scales import ScalePart
from unstuck.optim.trust import LayerwiseRate


def age(state: Mapping[str, Any], role: Role) -> int:
    """How many steps the part with this role has taken for a parameter."""
    return state.get("step", 0) - state.get(SINCE[role], 0)


def scale_of(rule: Rule) -> ScalePart | None:
    """Find the scale of a rule, if it is one whose divisor is known."""
    part = rule.part(Role.SCALE)
    return part if isinstance(part, ScalePart) else None


def inverse_scale(rule: Rule, state: Mapping[str, Any]) -> Tensor | None:
    r"""Give $1 / (\sigma + \epsilon)$ of the last step, in the parameter's shape; None without a scale or a step."""
    scale = scale_of(rule)
    if scale is None or age(state, Role.SCALE) < 1:
        return None
    memory = {slot: [state[slot]] for slot in scale.slots}
    unit, inverse = torch.ones_like(state[scale.slots[0]]), torch.zeros_like(state[scale.slots[0]])
    scale.divisor(memory, age(state, Role.SCALE)).add([inverse], Term([unit]), 1.0)
    return inverse


def decays(rule: Rule) -> tuple[float, float]:
    r"""Give $\lambda$ of the weight decay that goes through the scale with the gradient, and of what does not."""
    coupled, apart, scaled = 0.0, 0.0, rule.part(Role.SCALE) is None
    for part in reversed(rule.parts):
        scaled = scaled or part.role is Role.SCALE
        match part:
            case DecoupledWeightDecay(decay):
                apart += decay
            case WeightDecay(decay) | LayerwiseRate(weight_decay=decay):
                coupled, apart = (coupled + decay, apart) if scaled else (coupled, apart + decay)
            case _:
                pass
    return coupled, apart
