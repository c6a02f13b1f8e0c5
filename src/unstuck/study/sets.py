"""Data to learn from and data held back, and how well a model does on either."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unstuck.demos.digits import digits

_UNIT = 32.0  # what a signal's values were multiplied by before they were rounded
_TRAINED = 4000  # of MNIST-1D's 5000, as its authors have it
_HELD = 5  # of the digits every fifth is held back

# What the pages say of where the data are from.
DIGITS = "handwritten digits (Alpaydin & Kaynak, UCI, CC BY 4.0)"
MNIST1D = "MNIST-1D (Greydanus & Kobak, ICML 2024, Apache 2.0)"


@dataclass(frozen=True)
class Part:
    """Inputs and their labels."""

    inputs: Float[Tensor, "examples features"]
    labels: Int[Tensor, " examples"]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "Part":
        """Keep so many."""
        return Part(self.inputs[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """What is learnt from, and what is held back."""

    trained: Part
    held: Part


@dataclass(frozen=True)
class Score:
    """How a model does: its mean cross-entropy, and the share of labels that it gets right."""

    loss: float
    accuracy: float


@cache
def digits_split() -> Data:
    """Load the digits, every fifth of them held back."""
    inputs, labels = digits()
    held = torch.arange(len(labels)) % _HELD == 0
    return Data(Part(inputs[~held], labels[~held]), Part(inputs[held], labels[held]))


@cache
def mnist1d() -> Data:
    """Load MNIST-1D: signals of 40 values, shifted, scaled, sheared and noisy, of ten classes."""
    with as_file(files("unstuck.study.data") / "mnist1d.npz") as path, np.load(path) as archive:
        inputs = torch.tensor(archive["signals"], dtype=torch.float32) / _UNIT
        labels = torch.tensor(archive["labels"], dtype=torch.int64)
    return Data(Part(inputs[:_TRAINED], labels[:_TRAINED]), Part(inputs[_TRAINED:], labels[_TRAINED:]))


@torch.no_grad()
def score(model: nn.Module, part: Part) -> Score:
    """Evaluate a model, without dropout and the like."""
    mode = model.training
    outputs = model.eval()(part.inputs)
    model.train(mode)
    loss = float(nn.functional.cross_entropy(outputs, part.labels))
    return Score(loss, float((outputs.argmax(1) == part.labels).float().mean()))
