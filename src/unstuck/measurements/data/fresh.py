"""The user's model begun anew, and trained for a while: what can it learn from these labels?"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.errors import MeasurementError
from unstuck.objective.generators import generators_kept, seed_everything
from unstuck.objective.sampling import mapped

# A rate that networks of any kind learn with under Adam, if not at their fastest.
_RATE = 2e-3

# Small batches make the most steps of a pass; those of fewer examples say little.
_PIECE = 32


def fresh_copy(model: nn.Module, *, seed: int) -> nn.Module:
    """Copy a model and initialise it anew, by the modules' own `reset_parameters` where they have one.

    The numbers in other parameters are shuffled, which keeps their scale and loses what they learnt.

    Raises:
        MeasurementError: The model cannot be copied.
    """
    try:
        with torch.no_grad(), generators_kept():
            seed_everything(seed)
            made = copy.deepcopy(model)
            drawn = torch.Generator().manual_seed(seed)
            for module in made.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
                    continue
                for parameter in module.parameters(recurse=False):
                    order = torch.randperm(parameter.numel(), generator=drawn).to(parameter.device)
                    parameter.copy_(parameter.flatten()[order].view_as(parameter))
    except Exception as error:
        msg = f"the model cannot be initialised anew: {type(error).__name__}"
        raise MeasurementError(msg) from error
    return made


def train(
    model: nn.Module, loss: Any, contents: Sequence[Any], counts: Sequence[int], *, passes: int, seed: int
) -> None:
    """Train a copy in place by Adam on small pieces of the batches; only inside a session."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=_RATE)
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(passes):
        for content, count in zip(contents, counts, strict=True):
            order = torch.randperm(count, generator=drawn)
            for piece in order.tensor_split(max(math.ceil(count / _PIECE), 1)):
                value = loss(model, part(content, piece, count))
                if not bool(value.isfinite()):
                    return
                optimizer.zero_grad()
                value.backward()
                optimizer.step()


def part(content: Any, chosen: Tensor, count: int) -> Any:
    """Give a batch of some of the examples of a batch of `count`, as copies."""

    def leaf(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        whole = item.ndim and len(item) == count
        return item[chosen.to(item.device)] if whole else item.clone()

    return mapped(content, leaf)
