"""A training begun anew, for a run whose own parameters are lost."""

from dataclasses import replace
from typing import Any

from unstuck.errors import TrainingError
from unstuck.measurements.data.fresh import fresh_copy
from unstuck.remedies.run import like, settings
from unstuck.training import Training


def begun_anew(training: Training, *, seed: int) -> Training:
    """Give the same training with a fresh model, and a fresh optimizer of the same kind and settings for it.

    Raises:
        TrainingError: The model or the optimizer cannot be made anew.
    """
    old = training.optimizer
    if old is None:
        msg = "no remedy can be tried without `optimizer`: pass the one of the run to Training"
        raise TrainingError(msg)
    model = fresh_copy(training.model, seed=seed)
    pairs = zip(training.model.parameters(), model.parameters(), strict=True)
    anew = {id(parameter): fresh for parameter, fresh in pairs}
    groups: list[dict[str, Any]] = [
        {**group, "params": [anew[id(own)] for own in group["params"] if id(own) in anew]}
        for group in settings(old)
    ]
    try:
        optimizer = like(old, groups)
    except Exception as error:
        msg = f"`optimizer` cannot be begun anew: {type(error).__name__}"
        raise TrainingError(msg) from error
    return replace(training, model=model, optimizer=optimizer, scheduler=None)
