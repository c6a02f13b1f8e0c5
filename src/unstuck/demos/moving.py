"""Trainings that are not at a critical point: there is a way down, and the optimizer does not take it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.demos.digits import CLASSES, batches, raw_digits
from unstuck.demos.networks import blank_linear, descend
from unstuck.training import Training, supervised


def valley() -> Training:
    """Give a logistic regression on features as they come: pixels up to 16 beside moments up to 10,000.

    The steep moments allow no larger rate, and at this one the weights of the pixels hardly move.
    """
    images, labels = raw_digits()
    features = torch.cat([images, moments(images)], dim=1)
    model = blank_linear(features.shape[1], CLASSES)
    loss = supervised(nn.functional.cross_entropy)
    data = batches(features, labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-8)
    descend(model, loss, data, optimizer, epochs=200)
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
