"""Runs with a way down that their steps miss: too long, too short, too uneven, too noisy."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn, optim

from benchmarks.causes.case import Case
from benchmarks.causes.second.loops import loader, rate, train, whole
from benchmarks.causes.second.networks import Autoencoder, Reader, chain, residual
from benchmarks.causes.second.tables import patches, raw, rows, scaled
from unstuck import Cause, Training, supervised

DOUBLE = torch.float64


class Sign(optim.Optimizer):
    """Steps along the sign of an average of gradients, and decay (Chen et al., 2023, without the second average)."""

    def __init__(self, params: Iterable[Any], lr: float, beta: float = 0.9, decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["beta"])
                parameter.mul_(1 - group["lr"] * group["decay"]).sub_(average.sign(), alpha=group["lr"])


class Preconditioned(optim.Optimizer):
    """Steps of a linear model whose gradient is divided by the features' second moments, as Newton's are."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter, features: Tensor, lr: float) -> None:
        super().__init__([weight, bias], {"lr": lr})
        extended = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        self.moments = extended.T @ extended / len(features)
        self.moments += (
            1e-9 * self.moments.diagonal().mean() * torch.eye(len(self.moments), dtype=features.dtype)
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        assert closure is None
        (group,) = self.param_groups
        weight, bias = group["params"]
        gradient = torch.cat([weight.grad, bias.grad[:, None]], dim=1)
        change = torch.linalg.solve(self.moments, gradient.T).T
        weight.sub_(change[:, :-1], alpha=group["lr"])
        bias.sub_(change[:, -1], alpha=group["lr"])


def bouncing_huber(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    model = nn.Linear(10, 1)
    top = float(torch.linalg.eigvalsh(inputs.T @ inputs / len(inputs))[-1])
    optimizer = optim.SGD(model.parameters(), lr=3.0 / top)
    data = [(inputs, targets[:, None])]
    return train(Training(model, supervised(nn.HuberLoss(delta=1.0)), data, optimizer), 100)


def long_absolute(seed: int) -> Training:
    inputs, targets = scaled("diabetes")[0], raw("diabetes")[1][:, None].float()
    model = nn.Linear(10, 1)
    optimizer = optim.SGD(model.parameters(), lr=150.0)
    return train(Training(model, supervised(nn.L1Loss()), [(inputs, targets)], optimizer), 100)


def spent_schedule(seed: int) -> Training:
    model = Reader(nn.LSTM(8, 32, batch_first=True), 10)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    schedule = optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=1e-3, total_iters=80)
    data = loader(*rows(), size=64)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer, schedule), 100)


def borrowed_rate(seed: int) -> Training:
    tiles = patches()[0].flatten(1)
    model = Autoencoder(chain(192, 64, 16, between=nn.GELU), chain(16, 64, 192, between=nn.GELU))
    optimizer = optim.SGD(model.parameters(), lr=3e-4, momentum=0.9)
    data = loader(tiles, tiles, size=64)
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 120)


def timid_sign(seed: int) -> Training:
    inputs, labels = scaled("cancer")
    model = residual(30, 2, dropout=0.0)
    data = loader(inputs, labels, size=96)
    return train(
        Training(model, supervised(nn.CrossEntropyLoss()), data, Sign(model.parameters(), lr=1e-6)), 20
    )


def raw_wine(seed: int) -> Training:
    features, labels = raw("wine")
    model = nn.Linear(13, 3, dtype=DOUBLE)
    nn.init.zeros_(model.weight)
    top = float(torch.linalg.eigvalsh(features.T @ features / len(features))[-1])
    optimizer = optim.SGD(model.parameters(), lr=1.0 / top)
    data = [(features, labels)]
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 1500)


def raw_cancer(seed: int) -> Training:
    features, labels = raw("cancer")
    model = nn.Linear(30, 1, dtype=DOUBLE)
    nn.init.zeros_(model.weight)
    top = float(torch.linalg.eigvalsh(features.T @ features / len(features))[-1])
    optimizer = optim.SGD(model.parameters(), lr=0.5 / top)
    data = [(features, labels[:, None].double())]
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 500)


