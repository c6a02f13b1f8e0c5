"""Say in plain words what training is looked at."""

from unstuck.measurements.records import Subject
from unstuck.objective import Objective
from unstuck.training import Training


def describe_subject(training: Training, objective: Objective) -> Subject:
    """Describe model and optimizer by numbers and class names."""
    slots = objective.parameters.slots
    trained = {id(slot.parameter) for slot in slots}
    others = [parameter for parameter in training.model.parameters() if id(parameter) not in trained]
    dtypes = sorted({str(slot.parameter.dtype).removeprefix("torch.") for slot in slots})
    optimizer = training.optimizer
    return Subject(
        model=type(training.model).__name__,
        parameters=objective.size,
        frozen=sum(parameter.numel() for parameter in others),
        dtype="+".join(dtypes),
        device=str(objective.parameters.device),
        optimizer=type(optimizer).__name__ if optimizer else None,
        rate=float(optimizer.param_groups[0]["lr"]) if optimizer else None,
        decay=objective.decay is not None,
        mode="train" if training.model.training else "eval",
    )
