"""What a recurrent kernel takes as its sequence, made known to the graph.

A kernel that goes through a whole sequence by itself shows no result between, but the gradient at what it takes,
unless nobody differentiates by that, as by data. For the length of one forward pass such data are, to the graph
alone, something to differentiate by; the numbers are the same.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import rnn

from unstuck.watching.kernels.exchange import exchanged

# Steps, examples, units.
_DIMENSIONS = 3


@contextmanager
def sequences_followed() -> Generator[None]:
    """Do so; what is called inside keeps its graph after the block."""
    functions: Any = vars(rnn)["_VF"]  # what `nn.LSTM` calls
    original = functions.lstm

    def lstm(inputs: Any, *others: Any) -> Any:
        plain = type(inputs) is Tensor and inputs.dim() == _DIMENSIONS and not inputs.requires_grad
        if plain and torch.is_grad_enabled() and inputs.is_floating_point():
            with suppress(RuntimeError):  # inside a transform of torch.func
                inputs = inputs.detach().requires_grad_()
        return original(inputs, *others)

    with exchanged(functions, "lstm", lstm):
        yield
