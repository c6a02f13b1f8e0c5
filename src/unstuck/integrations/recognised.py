"""What a framework trains with, taken for the training that it is. No framework is imported before it is met."""

from importlib import import_module
from typing import Any

from unstuck.training import Training, is_lightning_module

# Lightning's Trainer, under both names of the framework.
_FITTING = {("lightning", "Trainer"), ("pytorch_lightning", "Trainer")}


def training_in(thing: Any) -> Training | None:
    """Give the training of Transformers' Trainer, of a LightningModule, or of that which Lightning's Trainer fitted.

    None where it is none of these.

    Raises:
        TrainingError: It is, and cannot be taken apart; the message says what to pass instead.
    """
    kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(thing).__mro__}
    if ("transformers", "Trainer") in kinds:
        return import_module("unstuck.integrations.transformers").training_of(thing)
    module = getattr(thing, "lightning_module", None) if kinds & _FITTING else thing
    if is_lightning_module(type(module)):
        return import_module("unstuck.integrations.lightning").training_of(module)
    return None
