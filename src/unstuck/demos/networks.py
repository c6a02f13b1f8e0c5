"""Networks of the demos, built without drawing from any global random generator."""

import math
from collections.abc import Iterable
from importlib.resources import as_file, files
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from unstuck.training import Loss


def perceptron(*widths: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Build a multi-layer perceptron, all parameters zero, with `activation` between its layers."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [blank_linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def blank_linear(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer, all parameters zero."""
    layer = cast("nn.Linear", nn.utils.skip_init(nn.Linear, inputs, outputs))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer


def initialised(model: nn.Sequential, *, seed: int, gain: float = 1.0) -> nn.Sequential:
    """Draw the weights of each layer from a normal distribution of standard deviation gain/sqrt(inputs)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                scale = gain / math.sqrt(layer.in_features)
                layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
    return model


def widened(narrow: nn.Sequential, hidden: int) -> nn.Sequential:
    """Give a two-layer perceptron more hidden units, whose weights, in and out, are all zero.

    The wider network computes the same function. Where the narrow one is critical so is the wide one,
    since the gradient of a zero unit is zero: it passes nothing on, and nothing comes back to it.
    """
    first, last = (layer for layer in narrow if isinstance(layer, nn.Linear))
    used = first.out_features
    wide = perceptron(first.in_features, hidden, last.out_features)
    with torch.no_grad():
        _linear(wide, 0).weight[:used].copy_(first.weight)
        _linear(wide, 0).bias[:used].copy_(first.bias)
        _linear(wide, -1).weight[:, :used].copy_(last.weight)
        _linear(wide, -1).bias.copy_(last.bias)
    return wide


def solved(model: nn.Sequential, name: str) -> nn.Sequential:
    """Load the state that `python -m unstuck.demos.solve` left under that name."""
    with as_file(files("unstuck.demos") / "states" / f"{name}.npz") as path, np.load(path) as archive:
        model.load_state_dict({key: torch.from_numpy(archive[key]) for key in archive.files})
    return model


def descend(model: nn.Module, loss: Loss, data: Iterable[Any], optimizer: Optimizer, *, epochs: int) -> None:
    """Train for so many epochs, in place."""
    for _ in range(epochs):
        for batch in data:
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    optimizer.zero_grad()


def remember(model: nn.Module, loss: Loss, data: Iterable[Any], optimizer: Optimizer) -> None:
    """Fill the optimizer's state with one epoch at rate zero, as a run has it whose schedule ended there."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    descend(model, loss, data, optimizer, epochs=1)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _linear(model: nn.Sequential, index: int) -> nn.Linear:
    layer = model[index]
    if not isinstance(layer, nn.Linear):
        msg = f"layer {index} of {model} is not linear"
        raise TypeError(msg)
    return layer
