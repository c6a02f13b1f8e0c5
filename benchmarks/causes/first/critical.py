"""Points where the gradient is nothing: saddles, minima, maxima, plateaus."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.causes.case import Case, trained
from benchmarks.causes.first.models import Rows, anew, mlp
from unstuck import Cause, Training, supervised

_cross_entropy = supervised(functional.cross_entropy)
_squares = supervised(functional.mse_loss)


def _minimised(model: nn.Module, loss: Any, batch: Any, rounds: int = 1500) -> nn.Module:
    """Run L-BFGS in float64 on one batch until the gradient is rounding."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=rounds,
        max_eval=2 * rounds,
        history_size=30,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        return value

    optimizer.step(closure)
    return model


# Saddles


def equal_units(seed: int) -> Training:
    """Every unit of a layer starts the same, so that they stay the same: eight units do the work of one."""
    model = mlp(13, 8, 8, 3, activation=nn.Tanh).double()
    for layer in (model[0], model[2]):
        with torch.no_grad():
            layer.weight.copy_(layer.weight[:1].expand_as(layer.weight))
            layer.bias.fill_(0.1)
    model[4].weight.data.copy_(model[4].weight.data.mean(1, keepdim=True).expand(3, 8))
    model[2].weight.data.fill_(float(model[2].weight.data.mean()))
    features, labels = data.table("wine")
    batch = (features.double(), labels)
    _minimised(model, _decayed, batch, 300)
    del seed
    return Training(model, _decayed, [batch], torch.optim.SGD(model.parameters(), lr=0.05))


def _decayed(model: nn.Module, batch: Any) -> Tensor:
    penalty = sum(parameter.square().sum() for parameter in model.parameters())
    return _cross_entropy(model, batch) + 5e-4 * penalty


def _shaken(training: Training) -> Training:
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return replace(training, optimizer=torch.optim.Adam(training.model.parameters(), lr=1e-2))


