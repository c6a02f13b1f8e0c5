"""How sharpness was checked and what it says: `python benchmarks/sharpness.py`, about five minutes on one core.

Keskar's box against every corner of the box and against SciPy's global search; then a small network on the UCI
digits, trained to a training loss of 0.02 with batches of 8, of 64 and with all data, three times each.
"""

import math
from itertools import product

import numpy as np
import torch
from scipy.optimize import differential_evolution
from torch import Tensor, nn

import unstuck
from unstuck.demos.digits import digits
from unstuck.landscape.box import EPSILONS, highest_in_box
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Objective, draw

HELD = 597
TARGET = 0.02
SEEDS = 3


def judge_of(training: unstuck.Training) -> Judge:
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    objective = Objective(training, batches, dtype=torch.float64)
    return Judge(objective, Halves.of(len(batches), exhaustive=True), objective.values(objective.theta))


def small_network(seed: int) -> unstuck.Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    inputs = torch.randn(40, 2, dtype=torch.float64)
    targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2000):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return unstuck.Training(model, unstuck.supervised(nn.CrossEntropyLoss()), [(inputs, targets)])


def agreement(seed: int, epsilon: float) -> tuple[float, float]:
    """What the measure finds over what all corners hold, and over what a global search finds."""
    judge = judge_of(small_network(seed))
    objective = judge.objective
    with objective.products(objective.theta) as products:
        hessian = products.block(torch.eye(objective.size, dtype=torch.float64))
    top = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    base = judge.found(judge.base)
    rise = highest_in_box(judge, epsilon, top).found - base
    bounds = epsilon * (objective.theta.abs() + 1.0)
    corners = max(
        objective.value(objective.theta + bounds * torch.tensor(signs, dtype=torch.float64))
        for signs in product((-1.0, 1.0), repeat=objective.size)
    )
    searched = differential_evolution(
        lambda z: -objective.value(objective.theta + torch.from_numpy(z)),
        [(-b, b) for b in bounds.tolist()],
        maxiter=40, popsize=8, rng=seed,
    )  # fmt: skip
    return rise / (corners - base), rise / (-searched.fun - base)


def trained(size: int, rate: float, seed: int) -> unstuck.Training:
    inputs, targets = digits()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    inputs, targets = inputs[order], targets[order]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    train, held = (inputs[HELD:], targets[HELD:]), (inputs[:HELD], targets[:HELD])
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(train[0]), generator=generator).split(size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
        with torch.no_grad():
            if float(nn.functional.cross_entropy(model(train[0]), train[1])) < TARGET:
                break
    return unstuck.Training(
        model, unstuck.supervised(nn.CrossEntropyLoss()), pieces(*train), optimizer, validation=pieces(*held)
    )


def pieces(inputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(inputs.split(60), targets.split(60), strict=True))


def main() -> None:
    ratios = np.array([agreement(seed, epsilon) for seed in range(10) for epsilon in EPSILONS])
    for name, column in zip(("all corners", "global search"), ratios.T, strict=True):
        print(f"Keskar over {name}: median {np.median(column):.4f}, lowest {column.min():.4f}")
    names = ("lambda_max", "trace", "keskar", "sam", "sam_steps", "asam", "asam_steps")
    print("\nbatch  rate  validation  |g|     " + "  ".join(f"{name:>10}" for name in names) + "  gradients")
    for size, rate in ((8, 0.1), (64, 0.1), (1200, 0.1), (1200, 0.8)):
        found = [unstuck.sharpness(trained(size, rate, seed)).survey for seed in range(SEEDS)]
        means = [math.fsum(s.measure(name).value.value for s in found) / SEEDS for name in names]
        validation = math.fsum(s.validation.value for s in found) / SEEDS
        norm = math.fsum(s.gradient.norm for s in found) / SEEDS
        cost = math.fsum(s.cost.gradients for s in found) / SEEDS
        row = "  ".join(f"{mean:10.4g}" for mean in means)
        print(f"{size:5}  {rate:4.2g}  {validation:10.4f}  {norm:6.4f}  {row}  {cost:9.0f}", flush=True)


if __name__ == "__main__":
    main()
