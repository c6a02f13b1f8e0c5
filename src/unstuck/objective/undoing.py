"""What is written into a user's own training on purpose: all of it, or nothing."""

import copy
from collections.abc import Generator
from contextlib import contextmanager

import torch

from unstuck.training import Training


@contextmanager
def all_or_nothing(training: Training) -> Generator[None]:
    """Put everything of a training back, bit by bit, when what is done to it inside fails half way."""
    model = training.model
    held = (*model.parameters(), *model.buffers())
    tensors = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in held]
    optimizer, scheduler = training.optimizer, training.scheduler
    state, groups = (None, None) if optimizer is None else (optimizer.state, optimizer.param_groups)
    kept = [] if groups is None else [(group, dict(group), list(group["params"])) for group in groups]
    attributes = None if scheduler is None else copy.copy(vars(scheduler))
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, before, trained in tensors:
                tensor.copy_(before)
                tensor.requires_grad_(trained)
        if optimizer is not None and state is not None and groups is not None:
            del groups[len(kept) :]
            for group, entries, parameters in kept:
                group.clear()
                group.update(entries)
                group["params"] = parameters
            optimizer.state, optimizer.param_groups = state, groups
        if attributes is not None:
            vars(scheduler).update(attributes)
        raise
