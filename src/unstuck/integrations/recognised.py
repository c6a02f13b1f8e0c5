"""What a framework trains with, taken for the training that it is. No framework is imported before it is met."""

from importlib import import_module
from typing import Any

from unstuck.training import Training


def training_in(thing: Any) -> Training | None:
    """Give the training of Transformers' Trainer, of a LightningModule, or of that which Lightning's Trainer fitted.

    None where it is none of these.

    Raises:
        TrainingError: It is, and cannot be taken apart; the message says what to pass instead.
    """
    kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(thing).__mro__}
    if ("transformers", "Trainer") in kinds:
        return import_module("unstuck.integrations.transformers").training_of(thing)
    for package in ("lightning", "pytorch_lightning"):
        module = getattr(thing, "lightning_module", None) if (package, "Trainer") in kinds else thing
        if module is not None and (module is not thing or (package, "LightningModule") in kinds):
            return import_module("unstuck.integrations.lightning").training_of(module)
    return None
