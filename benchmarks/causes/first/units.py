"""Units and layers that pass nothing on: vanishing gradients, dead and saturated units."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.causes.case import Case, trained
from benchmarks.causes.first.models import anew, convnet, mlp, scaled
from unstuck import Cause, Training, supervised

_cross_entropy = supervised(functional.cross_entropy)


def _reconstruction(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[0])


# Vanishing gradients


def deep_sigmoids(seed: int) -> Training:
    """Nine sigmoid layers, each of which passes on a quarter of its gradient at most."""
    model = mlp(64, *[32] * 9, 10, activation=nn.Sigmoid)
    batches = data.loader(*data.digits(1000, flat=True), size=50, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trained(model, _cross_entropy, batches, optimizer, epochs=4)
    return Training(model, _cross_entropy, batches, optimizer)


def _rectified(training: Training) -> Training:
    """The same depth with rectifiers and the initialisation that goes with them."""
    layers = [nn.ReLU() if isinstance(layer, nn.Sigmoid | nn.Tanh) else layer for layer in training.model]
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    model = nn.Sequential(*layers)
    return replace(
        training, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    )


def sigmoid_convolutions(seed: int) -> Training:
    """Six convolutions with sigmoids between, and no normalisation."""
    convolutions: list[nn.Module] = []
    for before, after in ((1, 8), (8, 8), (8, 8), (8, 8), (8, 8), (8, 8)):
        convolutions += [nn.Conv2d(before, after, 3, padding=1), nn.Sigmoid()]
    model = nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    batches = data.loader(*data.digits(500), size=50, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    trained(model, _cross_entropy, batches, optimizer, epochs=6)
    return Training(model, _cross_entropy, batches, optimizer)


class Recaller(nn.Module):
    """A plain recurrent net that must name the row it saw first, after all of an image and a long silence."""

    def __init__(self, stack: int = 6) -> None:
        super().__init__()
        self.recurrent = nn.RNN(8, 24, num_layers=stack, batch_first=True)
        self.head = nn.Linear(24, 10)
        for name, parameter in self.recurrent.named_parameters():
            if "weight" in name:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits."""
        states, _ = self.recurrent(images.view(len(images), 8, 8))
        return self.head(states[:, -1])


def deep_recurrent(seed: int) -> Training:
    """Six stacked recurrent layers with small weights."""
    model = Recaller()
    batches = data.loader(*data.digits(500), size=50, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trained(model, _cross_entropy, batches, optimizer, epochs=3)
    return Training(model, _cross_entropy, batches, optimizer)


def _orthogonal(training: Training) -> Training:
    for name, parameter in training.model.recurrent.named_parameters():
        if "weight" in name:
            nn.init.orthogonal_(parameter, gain=1.2)
    training.optimizer.state.clear()
    training.optimizer.param_groups[0]["lr"] = 0.02
    return training


# Dead units


def killed_by_a_step(seed: int) -> Training:
    """One step at a rate of fifty drives the biases of the last hidden layer far below zero."""
    model = mlp(64, 48, 32, 10)
    batches = data.loader(*data.digits(1000, flat=True), size=100, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained(model, _cross_entropy, batches, optimizer, epochs=1)
    optimizer.param_groups[0]["lr"] = 50.0
    trained(model, _cross_entropy, batches, optimizer, steps=3)
    optimizer.param_groups[0]["lr"] = 0.1
    with torch.no_grad():
        for parameter in model[-1].parameters():
            parameter.mul_(0.01)
    trained(model, _cross_entropy, batches, optimizer, epochs=3)
    return Training(model, _cross_entropy, batches, optimizer)


def raw_convolutions(seed: int) -> Training:
    """A negative bias meant for inputs of variance 1, and pixels that were divided by 255 once too often."""
    model = convnet()
    nn.init.constant_(model[3].bias, -0.5)
    images, labels = data.digits(800)
    batches = data.loader(images / 255, labels, size=50, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=3)
    return Training(model, _cross_entropy, batches, optimizer)


def dead_bottleneck(seed: int) -> Training:
    """Every unit of a rectified bottleneck was pushed below zero by a spike; the decoder shows the mean."""
    model = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 64))
    batches = [(part,) for part in data.patches(600, seed=seed).split(60)]
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
    trained(model, _reconstruction, batches, optimizer, epochs=2)
    with torch.no_grad():
        model[0].bias.sub_(25.0)
    trained(model, _reconstruction, batches, optimizer, epochs=4)
    return Training(model, _reconstruction, batches, optimizer)


