r"""The optimizer's own metric: how far each parameter moves for a gradient of 1, and how far it may.

With its scale $\sigma$ and the settings frozen, an optimizer is linear. On a quadratic it becomes unstable first
by alternating: $\theta_t$ and the gradient change their sign at each step. What it then moves by is
$d \odot g$ times a factor that its momentum sets, and it holds as long as
$\lambda_{max}(D^{1/2} H D^{1/2})$, $D = \mathrm{diag}(d)$, is below a limit (Cohen et al., 2021,
arXiv:2103.00065, appendix B; for Adam and its like Cohen et al., 2022, arXiv:2207.14484).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.errors import MeasurementError
from unstuck.measurements.optimizer.composed import Response, averaged, composed
from unstuck.measurements.optimizer.second_moments import as_number, key_of
from unstuck.objective import Objective
from unstuck.objective.decay import by_parameter, decouples
from unstuck.objective.parameters import Parameters
from unstuck.objective.products import Products
from unstuck.objective.shards import local
from unstuck.optim import Optimizer as Composed

# RAdam divides by its second moment once it rests on so many steps (Liu et al., 2020, algorithm 2; PyTorch's value).
_RECTIFIED = 5.0

Settings = Mapping[str, Any]


Rule = Callable[[Settings, Settings], Response]


@dataclass(frozen=True)
class Metric:
    r"""$D$ of all parameters, and the limit of $\lambda_{max}(D^{1/2} H D^{1/2})$.

    Attributes:
        rates: $d$: the learning rate over the scale; 0 for a parameter that the optimizer does not move, or has not
            moved: a scale that never met a gradient is epsilon alone and ends with the first one. Those of groups
            that would bear more than `limit` are shortened as much, so that one limit holds for all.
        limit: Of the group that bears least.
        decay: Coefficients of the weight decay that does not go through the optimizer's scale, or None.
        uniform: The one rate of all parameters, where there is one, else None: the metric is then no metric.
    """

    rates: Float[Tensor, " n"]
    limit: float
    decay: Float[Tensor, " n"] | None
    uniform: float | None

    def multiply(self, products: Products, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        r"""Multiply $D^{1/2} (H - C) D^{1/2}$ with a vector, $C$ the weight decay that passes the scale by."""
        half = self.rates.sqrt()
        direction = half * vector
        image = products(direction)
        return half * (image if self.decay is None else image - self.decay * direction)


def metric_of(optimizer: Optimizer, objective: Objective) -> Metric:
    """Read the metric from the optimizer's settings and state, as they were in its last step.

    Raises:
        MeasurementError: The optimizer's rule is not known, or it has made no step that its scale could come from.
    """
    name = type(optimizer).__name__
    rule = _RULES.get(type(optimizer))
    if rule is None:
        msg = f"the step that {name} can bear is not known"
        raise MeasurementError(msg)
    parameters = objective.parameters
    groups = by_parameter(optimizer)
    found = [groups.get(id(slot.parameter)) for slot in parameters.slots]
    if any(group.get("maximize") for group in found if group):
        msg = f"{name} maximises: a step up has no limit"
        raise MeasurementError(msg)
    states = [
        _wide(cast("Settings", optimizer.state.get(slot.parameter, {})), parameters.dtype)
        for slot in parameters.slots
    ]
    responses = [
        _met(key_of(optimizer, group), rule(group, state), state)
        if group and _has_scale(key_of(optimizer, group), state)
        else None
        for group, state in zip(found, states, strict=True)
    ]
    if not any(responses):
        msg = f"{name} has made no step with these parameters yet, so that it has no scale"
        raise MeasurementError(msg)
    limit = min(response.limit for response in responses if response)
    scaled = [0.0 if each is None else each.rate * (limit / each.limit) for each in responses]
    one = scaled[0] if all(isinstance(rate, float) and rate == scaled[0] for rate in scaled) else None
    return Metric(
        rates=_flat(parameters, scaled),
        limit=limit,
        decay=_outside(optimizer, objective, found),
        uniform=one if isinstance(one, float) else None,
    )


def _has_scale(key: str | None, state: Settings) -> bool:
    """Whether the optimizer divides by nothing, or by what it has met in a step."""
    return key is None or (key in state and as_number(state["step"]) > 0.0)


def _met(key: str | None, response: Response, state: Settings) -> Response:
    """The response without the numbers whose second moment is zero."""
    if key is None or not isinstance(response.rate, Tensor):
        return response
    second = state.get(f"max_{key}", state[key])
    return Response(response.rate.where(second > 0.0, 0.0), response.limit)


def _wide(state: Settings, dtype: torch.dtype) -> Settings:
    """This process's part of the state in the type that is computed in: half precision loses too much of a square."""
    return {
        key: local(value.detach()).to(dtype)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for key, value in state.items()
    }


