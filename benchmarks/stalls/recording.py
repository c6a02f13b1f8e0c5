"""Trainings on real data, recorded step by step, with the loss of all the data beside."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data

Schedule = Callable[[int, int], float]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Rule = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]

# How often the loss of all the data is taken, in all.
_LOOKS = 160


@dataclass(frozen=True)
class Task:
    """What is learnt: examples, a loss of a model on a batch, and the model."""

    data: Callable[[], tuple[Tensor, Tensor]]
    model: Callable[[], nn.Module]
    loss: Loss


@dataclass(frozen=True)
class Recipe:
    """How it is trained.

    `parts` micro-batches make a step, `smoothed` is the weight of the past where a moving average is logged,
    `cycle` is the number of steps over which the rate comes back, and `rise` that of a warm-up.
    """

    name: str
    task: Task
    rule: Rule
    rate: float
    schedule: Schedule
    size: int
    steps: int
    parts: int = 1
    smoothed: float = 0.0
    cycle: int = 1
    rise: int = 0


@dataclass(frozen=True)
class Recording:
    """Loss and rate of each step, and pairs of a step and the loss of all the data after it."""

    losses: list[float]
    rates: list[float]
    whole: list[tuple[int, float]]


def record(recipe: Recipe, *, seed: int = 0) -> Recording:
    torch.manual_seed(seed)
    inputs, targets = recipe.task.data()
    model = recipe.task.model()
    optimizer = recipe.rule([one for one in model.parameters() if one.requires_grad], recipe.rate)
    batches = _batches(inputs, targets, recipe.size, seed)
    stride = max(recipe.steps // _LOOKS, 1)
    found = Recording([], [], [])
    logged = math.nan
    for step in range(1, recipe.steps + 1):
        rate = recipe.rate * recipe.schedule(step - 1, recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = torch.stack([recipe.task.loss(model, *next(batches)) for _ in range(recipe.parts)]).mean()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        value = loss.item()
        logged = value if math.isnan(logged) else recipe.smoothed * logged + (1 - recipe.smoothed) * value
        found.losses.append(logged)
        found.rates.append(rate)
        if step % stride == 0:
            with torch.no_grad():
                found.whole.append((step, recipe.task.loss(model, inputs, targets).item()))
    return found


def _batches(inputs: Tensor, targets: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffle every epoch, as a DataLoader does; a size of 0 is all the data."""
    generator = torch.Generator().manual_seed(seed)
    size = size or len(inputs)
    while True:
        order = torch.randperm(len(inputs), generator=generator)
        for part in order.split(size):
            if len(part) == size:
                yield (inputs[part], targets[part]) if size < len(inputs) else (inputs, targets)


def classified(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    logits = model(inputs)
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def regressed(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(model(inputs).squeeze(-1), targets)


def rebuilt(model: nn.Module, inputs: Tensor, _: Tensor) -> Tensor:
    return functional.mse_loss(model(inputs), inputs)


class Recurrent(nn.Module):
    """Predicts the next symbol of a text by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(data.SYMBOLS, 16)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, data.SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Give the logits of each next symbol."""
        return self.head(self.lstm(self.embedding(symbols))[0])


class Attending(nn.Module):
    """Predicts the next symbol of a text by a transformer of one layer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(data.SYMBOLS, width)
        self.place = nn.Parameter(0.02 * torch.randn(16, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, data.SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Give the logits of each next symbol."""
        length = symbols.shape[1]
        mask = torch.triu(torch.full((length, length), -math.inf), diagonal=1)
        return self.head(self.block(self.embedding(symbols) + self.place[:length], src_mask=mask))


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), activation()]
        return nn.Sequential(*layers[:-1])

    return build


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _digits() -> tuple[Tensor, Tensor]:
    return data.digits(1200, flat=True)


def _mislabelled() -> tuple[Tensor, Tensor]:
    """Digits of which a fifth has labels at random: what makes descent double."""
    inputs, labels = data.digits(400, flat=True)
    return inputs, torch.cat([labels[:80].roll(1), labels[80:]])


def _patches() -> tuple[Tensor, Tensor]:
    patches = data.patches(1024)
    return patches, patches


DIGITS = Task(_digits, perceptron(64, 64, 10), classified)
LINEAR = Task(_digits, perceptron(64, 10), classified)
DEEP = Task(_digits, perceptron(64, 48, 48, 48, 10, activation=nn.Tanh), classified)
CONV = Task(lambda: data.digits(600), convolutional, classified)
CODED = Task(_digits, perceptron(64, 32, 8, 32, 64), rebuilt)
PATCHES = Task(_patches, perceptron(64, 48, 16, 48, 64, activation=nn.Tanh), rebuilt)
WINE = Task(lambda: data.table("wine"), perceptron(13, 16, 3), classified)
IRIS = Task(lambda: data.table("iris"), perceptron(4, 16, 3, activation=nn.Tanh), classified)
CANCER = Task(lambda: data.table("breast_cancer"), perceptron(30, 16, 2), classified)
DIABETES = Task(lambda: data.table("diabetes"), perceptron(10, 128, 64, 1), regressed)
MISLABELLED = Task(_mislabelled, perceptron(64, 256, 10), classified)
LSTM = Task(lambda: data.text(384), Recurrent, classified)
TRANSFORMER = Task(lambda: data.text(384), Attending, classified)
