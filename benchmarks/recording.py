"""What it costs to be watched: the time of a step with the recorder beside the same step without it.

Turns of the same training with and without the recorder alternate in one process, in random order, by the clock; the
ratio is that of each turn to the one beside it. The recorder does all that it does in a run: it writes every step
and its samples to a store on disk and tests the loss for a stall; looks at the live graph are measured by themselves.
"""

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.tables import Table
from benchmarks.workloads import batches
from unstuck.watching import watch as watching
from unstuck.watching.hooks import attach
from unstuck.watching.kernels.attention import twice_differentiable_attention
from unstuck.watching.looks import Looker

# Turns of each kind, and seconds that a turn takes.
TURNS, SECONDS = 100, 0.15


@dataclass(frozen=True)
class Case:
    """A training whose steps are timed."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Callable[[], tuple[Tensor, Tensor]]

    def loss(self) -> Tensor:
        """Evaluate the loss of the next batch."""
        rows, classes = self.batch()
        return functional.cross_entropy(self.model(rows), classes)

    def step(self) -> None:
        """Train one step, as everybody does."""
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def run() -> list[Table]:
    """Measure all cases."""
    return [_overhead(), _looks()]


def _overhead() -> Table:
    rows = []
    for case in cases():
        off, on, ratios = _turns(case)
        low, middle, high = quantiles(ratios, n=4)
        size = sum(parameter.numel() for parameter in case.model.parameters())
        rows.append([case.name, size, 1e3 * off, 1e6 * (on - off), middle, f"{low:.3f}-{high:.3f}"])
    columns = ("training", "parameters", "ms a step", "us more when watched", "ratio", "quartiles")
    note = "Asked for: a median ratio of at most 1.02 for the conv net and the transformer, 1.05 for the tiny ones."
    return Table("Overhead of recording", columns, rows, note)


def _turns(case: Case) -> tuple[float, float, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        watch = watching.Watch([], out=folder, share=0.0)
        detach = attach(watch.recorder, [case.optimizer])
        _timed(case, 20)
        detach()
        count = max(3, round(SECONDS / _timed(case, 20)))
        off, on = [], []
        for _ in range(TURNS):
            for watched in random.sample((False, True), 2):
                detach = attach(watch.recorder, [case.optimizer]) if watched else _nothing
                (on if watched else off).append(_timed(case, count))
                detach()
        watch.close()
    return median(off), median(on), [with_ / without for with_, without in zip(on, off, strict=True)]


def _timed(case: Case, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        case.step()
    return (time.perf_counter() - begun) / count


def _looks() -> Table:
    rows = []
    for case in cases():
        gradient = median(_gradient(case) for _ in range(20))
        looks = [_look(case) for _ in range(5)]
        seconds = median(looker.seconds for looker in looks)
        rows.append([case.name, 1e3 * gradient, looks[0].gradients, 1e3 * seconds, seconds / gradient])
    columns = ("training", "ms a gradient", "gradients by price", "ms a look", "gradients by time")
    note = (
        "A look: the products that span the space on one batch, and four batches that judge. A gradient is a forward "
        "and a backward pass. By price is what is asked to be at most 60."
    )
    return Table("Cost of a look", columns, rows, note)


def _gradient(case: Case) -> float:
    begun = time.perf_counter()
    case.loss().backward()
    return time.perf_counter() - begun


def _look(case: Case) -> Looker:
    looker = Looker(case.optimizer, 1)
    while looker.wanting:
        with twice_differentiable_attention():
            loss = case.loss()
        if looker.found:
            looker.judge(loss, 1.0)
        else:
            looker.find(loss, 1.0, lambda: True)
        case.optimizer.zero_grad()
        loss.backward()
        case.optimizer.step()
        looker.after()
    return looker


def cases() -> list[Case]:
    """Make the trainings, small enough that what is measured is the recorder."""
    torch.manual_seed(0)
    inputs, labels = (torch.cat(parts)[:1024] for parts in zip(*batches(), strict=True))
    generator = torch.Generator().manual_seed(0)

    def drawn(size: int) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(inputs), (size,), generator=generator)
        return inputs[index], labels[index]

    def case(name: str, model: nn.Module, optimizer: Callable[..., torch.optim.Optimizer], size: int) -> Case:
        return Case(name, model, optimizer(model.parameters(), lr=1e-3), lambda: drawn(size))

    tiny = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    other = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    conv = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 10),
    )
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    transformer = nn.Sequential(
        nn.Unflatten(1, (8, 8)),
        nn.Linear(8, 64),
        nn.TransformerEncoder(layer, 3, enable_nested_tensor=False),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    return [
        case("tiny perceptron, SGD, batch 32", tiny, torch.optim.SGD, 32),
        case("tiny perceptron, Adam, batch 32", other, torch.optim.Adam, 32),
        case("conv net, SGD, batch 64", conv, torch.optim.SGD, 64),
        case("transformer, AdamW, batch 32", transformer, torch.optim.AdamW, 32),
    ]


def _nothing() -> None:
    """Undo nothing."""
