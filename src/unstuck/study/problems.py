"""Losses that studies of optimizers walk on: one convex, one of a real network, and toys given by a formula."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from unstuck.demos.digits import CLASSES, projections
from unstuck.demos.networks import blank_linear, initialised, perceptron
from unstuck.objective import Batch, Objective
from unstuck.optim import Rule
from unstuck.study.landscape import classified, whole
from unstuck.study.walking import Walk, walk
from unstuck.training import Training

# Of the scales of features, the last over the first, where they are unequal, as raw features are.
SPREAD = 30.0
DECAY = 1e-4  # makes the convex loss strictly so
HIDDEN = 16


class Place(nn.Module):
    """A point, whose loss is a formula of it."""

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, _: Tensor) -> Tensor:
        """Give the point."""
        return self.place


def toy(formula: Callable[[Tensor], Tensor], start: Sequence[float]) -> Objective:
    """Give a loss by its formula."""
    model, nothing = Place(start), torch.zeros(1, dtype=torch.float64)
    return Objective(
        Training(model, lambda model, batch: formula(model(batch)), [nothing]), [Batch(nothing, 1, 0)]
    )


def features(spread: float) -> tuple[Tensor, Tensor]:
    """Load the ink in rows and columns of digits, as features whose scales go up by a factor in all."""
    inputs, labels = projections()
    return inputs * spread ** torch.linspace(-0.5, 0.5, inputs.shape[1]), labels


def convex(spread: float) -> Objective:
    """Give the cross-entropy of a linear classifier: it has one minimum and no saddle."""
    inputs, labels = features(spread)
    return whole(nn.Sequential(blank_linear(inputs.shape[1], CLASSES)), inputs, labels, decay=DECAY)


def network(seed: int, *, unequal: bool) -> Objective:
    """Give the cross-entropy of a network with one hidden layer."""
    inputs, labels = features(SPREAD if unequal else 1.0)
    model = initialised(perceptron(inputs.shape[1], HIDDEN, CLASSES), seed=seed)
    return whole(model, inputs, labels, decay=DECAY)


def batched(seed: int, size: int, *widths: int) -> Objective:
    """Give a network's cross-entropy in shuffled batches, in float32; each can be asked for by itself."""
    inputs, labels = projections()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    pairs = list(zip(inputs[order].split(size), labels[order].split(size), strict=True))
    model = initialised(perceptron(inputs.shape[1], *widths, CLASSES), seed=seed)
    training = Training(model, classified, pairs)
    return Objective(training, [Batch(pair, len(pair[0]), index) for index, pair in enumerate(pairs)])


def shuffled(objective: Objective, seed: int) -> Callable[[int], Sequence[int]]:
    """Give for each step which batch it sees: every one once an epoch, in an order drawn anew each epoch."""
    orders = _orders(len(objective.batches), seed)
    return lambda _: [next(orders)]


def best(
    objective: Objective, rule: Callable[[], Rule], rates: Sequence[float], steps: int
) -> tuple[float, Walk]:
    """Walk at every rate, and give the one that ends lowest."""
    walks = [(rate, walk(objective, rule(), rate, steps)) for rate in rates]
    return min(walks, key=lambda pair: pair[1].losses[-1])


def _orders(count: int, seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).tolist()
