"""Trainings that are not at a critical point: there is a way down, and the optimizer does not take it."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.demos.digits import CLASSES, PIXELS, batches, digits, projections, raw_digits
from unstuck.demos.networks import blank_linear, descend, initialised, perceptron
from unstuck.training import Training, supervised


def valley() -> Training:
    """Give a logistic regression on features as they come: pixels up to 16 beside moments up to 10,000.

    The steep moments allow no larger rate, and at this one the weights of the pixels hardly move.
    """
    images, labels = raw_digits()
    features = torch.cat([images, moments(images)], dim=1)
    model = blank_linear(features.shape[1], CLASSES)
    return _classifier(model, batches(features, labels), rate=1e-8, epochs=120)


def bounce() -> Training:
    """Give a logistic regression that jumps between two walls of its valley at every full-batch step.

    The loss is convex, and a tenth of the rate would go down it; this one is above 2 / lambda_max.
    """
    features, labels = projections()
    model = blank_linear(features.shape[1], CLASSES)
    return _classifier(model, [(features, labels)], rate=20.0, epochs=1000)


def noise() -> Training:
    """Give the same logistic regression on batches of 32, whose noise keeps it from going down at this rate."""
    features, labels = projections()
    model = blank_linear(features.shape[1], CLASSES)
    return _classifier(model, batches(features, labels, size=32), rate=5.0, epochs=10)


def healthy() -> Training:
    """Give a network after its first epoch, in which nothing is wrong."""
    model = initialised(perceptron(PIXELS, 32, CLASSES), seed=0)
    return _classifier(model, batches(*digits()), rate=0.05, momentum=0.9, epochs=1)


def _classifier(
    model: nn.Module, data: Iterable[Any], *, rate: float, epochs: int, momentum: float = 0.0
) -> Training:
    loss = supervised(nn.functional.cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    descend(model, loss, data, optimizer, epochs=epochs)
    return Training(model=model, loss=loss, data=data, optimizer=optimizer)


def moments(images: Float[Tensor, "examples 64"]) -> Float[Tensor, "examples 6"]:
    """Sum the ink of each image: plain, and weighted with row, column, their squares and their product."""
    square = images.reshape(-1, 8, 8)
    place = torch.arange(8.0)
    weights = (
        torch.ones(8, 8),
        place[:, None].expand(8, 8),
        place[None, :].expand(8, 8),
        place[:, None].square().expand(8, 8),
        place[None, :].square().expand(8, 8),
        place[:, None] * place[None, :],
    )
    return torch.stack([(square * weight).sum(dim=(1, 2)) for weight in weights], dim=1)