def _revived(training: Training) -> Training:
    anew(training.model)
    training.optimizer.state.clear()
    return training


def _scaled_once(training: Training) -> Training:
    images, labels = training.data.dataset.tensors
    return replace(_revived(training), data=data.loader(images * 255, labels, size=50, seed=0))


# Saturated units


def raw_features(seed: int) -> Training:
    """Features in their own units, up to four thousand, into tanh."""
    features, labels = data.table("breast_cancer", raw=True)
    model = mlp(30, 16, 8, 2, activation=nn.Tanh)
    batches = data.loader(features, labels, size=64, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trained(model, _cross_entropy, batches, optimizer, epochs=6)
    return Training(model, _cross_entropy, batches, optimizer)


def _standardised(training: Training) -> Training:
    features, labels = training.data.dataset.tensors
    anew(training.model)
    features = (features - features.mean(0)) / features.std(0)
    batches = data.loader(features, labels, size=training.data.batch_size, seed=0)
    return replace(training, data=batches)


class Gate(nn.Module):
    """A recurrent cell written by hand, over the rows of an image."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.inputs, self.states, self.head = (
            nn.Linear(8, width),
            nn.Linear(width, width),
            nn.Linear(width, 10),
        )
        self.squash = nn.Tanh()

    def forward(self, images: Tensor) -> Tensor:
        """Give logits after the last row."""
        state = images.new_zeros(len(images), self.states.in_features)
        for row in images.view(len(images), 8, 8).unbind(1):
            state = self.squash(self.inputs(row) + self.states(state))
        return self.head(state)


def loud_recurrence(seed: int) -> Training:
    """Recurrent weights ten times too large: every state is at -1 or 1."""
    model = Gate()
    scaled([model.states, model.inputs], 40.0)
    batches = data.loader(*data.digits(600), size=50, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    trained(model, _cross_entropy, batches, optimizer, epochs=30)
    return Training(model, _cross_entropy, batches, optimizer)


def _calmer(training: Training) -> Training:
    anew(training.model)
    training.optimizer.param_groups[0]["lr"] = 0.1
    training.optimizer.param_groups[0]["momentum"] = 0.9
    return training


_C = Cause
CASES = (
    Case(
        "vanishing-deep-sigmoids",
        _C.VANISHING_GRADIENT,
        deep_sigmoids,
        _rectified,
        "mlp",
        "nine sigmoid layers",
    ),
    Case(
        "vanishing-sigmoid-conv",
        _C.VANISHING_GRADIENT,
        sigmoid_convolutions,
        _rectified,
        "conv",
        "six sigmoids",
    ),
    Case("vanishing-deep-recurrent", _C.VANISHING_GRADIENT, deep_recurrent, _orthogonal, "rnn", "six layers"),
    Case(
        "dead-after-a-step", _C.DEAD_UNITS, killed_by_a_step, _revived, "mlp", "three steps at a rate of 50"
    ),
    Case("dead-small-inputs", _C.DEAD_UNITS, raw_convolutions, _scaled_once, "conv", "bias below all inputs"),
    Case("dead-bottleneck", _C.DEAD_UNITS, dead_bottleneck, _revived, "autoencoder", "after a spike"),
    Case(
        "saturated-raw-features", _C.SATURATED_UNITS, raw_features, _standardised, "mlp", "inputs not scaled"
    ),
    Case(
        "saturated-recurrence",
        _C.SATURATED_UNITS,
        loud_recurrence,
        _calmer,
        "rnn",
        "recurrent weights too large",
    ),
)