def _flat(parameters: Parameters, values: list[Tensor | float]) -> Float[Tensor, " n"]:
    filled = [
        value if isinstance(value, Tensor) else torch.full(slot.here.shape, value, dtype=parameters.dtype)
        for value, slot in zip(values, parameters.slots, strict=True)
    ]
    return parameters.flatten(filled)


def _outside(
    optimizer: Optimizer, objective: Objective, groups: list[dict[str, Any] | None]
) -> Float[Tensor, " n"] | None:
    """What the objective counts as weight decay though it is not part of the gradient."""
    if objective.decay is None:
        return None
    marks = [float(bool(group and decouples(optimizer, group))) for group in groups]
    return objective.decay * _flat(objective.parameters, [*marks]) if any(marks) else None


def _sgd(group: Settings, state: Settings) -> Response:
    r"""Heavy ball: $2 (1 + \beta) / (1 - \text{dampening})$; Nesterov: $2 (1 + \beta) / (1 + 2 \beta)$."""
    del state
    beta = as_number(group["momentum"])
    held = 1.0 + 2.0 * beta if group["nesterov"] else 1.0 - as_number(group["dampening"])
    return Response(as_number(group["lr"]), 2.0 * (1.0 + beta) / held if beta else 2.0)


def _asgd(group: Settings, state: Settings) -> Response:
    rate = as_number(state.get("eta")) if "eta" in state else as_number(group["lr"])
    return Response(rate, 2.0)


def _adagrad(group: Settings, state: Settings) -> Response:
    steps = as_number(state["step"])
    rate = as_number(group["lr"]) / (1.0 + (steps - 1.0) * as_number(group["lr_decay"]))
    return Response(rate / (state["sum"].sqrt() + group["eps"]), 2.0)


def _rmsprop(group: Settings, state: Settings) -> Response:
    square = state["square_avg"]
    if group["centered"]:
        square = (square - state["grad_avg"].square()).clamp(min=0.0)
    rates = as_number(group["lr"]) / (square.sqrt() + group["eps"])
    return Response(rates, 2.0 * (1.0 + as_number(group["momentum"])))


def _adadelta(group: Settings, state: Settings) -> Response:
    ratio = (state["acc_delta"] + group["eps"]) / (state["square_avg"] + group["eps"])
    return Response(as_number(group["lr"]) * ratio.sqrt(), 2.0)


def _adam(group: Settings, state: Settings) -> Response:
    steps = as_number(state["step"])
    beta1, beta2 = map(as_number, group["betas"])
    square = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    scale = (square / (1.0 - beta2**steps)).sqrt() + group["eps"]
    return Response(as_number(group["lr"]) / (1.0 - beta1**steps) / scale, averaged(beta1))


def _adamax(group: Settings, state: Settings) -> Response:
    steps = as_number(state["step"])
    beta1 = as_number(group["betas"][0])
    rates = as_number(group["lr"]) / (1.0 - beta1**steps) / state["exp_inf"]
    return Response(rates, averaged(beta1))


def _radam(group: Settings, state: Settings) -> Response:
    steps = as_number(state["step"])
    beta1, beta2 = map(as_number, group["betas"])
    rate = as_number(group["lr"]) / (1.0 - beta1**steps)
    most = 2.0 / (1.0 - beta2) - 1.0
    length = most - 2.0 * steps * beta2**steps / (1.0 - beta2**steps)
    if length <= _RECTIFIED:
        return Response(torch.full_like(state["exp_avg_sq"], rate), averaged(beta1))
    rectified = ((length - 4.0) * (length - 2.0) * most / ((most - 4.0) * (most - 2.0) * length)) ** 0.5
    scale = (state["exp_avg_sq"].sqrt() + group["eps"]) / (1.0 - beta2**steps) ** 0.5
    return Response(rate * rectified / scale, averaged(beta1))


def _nadam(group: Settings, state: Settings) -> Response:
    r"""Of the gradient a share $(1 - \mu)$ at once, of its running average $\mu$ (Dozat, 2016, algorithm 2)."""
    steps = as_number(state["step"])
    beta1, beta2 = map(as_number, group["betas"])
    slowly = as_number(group["momentum_decay"])
    now, after = (beta1 * (1.0 - 0.5 * 0.96 ** (count * slowly)) for count in (steps, steps + 1.0))
    product = as_number(state["mu_product"])
    own = (1.0 - now) / (1.0 - product)
    averaged = after / (1.0 - product * after) * (1.0 - beta1) / (1.0 + beta1)
    scale = (state["exp_avg_sq"] / (1.0 - beta2**steps)).sqrt() + group["eps"]
    return Response(as_number(group["lr"]) / scale, 2.0 / (own + averaged))


# Subclasses may mean something else, so that classes are compared and not asked for kinship.
_RULES: dict[type[Optimizer], Rule] = {
    torch.optim.SGD: _sgd,
    torch.optim.ASGD: _asgd,
    torch.optim.Adagrad: _adagrad,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adadelta: _adadelta,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.NAdam: _nadam,
    torch.optim.RAdam: _radam,
    torch.optim.Adamax: _adamax,
    Composed: composed,
}
