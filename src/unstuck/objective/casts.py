"""Automatic casting that is on where a command is called: it is part of the loss, and of nothing else."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import update_wrapper
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.training import Training


def autocasts() -> list[tuple[str, torch.dtype, bool]]:
    """Give the kind, type and state of automatic casting on every kind of device that is there."""
    there = torch.accelerator.current_accelerator()
    kinds = {"cpu"} | ({there.type} if there is not None else set[str]())
    return [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds]


@contextmanager
def casts_kept(training: Training) -> Generator[Training]:
    """Give the training with its loss evaluated under the casting that is on now, which is off for all else inside.

    Sums over vectors of millions would be worth nothing in bfloat16.
    """
    held = [each for each in autocasts() if each[2]]
    if not held:
        yield training
        return
    loss = training.loss

    def cast(model: nn.Module, batch: Any) -> Tensor:
        with ExitStack() as stack:
            for kind, dtype, _ in held:
                stack.enter_context(torch.autocast(kind, dtype, cache_enabled=False))
            return loss(model, batch)

    update_wrapper(cast, loss, assigned=(), updated=())  # so that its code is found
    with ExitStack() as stack:
        for kind, dtype, _ in held:
            stack.enter_context(torch.autocast(kind, dtype, enabled=False))
        yield replace(training, loss=cast)
