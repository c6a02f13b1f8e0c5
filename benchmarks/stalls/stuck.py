"""Trainings on real data that stop improving, each for a reason of its own."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from statistics import pstdev

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.stalls import healthy, recording
from benchmarks.stalls.recording import Recipe, Recording, Task

# The loss of all the data has arrived where it stays within this of the mean of its last half, or two deviations.
NEAR = 0.03

Change = Callable[[nn.Module], None]


def _changed(task: Task, change: Change) -> Task:
    def build() -> nn.Module:
        model = task.model()
        with torch.no_grad():
            change(model)
        return model

    return replace(task, model=build)


def _zeroed(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.zero_()


def _alike(model: nn.Module) -> None:
    """Make all units of a layer alike: a symmetry that no gradient leaves."""
    for parameter in model.parameters():
        parameter.fill_(parameter.mean().item())


def _dead(model: nn.Module) -> None:
    model[0].bias.sub_(50.0)


def _frozen_body(model: nn.Module) -> None:
    for parameter in [*model.parameters()][:-1]:
        parameter.requires_grad_(requires_grad=False)


def _twice(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of probabilities, which has a floor of 1.461."""
    return functional.cross_entropy(model(inputs).softmax(-1), targets)


def _mixed() -> tuple[Tensor, Tensor]:
    inputs, labels = data.digits(1200, flat=True)
    return inputs, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def ended(step: int, steps: int) -> float:
    """A rate that is gone after an eighth of the steps."""
    return healthy.cosine(step, steps // 8) if step < steps // 8 else 0.0


def dropped(step: int, steps: int) -> float:
    return 1.0 if step < steps // 10 else 1e-6


def _decayed(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=rate, weight_decay=0.05)


_D, _L = recording.DIGITS, recording.LINEAR
_LEAST_SQUARES = Task(recording.DIABETES.data, recording.perceptron(10, 1), recording.regressed)

RECIPES = (
    Recipe("zero weights", _changed(_D, _zeroed), healthy.sgd, 0.1, healthy.constant, 32, 8000),
    Recipe("zero weights, all data", _changed(_D, _zeroed), healthy.sgd, 0.1, healthy.constant, 0, 1500),
    Recipe("equal units", _changed(_D, _alike), healthy.sgd, 0.1, healthy.constant, 64, 8000),
    Recipe("dead units", _changed(_D, _dead), healthy.sgd, 0.1, healthy.constant, 64, 8000),
    Recipe("frozen but for a bias", _changed(_D, _frozen_body), healthy.sgd, 0.1, healthy.constant, 64, 8000),
    Recipe("rate gone", _D, healthy.sgd, 0.05, ended, 64, 8000),
    Recipe("rate dropped", _D, healthy.momentum, 0.01, dropped, 64, 8000),
    Recipe("rate gone, text", recording.LSTM, torch.optim.Adam, 3e-3, ended, 16, 5000),
    Recipe("step too small", _D, healthy.sgd, 1e-6, healthy.constant, 64, 8000),
    Recipe("step too large", _LEAST_SQUARES, healthy.sgd, 0.15, healthy.constant, 16, 10000),
    Recipe("step too large, Adam", _D, torch.optim.Adam, 0.2, healthy.constant, 64, 10000),
    Recipe("noise floor", _LEAST_SQUARES, healthy.sgd, 0.05, healthy.constant, 32, 10000),
    Recipe("noise floor, small batch", _LEAST_SQUARES, healthy.sgd, 0.02, healthy.constant, 8, 10000),
    Recipe("converged", _LEAST_SQUARES, healthy.sgd, 0.1, healthy.constant, 0, 3000),
    Recipe("converged, weight decay", _D, _decayed, 0.1, healthy.constant, 0, 3000),
    Recipe("weight decay", _L, _decayed, 0.05, healthy.constant, 64, 10000),
    Recipe("mismatched loss", replace(_D, loss=_twice), healthy.sgd, 1.0, healthy.constant, 64, 8000),
    Recipe(
        "labels without meaning", replace(_L, data=_mixed), healthy.sgd, 0.02, healthy.constant, 64, 10000
    ),
    Recipe("cyclic rate", _LEAST_SQUARES, healthy.sgd, 0.05, healthy.swift, 64, 10000),
    Recipe("cosine, dead units", _changed(_D, _dead), healthy.sgd, 0.1, healthy.cosine, 64, 8000),
    Recipe("warm-up, dead units", _changed(_D, _dead), healthy.sgd, 0.1, healthy.warm_cosine, 64, 8000),
)


def onset(recorded: Recording) -> int:
    """Give the first step from which on the loss of all the data, averaged a little, stays near where it ends."""
    curve = healthy.smoothed(recorded.whole, 1)
    steps = [step for step, _ in curve]
    rest = [value for _, value in curve[bisect_left(steps, steps[-1] / 2) :]]
    level = sum(rest) / len(rest)
    near = max(NEAR * abs(level), 2 * pstdev(rest))
    found = 1
    for (before, _), (_, value) in zip([(1, 0.0), *curve], curve, strict=False):
        if abs(value - level) > near:
            found = before
    return found
