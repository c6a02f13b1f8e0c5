"""Trainings that sit at a critical point of their loss."""

import torch
from torch import Tensor, nn

from unstuck.demos.digits import CLASSES, PIXELS, batches, digits
from unstuck.demos.networks import perceptron, remember, solved, widened
from unstuck.training import Training, supervised

SADDLE_UNITS = 3  # of these the narrow network is made; its minimum is the saddle of the wide one
SADDLE_WIDTH = 64
SADDLE_DECAY = 1e-2
MINIMUM_WIDTH = 32
MINIMUM_DECAY = 3e-2


class Product(nn.Module):
    """The linear network of one hidden unit and no bias, y = w1 w2 x, at w1 = w2 = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.zeros(()))
        self.w2 = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by both weights."""
        return self.w1 * self.w2 * x


def lecture() -> Training:
    """The worked example of the lecture: L = (1 - w1 w2)^2 at (0, 0), eigenvalues -2 and +2."""
    model = Product()
    one = torch.ones(1)
    return Training(
        model=model,
        loss=supervised(nn.functional.mse_loss),
        data=[(one, one)],
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )


def saddle() -> Training:
    """Give a trained network that was widened with zero units: they get no gradient, whatever the batch."""
    model = widened(solved(perceptron(PIXELS, SADDLE_UNITS, CLASSES), "saddle"), SADDLE_WIDTH)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=SADDLE_DECAY)
    return _settled(model, optimizer)


def minimum() -> Training:
    """Give a network trained to a minimum, which its weight decay makes a strict one."""
    model = solved(perceptron(PIXELS, MINIMUM_WIDTH, CLASSES), "minimum")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=MINIMUM_DECAY)
    return _settled(model, optimizer)


def _settled(model: nn.Module, optimizer: torch.optim.Optimizer) -> Training:
    loss = supervised(nn.functional.cross_entropy)
    data = batches(*digits())
    remember(model, loss, data, optimizer)
    return Training(model=model, loss=loss, data=data, optimizer=optimizer)
