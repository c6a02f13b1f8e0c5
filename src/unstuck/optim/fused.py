"""Rules that PyTorch has a fused kernel for: all of a step in one pass over memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from unstuck.optim.decay import DecoupledWeightDecay, WeightDecay
from unstuck.optim.direction import Tensors
from unstuck.optim.momenta import HeavyBall, MovingAverage, Nesterov
from unstuck.optim.rule import Part, Rule
from unstuck.optim.scales import AverageOfSquares, MaximumOfAverages, SumOfSquares


@dataclass(frozen=True)
class Now:
    """What the parameters are stepped with, apart from the rule."""

    age: int
    lr: float
    maximize: bool


Memory = Mapping[str, Tensors]
Kernel = Callable[[Sequence[Tensor], Tensors, Memory, Now], None]


def kernel(rule: Rule) -> Kernel | None:
    """Find PyTorch's fused kernel that does all of a rule, or None where there is none.

    There is one for `gradient_descent`, `momentum`, `nesterov`, `adagrad`, `adam`, `amsgrad` and `adamw`, with weight
    decay or without. They round in an order of their own: single precision differs in the last digits.
    """
    decay, parts, decoupled = 0.0, rule.parts, False
    match parts:
        case (WeightDecay(decay), *rest):
            pass
        case (*rest, DecoupledWeightDecay(decay)):
            decoupled = True
        case rest:
            pass
    return _kernel(tuple(rest), decay, decoupled=decoupled)


def _kernel(parts: tuple[Part, ...], decay: float, *, decoupled: bool) -> Kernel | None:
    if decoupled:
        return _adam(parts, decay, decoupled=True)
    return _adam(parts, decay, decoupled=False) or _sgd(parts, decay) or _adagrad(parts, decay)


def _adam(parts: tuple[Part, ...], decay: float, *, decoupled: bool) -> Kernel | None:
    match parts:
        case (MovingAverage(beta1, debias=True), AverageOfSquares(beta2, debias=True) as scale):
            return _adam_step(beta1, beta2, scale.eps, decay, decoupled=decoupled)
        case (MovingAverage(beta1, debias=True), MaximumOfAverages(beta2) as scale):
            return _adam_step(beta1, beta2, scale.eps, decay, decoupled=decoupled)
        case _:
            return None


def _sgd(parts: tuple[Part, ...], decay: float) -> Kernel | None:
    match parts:
        case ():
            return _sgd_step(0.0, 0.0, decay, nesterov=False)
        case (HeavyBall(mu) as ball,) if mu > 0.0:
            return _sgd_step(mu, ball.dampening, decay, nesterov=False)
        case (Nesterov(mu),) if mu > 0.0:
            return _sgd_step(mu, 0.0, decay, nesterov=True)
        case _:
            return None


def _adagrad(parts: tuple[Part, ...], decay: float) -> Kernel | None:
    match parts:
        case (SumOfSquares() as scale,):
            return _adagrad_step(scale.eps, decay)
        case _:
            return None


def _steps(params: Sequence[Tensor], age: int) -> list[Tensor]:
    # The kernels read the count from tensors; they do not write on them, so that one serves all.
    return [torch.tensor(float(age), device=params[0].device)] * len(params)


def _torch(name: str) -> Callable[..., None]:
    return cast("Mapping[str, Any]", vars(torch))[name]


def _adam_step(beta1: float, beta2: float, eps: float, decay: float, *, decoupled: bool) -> Kernel:
    function = _torch("_fused_adamw_" if decoupled else "_fused_adam_")

    def step(params: Sequence[Tensor], gradients: Tensors, memory: Memory, now: Now) -> None:
        largest = list(memory.get("max_exp_avg_sq", ()))
        function(
            list(params),
            list(gradients),
            list(memory["exp_avg"]),
            list(memory["exp_avg_sq"]),
            largest,
            _steps(params, now.age),
            amsgrad=bool(largest),
            lr=now.lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=decay,
            eps=eps,
            maximize=now.maximize,
        )

    return step


def _sgd_step(mu: float, dampening: float, decay: float, *, nesterov: bool) -> Kernel:
    function = _torch("_fused_sgd_")

    def step(params: Sequence[Tensor], gradients: Tensors, memory: Memory, now: Now) -> None:
        function(
            list(params),
            list(gradients),
            list(memory.get("momentum_buffer", ())),
            weight_decay=decay,
            momentum=mu,
            lr=now.lr,
            dampening=dampening,
            nesterov=nesterov,
            maximize=now.maximize,
            is_first_step=mu > 0.0 and now.age == 1,
        )

    return step


def _adagrad_step(eps: float, decay: float) -> Kernel:
    function = _torch("_fused_adagrad_")

    def step(params: Sequence[Tensor], gradients: Tensors, memory: Memory, now: Now) -> None:
        function(
            list(params),
            list(gradients),
            list(memory["sum"]),
            _steps(params, now.age),
            lr=now.lr,
            lr_decay=0.0,
            weight_decay=decay,
            eps=eps,
            maximize=now.maximize,
        )

    return step
