"""Other trainings, for what is said of their rates: eight kinds of model and optimizer, on data that ship along."""

import math
from dataclasses import replace
from functools import partial

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor, nn

from benchmarks.batch.tasks import SIZE, Task, text
from unstuck.demos.digits import digits

# Octaves of each training's guess that are tried, steps of each, and initial weights.
OCTAVES, STEPS, SEEDS = range(-6, 5), 150, 2
# Steps before sizes are asked about: part-way down.
EARLY = 100

_scores = nn.functional.cross_entropy
_squares = nn.functional.mse_loss


class Rows(nn.Module):
    """Reads a picture row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(8, 32, batch_first=True)
        self.out = nn.Linear(32, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the scores of ten digits."""
        return self.out(self.cell(pixels.view(-1, 8, 8))[0][:, -1])


def _normalised() -> nn.Module:
    layers = [part for _ in range(3) for part in (nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _regression() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))


def _deep() -> nn.Module:
    layers = [part for _ in range(4) for part in (nn.Linear(30, 30), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(30, 2))


def _coder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64)
    )


def _standard(found: object) -> tuple[Tensor, Tensor]:
    x, y = torch.tensor(found.data).float(), torch.tensor(found.target)
    return (x - x.mean(0)) / x.std(0), y


def others() -> list[Task]:
    """All eight, not tuned yet."""
    x, y = digits()
    pixels = ((x - x.mean()) / x.std()).float()
    patients, progress = _standard(load_diabetes())
    progress = ((progress - progress.mean()) / progress.std()).float()[:, None]
    cells, kind = _standard(load_breast_cancer())
    letters, following, count = text()
    context = torch.stack([letters.flatten()[place : place - 4] for place in range(4)], 1)[:40_000]
    nexts = following.flatten()[3:-1][:40_000]
    made = [
        ("LayerNorm, AdamW", _normalised, torch.optim.AdamW, 0.004, (pixels, y), _scores),
        (
            "conv net with BatchNorm, Nesterov",
            _conv,
            partial(torch.optim.SGD, momentum=0.9, nesterov=True),
            0.06,
            (pixels, y),
            _scores,
        ),
        ("GRU on rows, RMSprop", Rows, torch.optim.RMSprop, 0.004, (pixels, y), _scores),
        ("diabetes, Adagrad", _regression, torch.optim.Adagrad, 0.06, (patients, progress), _squares),
        ("diabetes, SGD", _regression, torch.optim.SGD, 0.06, (patients, progress), _squares),
        ("deep tanh, momentum", _deep, partial(torch.optim.SGD, momentum=0.9), 0.03, (cells, kind), _scores),
        ("autoencoder, Adam", _coder, torch.optim.Adam, 0.004, (pixels, pixels), _squares),
        (
            "four letters, NAdam",
            lambda: nn.Sequential(
                nn.Embedding(count, 16), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, count)
            ),
            torch.optim.NAdam,
            0.008,
            (context, nexts),
            _scores,
        ),
    ]
    return [Task(*each[:4], EARLY, -math.inf, *each[4:]) for each in made]


def by_sweep(task: Task) -> Task:
    """The training with the rate, of octaves of its guess, that comes lowest from the beginning."""
    rates = [task.rate * 2.0**octave for octave in OCTAVES]
    return replace(task, rate=min(rates, key=lambda rate: _loss(task, rate)))


def _loss(task: Task, rate: float) -> float:
    """Of all the data, on average over the last third of a short training from its beginning, and over seeds."""
    values = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = task.make()
        optimizer = task.optimizer(model.parameters(), rate)
        drawn = torch.Generator().manual_seed(seed)
        for step in range(STEPS):
            rows = torch.randint(len(task.data[0]), (SIZE,), generator=drawn)
            optimizer.zero_grad()
            task.evaluate(model, rows).backward()
            optimizer.step()
            if 3 * step > 2 * STEPS and step % 5 == 0:
                with torch.no_grad():
                    values.append(float(task.evaluate(model, slice(0, 2000))))
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.inf
