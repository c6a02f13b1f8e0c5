"""The optimizers that a saddle is left to, over the loss of all data, one gradient at a time.

psd-optimizer asks for torchvision and more, which its optimizers do not use: `pip install --no-deps psd-optimizer`.
"""

import copy
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.escape.problems import Problem, noise

# Rates that every rival is tried with; the best of them counts as tuned.
RATES = tuple(10.0 ** (exponent / 2.0) for exponent in range(-8, 1))

Parameters = list[nn.Parameter]
Make = Callable[[Parameters, float | None], torch.optim.Optimizer]


class PerturbedDescent(torch.optim.Optimizer):
    """Perturbed gradient descent (Jin et al., How to Escape Saddle Points Efficiently, 2017, algorithm 1).

    Where the gradient is at most `threshold` and the last perturbation is `wait` steps ago, a point of the ball of
    `radius` is added. The paper sets these by constants that nobody knows; the defaults are those that
    `psd.framework_optimizers.PSDTorch` of psd-optimizer gives them.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        threshold: float = 1e-3,
        wait: int = 10,
        radius: float = 1e-3,
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.threshold, self.wait, self.radius = threshold, wait, radius
        self.since = math.inf

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Descend, perturbed where the gradient is small."""
        with torch.enable_grad():
            loss = closure()
        params = self.param_groups[0]["params"]
        size = math.sqrt(sum(float(p.grad.square().sum()) for p in params))
        self.since += 1
        if size <= self.threshold and self.since > self.wait:
            drawn = [torch.randn_like(p) for p in params]
            count = sum(p.numel() for p in params)
            length = math.sqrt(sum(float(d.square().sum()) for d in drawn))
            reach = self.radius * float(torch.rand(())) ** (1.0 / count)
            for p, d in zip(params, drawn, strict=True):
                p.add_(d, alpha=reach / length)
            self.since = 0
        for p in params:
            p.add_(p.grad, alpha=-self.param_groups[0]["lr"])
        return loss


def _rate(name: str, rate: float | None) -> dict[str, float]:
    return {} if rate is None else {name: rate}


def _package(name: str) -> Any:
    return getattr(importlib.import_module("psd_optimizer"), name)


RIVALS: dict[str, Make] = {
    "SGD": lambda params, rate: torch.optim.SGD(params, **_rate("lr", rate)),
    "momentum": lambda params, rate: torch.optim.SGD(params, momentum=0.9, **_rate("lr", rate)),
    "Adam": lambda params, rate: torch.optim.Adam(params, **_rate("lr", rate)),
    "perturbed GD": lambda params, rate: PerturbedDescent(params, **_rate("lr", rate)),
    "psd-optimizer": lambda params, rate: _package("PSDOptimizer")(params, **_rate("lr", rate)),
    "PerturbedAdam": lambda params, rate: _package("PerturbedAdam")(params, **_rate("lr", rate)),
}

RANDOM = ("perturbed GD", "psd-optimizer", "PerturbedAdam")


def losses(problem: Problem, make: Make, rate: float | None, *, beside: float, seed: int) -> Iterator[float]:
    """Yield the loss at every gradient that the rival asks for; ends where it will never move."""
    noisy = make not in (RIVALS["SGD"], RIVALS["momentum"], RIVALS["Adam"])
    model = copy.deepcopy(problem.model)
    parameters = list(model.parameters())
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()
    torch.nn.utils.vector_to_parameters(flat + beside * noise(flat, seed), parameters)
    optimizer = make(parameters, rate)
    start = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    batch = (problem.inputs, problem.targets)
    seen: list[float] = []
    first = True

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss(model, batch)
        loss.backward()
        seen.append(float(loss.detach()))
        return loss

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while True:
            optimizer.step(closure)
            yield from seen
            seen.clear()
            if first and not noisy and torch.equal(torch.nn.utils.parameters_to_vector(parameters), start):
                return  # a gradient of exactly zero: it will never move
            first = False