def powers(seed: int) -> Training:
    bodies, exercises = scaled("linnerud", DOUBLE)[1], scaled("linnerud", DOUBLE)[0]
    a, b, c = bodies.split(1, dim=1)
    degrees = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j) if i + j + k]
    monomials = torch.cat([a**i * b**j * c**k for i, j, k in degrees], dim=1)
    model = nn.Linear(len(degrees), 1, dtype=DOUBLE)
    top = float(torch.linalg.eigvalsh(monomials.T @ monomials / len(bodies))[-1])
    optimizer = optim.SGD(model.parameters(), lr=0.4 / top)
    data = [(monomials, exercises[:, 1:2])]
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 1500)


def _newton(training: Training) -> Training:
    model = training.model
    assert isinstance(model, nn.Linear)
    features = torch.cat([batch[0] for batch in training.data])
    return replace(training, optimizer=Preconditioned(model.weight, model.bias, features, lr=0.5))


def pairs_of_patients(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    model = chain(10, 16, 1, between=nn.Tanh)
    optimizer = optim.SGD(model.parameters(), lr=0.3)
    data = loader(inputs, targets[:, None], size=2)
    return train(Training(model, supervised(nn.HuberLoss()), data, optimizer), 600)


def one_by_one(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    model = nn.Linear(10, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.25, momentum=0.5)
    data = loader(inputs, (targets > targets.median())[:, None].float(), size=1)
    return train(Training(model, supervised(nn.BCEWithLogitsLoss()), data, optimizer), 1500)


def few_rows(seed: int) -> Training:
    model = Reader(nn.RNN(8, 32, batch_first=True), 10)
    optimizer = optim.SGD(model.parameters(), lr=0.15)
    data = loader(*rows(), size=2)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 1500)


CASES = (
    Case(
        "diabetes-huber-bounces",
        Cause.STEP_TOO_LARGE,
        bouncing_huber,
        rate(0.1),
        "linear",
        "all data in each step, half as long again as is stable; Huber's loss keeps it bounded",
    ),
    Case(
        "diabetes-absolute-error",
        Cause.STEP_TOO_LARGE,
        long_absolute,
        rate(0.1),
        "linear",
        "absolute errors, whose slope does not shrink: the steps do not either",
    ),
    Case(
        "rows-schedule-spent",
        Cause.STEP_TOO_SMALL,
        spent_schedule,
        rate(1e3),
        "rnn",
        "a linear schedule has run out before the training has",
    ),
    Case(
        "patches-borrowed-rate",
        Cause.STEP_TOO_SMALL,
        borrowed_rate,
        rate(300),
        "autoencoder",
        "Adam's rate given to SGD",
    ),
    Case(
        "cancer-timid-sign",
        Cause.STEP_TOO_SMALL,
        timid_sign,
        rate(1e3),
        "mlp",
        "an optimizer of the user's own, at a millionth",
    ),
    Case(
        "wine-as-measured", Cause.ILL_CONDITIONED, raw_wine, _newton, "linear", "features of 0.1 and of 1000"
    ),
    Case("cancer-as-measured", Cause.ILL_CONDITIONED, raw_cancer, _newton, "linear", "areas beside ratios"),
    Case("linnerud-powers", Cause.ILL_CONDITIONED, powers, _newton, "linear", "monomials up to degree three"),
    Case(
        "diabetes-two-by-two",
        Cause.GRADIENT_NOISE,
        pairs_of_patients,
        whole,
        "mlp",
        "two examples a step at a great rate",
    ),
    Case("diabetes-one-by-one", Cause.GRADIENT_NOISE, one_by_one, whole, "linear", "one example a step"),
    Case("rows-rnn-pairs", Cause.GRADIENT_NOISE, few_rows, whole, "rnn", "two digits a step"),
)
