"""Three real trainings, part-way down: digits by a perceptron and by a conv net, Python's own sources by a GRU."""

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import unstuck
from unstuck.demos.digits import digits

SIZE = 32
LETTERS, LENGTH, WIDTH = 200_000, 32, 32

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A training to be continued at other sizes.

    Attributes:
        name: What it is.
        make: Gives the model, anew.
        optimizer: Gives the optimizer for parameters and a rate.
        rate: Tuned at `SIZE`, within half an octave.
        steps: Made before the sizes are compared.
        target: The loss to get to.
    """

    name: str
    make: Callable[[], nn.Module]
    optimizer: Callable[[object, float], torch.optim.Optimizer]
    rate: float
    steps: int
    target: float
    data: tuple[Tensor, Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]

    def evaluate(self, model: nn.Module, rows: Tensor | slice) -> Tensor:
        """The loss of some examples."""
        return self.loss(model(self.data[0][rows]), self.data[1][rows])


class Letters(nn.Module):
    """Predicts the next letter."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, WIDTH)
        self.cell = nn.GRU(WIDTH, 2 * WIDTH, batch_first=True)
        self.out = nn.Linear(2 * WIDTH, count)

    def forward(self, letters: Tensor) -> Tensor:
        """Give the scores of the next letter at each place."""
        return self.out(self.cell(self.embedding(letters))[0])


def letters_loss(scores: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def tasks() -> list[Task]:
    """All three."""
    x, y = digits()
    images = (x - x.mean()) / x.std()
    pixels = images.float()
    x_text, y_text, count = text()
    return [
        Task(
            "perceptron, SGD",
            lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
            torch.optim.SGD,
            0.57,
            10,
            0.05,
            (pixels, y),
            nn.functional.cross_entropy,
        ),
        Task(
            "conv net, momentum",
            _conv,
            lambda parameters, rate: torch.optim.SGD(parameters, rate, momentum=0.9),
            0.042,
            20,
            0.1,
            (pixels, y),
            nn.functional.cross_entropy,
        ),
        Task(
            "letters, Adam",
            lambda: Letters(count),
            torch.optim.Adam,
            0.028,
            40,
            1.9,
            (x_text, y_text),
            letters_loss,
        ),
    ]


def begun(task: Task, factor: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The training after its first steps, with so many times the tuned rate."""
    torch.manual_seed(0)
    model = task.make()
    optimizer = task.optimizer(model.parameters(), task.rate * factor)
    order = torch.randperm(len(task.data[0]), generator=torch.Generator().manual_seed(1))
    for step in range(task.steps):
        optimizer.zero_grad()
        start = step * SIZE % (len(order) - SIZE)
        task.evaluate(model, order[start : start + SIZE]).backward()
        optimizer.step()
    return model, optimizer


def training(task: Task, factor: float) -> unstuck.Training:
    """The same as a user brings it."""
    model, optimizer = begun(task, factor)
    loader = DataLoader(TensorDataset(*task.data), SIZE, shuffle=True)
    return unstuck.Training(model, unstuck.supervised(task.loss), loader, optimizer)


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def text() -> tuple[Tensor, Tensor, int]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))[:20])[:LETTERS]
    known = {letter: number for number, letter in enumerate(sorted(set(text)))}
    numbers = torch.tensor([known[letter] for letter in text])
    count = (len(numbers) - 1) // LENGTH
    return (
        numbers[: count * LENGTH].view(count, LENGTH),
        numbers[1 : count * LENGTH + 1].view(count, LENGTH),
        len(known),
    )
