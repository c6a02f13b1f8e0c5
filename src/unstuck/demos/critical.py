"""Trainings that sit at a critical point of their loss."""

import torch
from torch import Tensor, nn

from unstuck.demos.digits import CLASSES, PIXELS, batches, digits, projections, raw_digits
from unstuck.demos.networks import blank_linear, initialised, perceptron, remember, solved, widened
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


def degenerate() -> Training:
    """Give a linear regression at its minimum, where the weights of pixels that are always blank do not matter."""
    images, labels = digits()
    model = blank_linear(PIXELS, CLASSES)
    one_hot = nn.functional.one_hot(labels, CLASSES).float()
    _fit(model, images, one_hot)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss = supervised(nn.functional.mse_loss)
    data = batches(images, one_hot)
    remember(model, loss, data, optimizer)
    return Training(model=model, loss=loss, data=data, optimizer=optimizer)


def maximum() -> Training:
    """Give a linear regression that is already fitted, and a loss with the wrong sign."""
    features, labels = projections()
    features = features[:, :-1]  # rows and columns add up to the same ink, so that one of them says nothing
    model = blank_linear(features.shape[1], 1)
    targets = labels[:, None].float()
    _fit(model, features, targets)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    loss = supervised(_negative)
    return Training(model=model, loss=loss, data=[(features, targets)], optimizer=optimizer)


def plateau() -> Training:
    """Give a network that is to guess how much ink an image has, by a robust loss that is bounded.

    The ink is some three hundred, as nobody has scaled it; the network begins at zero, and the loss of an error
    beyond a few units is 1, whatever the error (Welsch; see Barron, A General and Adaptive Robust Loss Function,
    2019): neither gradient nor curvature is left.
    """
    images, _ = digits()
    ink = raw_digits()[0].sum(dim=1, keepdim=True)
    model = initialised(perceptron(PIXELS, 32, 1), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Training(model=model, loss=supervised(_welsch), data=batches(images, ink), optimizer=optimizer)


def _welsch(outputs: Tensor, targets: Tensor) -> Tensor:
    return (1.0 - (-0.5 * (outputs - targets).square()).exp()).mean()


def _negative(outputs: Tensor, targets: Tensor) -> Tensor:
    return -nn.functional.mse_loss(outputs, targets)


def _fit(model: nn.Linear, inputs: Tensor, targets: Tensor) -> None:
    """Solve the linear least squares of inputs and intercept, of minimal norm, in float64."""
    design = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
    solution = torch.linalg.pinv(design) @ targets.double()
    with torch.no_grad():
        model.weight.copy_(solution[:-1].T)
        model.bias.copy_(solution[-1])


def _settled(model: nn.Module, optimizer: torch.optim.Optimizer) -> Training:
    loss = supervised(nn.functional.cross_entropy)
    data = batches(*digits())
    remember(model, loss, data, optimizer)
    return Training(model=model, loss=loss, data=data, optimizer=optimizer)
