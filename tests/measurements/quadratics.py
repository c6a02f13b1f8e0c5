"""Losses of one vector whose every derivative is known, for the tests of this folder."""

import torch
from torch import Tensor, nn

from unstuck import Training
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Objective, draw


class Vector(nn.Module):
    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(theta, dtype=torch.float64).clone())


def bowl(model, batch):
    """Half of theta^T A theta, less b^T theta, plus 1; the first member says how many examples there are."""
    _, matrix, slope = batch
    return 0.5 * model.theta @ matrix @ model.theta - slope @ model.theta + 1.0


def batch(matrix, slope, examples=4):
    return (torch.zeros(examples), matrix, slope)


def symmetric(eigenvalues, seed=0) -> Tensor:
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(
        torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    )
    return (basis * values) @ basis.T


def vector(size, seed=0, scale=1.0) -> Tensor:
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective_of(loss, theta, data, **more) -> Objective:
    training = Training(Vector(theta), loss, data, **more)
    return Objective(training, draw(data, seed=0, enough=lambda *_: False).batches)


def judge_of(objective, *, exhaustive=True) -> Judge:
    halves = Halves.of(len(objective.batches), exhaustive=exhaustive)
    return Judge(objective, halves, objective.values(objective.theta))


def noisy_bowls(count, size, seed=0) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Batches of unequal size, each with a matrix and a slope of its own."""
    return [
        batch(
            symmetric(torch.linspace(-1, 3, size), seed=seed + i),
            vector(size, seed=seed + 100 + i),
            examples=2 + i % 3,
        )
        for i in range(count)
    ]


def mean_bowl(data) -> tuple[Tensor, Tensor]:
    """The matrix and the slope of the loss over these batches."""
    total = sum(len(examples) for examples, _, _ in data)
    matrix = sum(len(examples) / total * matrix for examples, matrix, _ in data)
    slope = sum(len(examples) / total * slope for examples, _, slope in data)
    return matrix, slope