def zero_autoencoder(seed: int) -> Training:
    """Encoder and decoder start at zero, "to be neutral": only the last bias has a gradient."""
    model = mlp(64, 8, 64, activation=nn.Identity)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    batches = [(part,) for part in data.patches(512, seed=seed).split(128)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    trained(model, _reconstruction, batches, optimizer, epochs=60)
    return Training(model, _reconstruction, batches, optimizer)


def _reconstruction(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[0])


def _started(training: Training) -> Training:
    anew(training.model)
    return replace(training, optimizer=torch.optim.Adam(training.model.parameters(), lr=3e-3))


class Adapted(nn.Module):
    """A linear model that is kept, and an adapter of low rank beside it, which sees products of features."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(10, 1)
        self.down, self.up = nn.Linear(10, 4, bias=False), nn.Linear(4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the adapter's part."""
        return (self.base(x) + self.up(self.down(x * x.roll(1, dims=1)))).squeeze(1)


def silent_adapter(seed: int) -> Training:
    """Both factors of an adapter are zero, where one must not be: neither ever gets a gradient."""
    model = Adapted()
    nn.init.zeros_(model.down.weight)
    nn.init.zeros_(model.up.weight)
    inputs, _ = data.table("diabetes")
    targets = (inputs[:, 2] * inputs[:, 3] + 0.3 * inputs[:, 8]).clamp(-4, 4)  # a product, which no line fits
    batches = [(inputs, (targets - targets.mean()) / targets.std())]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained(model, _squares, batches, optimizer, epochs=1500)
    del seed
    return Training(model, _squares, batches, optimizer)


# Minima


def least_squares(seed: int) -> Training:
    features, targets = data.table("diabetes")
    features = torch.linalg.qr(features)[0] * math.sqrt(len(features))
    model = nn.Linear(10, 1).double()
    batch = (features.double(), targets[:, None].double())
    _minimised(model, _squares, batch)
    model.float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    del seed
    return Training(model, _squares, [(features, targets[:, None])], optimizer)


def logistic(seed: int) -> Training:
    """The penalty makes the minimum of a separable problem a finite one."""
    features, labels = data.table("iris")
    model = nn.Linear(4, 3).double()
    batch = (features.double(), labels)
    _minimised(model, _ridge, batch)
    del seed
    return Training(model, _ridge, [batch], torch.optim.Adam(model.parameters(), lr=1e-4))


def _ridge(model: nn.Module, batch: Any) -> Tensor:
    penalty = sum(parameter.square().sum() for parameter in model.parameters())
    return _cross_entropy(model, batch) + 0.01 * penalty


def perceptron(seed: int) -> Training:
    """A small network at the bottom of its basin."""
    features, labels = data.table("wine")
    batch = (features.double(), labels)
    model = _minimised(mlp(13, 5, 3, activation=nn.Tanh).double(), _ridge, batch, 3000)
    del seed
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Training(model, _ridge, [batch], optimizer)


# Maxima


def sign_of_squares(seed: int) -> Training:
    """The loss got the sign of a score, on top of a solution loaded from least squares."""
    training = least_squares(seed)
    optimizer = torch.optim.SGD(training.model.parameters(), lr=0.01)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return -_squares(model, batch)

    return replace(training, loss=loss, optimizer=optimizer)


def sign_of_likelihood(seed: int) -> Training:
    """A run resumed with the log-likelihood in place of its negative."""
    training = logistic(seed)
    optimizer = torch.optim.SGD(training.model.parameters(), lr=0.1, momentum=0.5)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return -_ridge(model, batch)

    return replace(training, loss=loss, optimizer=optimizer)


def _pushed(training: Training) -> Training:
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return training


# Plateaus


def clipped_squares(seed: int) -> Training:
    """Squares clipped against outliers, and a net whose outputs are all farther off than the clip."""
    model = Rows(nn.GRU, 16, outputs=1)
    images, _ = data.digits(512, seed=seed)
    ink = data.digits(512, seed=seed, raw=True)[0].sum(dim=(1, 2, 3))[:, None]
    batches = data.loader(images, ink / 16, size=64, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trained(model, _truncated, batches, optimizer, epochs=1)
    return Training(model, _truncated, batches, optimizer)


def _truncated(model: nn.Module, batch: Any) -> Tensor:
    inputs, targets = batch
    return (model(inputs) - targets).square().clamp(max=25.0).mean()


def _ink_bias(training: Training) -> Training:
    nn.init.constant_(training.model.head.bias, 19.0)
    return replace(training, optimizer=torch.optim.Adam(training.model.parameters(), lr=1e-2))


def welsch(seed: int) -> Training:
    """A bounded loss, 1 - exp(-r^2 / 2), and outputs that one bad step threw far from every target."""
    model = mlp(10, 16, 1, activation=nn.Tanh)
    features, targets = data.table("diabetes")
    batches = data.loader(features, targets[:, None], size=64, seed=seed)
    spoilt = torch.optim.SGD(model.parameters(), lr=60.0)
    trained(model, supervised(lambda outputs, wanted: -(outputs - wanted).mean()), batches, spoilt, steps=1)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, eps=1e-3)
    trained(model, _welsch, batches, optimizer, epochs=2)
    return Training(model, _welsch, batches, optimizer)


def _welsch(model: nn.Module, batch: Any) -> Tensor:
    inputs, targets = batch
    return (1 - (-(model(inputs) - targets).square() / 2).exp()).mean()


_C = Cause
CASES = (
    Case("saddle-equal-units", _C.SADDLE_POINT, equal_units, _shaken, "mlp", "constant initialisation"),
    Case(
        "saddle-zero-autoencoder",
        _C.SADDLE_POINT,
        zero_autoencoder,
        _started,
        "autoencoder",
        "all weights zero",
    ),
    Case(
        "saddle-silent-adapter", _C.SADDLE_POINT, silent_adapter, _shaken, "linear", "both factors are zero"
    ),
    Case("minimum-least-squares", _C.LOCAL_MINIMUM, least_squares, None, "linear", "solved"),
    Case("minimum-penalised-logistic", _C.LOCAL_MINIMUM, logistic, None, "linear", "L-BFGS to the end"),
    Case("minimum-penalised-mlp", _C.LOCAL_MINIMUM, perceptron, None, "mlp", "L-BFGS to the end"),
    Case("maximum-sign-of-squares", _C.LOCAL_MAXIMUM, sign_of_squares, _pushed, "linear", "score for loss"),
    Case("maximum-sign-of-likelihood", _C.LOCAL_MAXIMUM, sign_of_likelihood, _pushed, "linear", "sign lost"),
    Case(
        "plateau-clipped-squares", _C.PLATEAU, clipped_squares, _ink_bias, "rnn", "every residual is clipped"
    ),
    Case("plateau-bounded-loss", _C.PLATEAU, welsch, _started, "mlp", "outputs far from every target"),
)
