"""What a run on copies has come to, written into the user's own training: all of it, or nothing."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unstuck.interrupts import Interrupts
from unstuck.objective.parameters import Parameters
from unstuck.objective.shards import local, reshard
from unstuck.objective.undoing import all_or_nothing
from unstuck.remedies.rules import gives_sparse
from unstuck.remedies.run import Run, forgotten
from unstuck.training import Training


def commit_point(
    training: Training, parameters: Parameters, theta: Tensor, buffers: dict[str, Tensor] | None
) -> None:
    """Write parameters and buffers into the training, and let its optimizer begin anew: all of it, or nothing."""
    with Interrupts().held(), all_or_nothing(training):
        _write(training, parameters, theta, buffers)
        if training.optimizer is not None:
            training.optimizer.load_state_dict(forgotten(training.optimizer).state_dict())


def commit(training: Training, run: Run, theta: Tensor, buffers: dict[str, Tensor] | None) -> Optimizer:
    """Write parameters, buffers, optimizer and scheduler state of a run into the training.

    Ctrl-C waits until it is done; whatever fails half way is undone.

    Args:
        training: The user's.
        run: A copy of it, as it has become.
        theta: The parameters to write, which a remedy may have averaged.
        buffers: The model's buffers as they have become, by name; None: as they are.

    Returns:
        The optimizer to go on with: the training's own, or another where the remedy has put one in its place.
    """
    with Interrupts().held(), all_or_nothing(training):
        _write(training, run.objective.parameters, theta, buffers)
        optimizer = _optimizer(training, run)
        if training.scheduler is not None and run.scheduler is not None:
            training.scheduler.load_state_dict(copy.deepcopy(run.scheduler.state_dict()))
    if optimizer is not training.optimizer and isinstance(optimizer, torch.optim.Adam):
        for module in filter(gives_sparse, training.model.modules()):
            module.sparse = False
    return optimizer


def _write(
    training: Training, parameters: Parameters, theta: Tensor, buffers: dict[str, Tensor] | None
) -> None:
    own = dict(training.model.named_buffers())
    reshard(training.model)
    with torch.no_grad():
        for slot, piece in zip(parameters.slots, parameters.pieces(theta), strict=True):
            local(slot.parameter).copy_(piece)
        for name, value in (buffers or {}).items():
            if name in own:
                own[name].copy_(value)


def _optimizer(training: Training, run: Run) -> Optimizer:
    """Bring the training's own optimizer to where the copy is, or make another like it that moves its parameters."""
    theirs, own = run.optimizer, training.optimizer
    originals = dict(
        zip(
            map(id, run.twin.copies), (slot.parameter for slot in run.objective.parameters.slots), strict=True
        )
    )
    if own is not None and not run.exchanged:
        for group in theirs.param_groups[len(own.param_groups) :]:
            own.add_param_group({**group, "params": [originals[id(tensor)] for tensor in group["params"]]})
        for mine, copied in zip(own.param_groups, theirs.param_groups, strict=True):
            if (
                "rule" in copied
            ):  # which a remedy may have changed, and a composed optimizer loads no other's state
                mine["rule"] = copied["rule"]
        optimizer = own
    else:
        groups: list[dict[str, Any]] = [
            {**group, "params": [originals.get(id(tensor), tensor) for tensor in group["params"]]}
            for group in theirs.param_groups
        ]
        optimizer = type(theirs)(groups)  # pyright: ignore[reportCallIssue]  # all of torch's take groups alone
    for tensor in originals.values():
        tensor.requires_grad_()
    optimizer.load_state_dict(theirs.state_dict())
    return optimizer
