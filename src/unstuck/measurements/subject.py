"""Say in plain words what training is looked at."""

from collections.abc import Sequence

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from unstuck.measurements.records import Subject
from unstuck.objective.decay import by_parameter, coupled, shrinking
from unstuck.objective.parameters import Parameters, Slot
from unstuck.training import Training


def describe_subject(training: Training, parameters: Parameters, *, decay: bool) -> Subject:
    """Describe model and optimizer by numbers and class names; `decay` says whether it is part of the loss."""
    slots = parameters.slots
    trained = {id(slot.parameter) for slot in slots}
    others = [parameter for parameter in training.model.parameters() if id(parameter) not in trained]
    held = parameters.trainable - parameters.size
    dtypes = sorted({str(slot.parameter.dtype).removeprefix("torch.") for slot in slots})
    optimizer = training.optimizer
    return Subject(
        model=_name(training.model),
        parameters=parameters.size,
        frozen=sum(parameter.numel() for parameter in others) - held,
        dtype="+".join(dtypes),
        device=str(parameters.device),
        optimizer=type(optimizer).__name__ if optimizer else None,
        rate=_rate(optimizer) if optimizer else None,
        decay=decay,
        mode="train" if training.model.training else "eval",
        only=parameters.among,
        trainable=parameters.trainable if parameters.among else None,
        clip=None if training.clip is None else float(training.clip),
        hooked=sum(bool(slot.parameter._backward_hooks) for slot in slots),  # noqa: SLF001  # there is no public name
        pull=_pull(optimizer, slots) if optimizer and decay else 0.0,
        shrink=shrinking(optimizer) if optimizer else 0.0,
    )


def _pull(optimizer: Optimizer, slots: Sequence[Slot]) -> float:
    groups = by_parameter(optimizer)
    return min(coupled(optimizer, groups.get(id(slot.parameter), {})) for slot in slots)


def _name(model: nn.Module) -> str:
    """The class that the user knows: `fully_shard` makes one of its own of it."""
    name = type(model).__name__
    return name.removeprefix("FSDP") if isinstance(model, FSDPModule) else name


def _rate(optimizer: Optimizer) -> float | None:
    rate = optimizer.param_groups[0].get("lr")  # a stranger's optimizer may call it otherwise
    return None if rate is None else float(rate)
