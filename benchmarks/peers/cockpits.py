"""Cockpit 1.0.2 on trainings: how a step is made under it.

It needs `setuptools` below 82, whose `pkg_resources` it asks for its version, and runs with PyTorch 2.13 and
backpack-for-pytorch 1.7.1 then, as far as BackPACK knows the layers. Model and loss are extended by BackPACK, the
backward pass is put into its context, and it is told the batch's size, the losses of the examples and the optimizer.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = Callable[[], tuple[Tensor, Tensor]]


class Watched:
    """A training whose steps are made under a Cockpit; the model is a copy.

    Args:
        model: Classifies.
        optimizer: Makes the optimizer from parameters.
        batch: Gives the next batch.
        quantities: Names of its quantities, or the name of one of its configurations.
        interval: Steps from one look to the next.
        options: Of every quantity, by its name.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        batch: Batch,
        quantities: Sequence[str] | str,
        *,
        interval: int = 1,
        options: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        from backpack import extend
        from cockpit import Cockpit
        from cockpit import quantities as known
        from cockpit.utils.configuration import configuration
        from cockpit.utils.schedules import linear

        self.model = extend(copy.deepcopy(model))
        self._loss = extend(nn.CrossEntropyLoss())
        self._optimizer = optimizer(self.model.parameters())
        self._batch = batch
        when = linear(interval)
        if isinstance(quantities, str):
            wanted = configuration(quantities, when)
        else:
            wanted = [getattr(known, name)(when, **(options or {}).get(name, {})) for name in quantities]
        self._cockpit = Cockpit(self.model.parameters(), quantities=wanted)
        self._steps = 0

    def step(self) -> None:
        """Train one step."""
        inputs, targets = self._batch()
        self._optimizer.zero_grad()
        outputs = self.model(inputs)
        loss = self._loss(outputs, targets)
        told = {
            "batch_size": len(targets),
            "individual_losses": functional.cross_entropy(outputs, targets, reduction="none"),
            "loss": loss,
            "optimizer": self._optimizer,
        }
        with self._cockpit(self._steps, info=told):
            loss.backward(create_graph=self._cockpit.create_graph(self._steps))
        self._optimizer.step()
        self._steps += 1

    def last(self, quantity: str) -> Any:
        """What was seen at the last step; of what is given tensor by tensor, all of them."""
        return self._cockpit.get_output()[self._steps - 1][quantity]


def still(parameters: Any) -> torch.optim.Optimizer:
    """Make an optimizer that stays where it is: of the only kind that all its quantities take."""
    return torch.optim.SGD(parameters, lr=0.0)
