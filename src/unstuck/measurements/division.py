"""How a training is divided over processes, looked at before anything is measured."""

from torch import nn
from torch.nn.modules.batchnorm import SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel

from unstuck import journal, processes
from unstuck.errors import TrainingError
from unstuck.measurements.records import Division
from unstuck.objective import Draw
from unstuck.objective.parameters import Parameters
from unstuck.objective.sampling import tensors
from unstuck.objective.shards import is_divided
from unstuck.training import Training


def unwrapped(model: nn.Module) -> nn.Module:
    """Give the model inside `DistributedDataParallel`: what that would sum is summed here.

    Raises:
        TrainingError: The processes cannot look at it together.
    """
    model = model.module if isinstance(model, DistributedDataParallel) else model
    if processes.count() == 1:
        return model
    if any(isinstance(module, SyncBatchNorm) for module in model.modules()):
        msg = "`model` has SyncBatchNorm, whose processes wait for each other: diagnose it in one process"
        raise TrainingError(msg)
    if not is_divided(model) and len(set(processes.gathered(journal.digest(list(model.parameters()))))) > 1:
        msg = (
            "the processes hold different parameters: load the same checkpoint in each, seed each alike, or wrap "
            "the model in DistributedDataParallel"
        )
        raise TrainingError(msg)
    return model


def divided(training: Training, drawn: Draw) -> Division | None:
    """Say how the data and the parameters are divided; None in one process."""
    if processes.count() == 1:
        return None
    first = drawn.batches[0]
    parameters = Parameters(training.model)
    held = sum(slot.here.numel() for slot in parameters.slots)
    return Division(
        processes=processes.count(),
        examples=tuple(processes.gathered(sum(batch.here for batch in drawn.batches))),
        same_data=len(set(processes.gathered(journal.digest(list(tensors(first.content)))))) == 1,
        parameters=tuple(processes.gathered(held)) if parameters.sharded else None,
    )
