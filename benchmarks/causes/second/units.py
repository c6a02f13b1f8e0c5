"""Runs whose signal is lost inside the network: gradients that vanish, units that are dead or saturated."""

from dataclasses import replace

import torch
from torch import Tensor, nn, optim

from benchmarks.causes.case import Case
from benchmarks.causes.second.loops import loader, named, step, train
from benchmarks.causes.second.networks import Autoencoder, chain
from benchmarks.causes.second.tables import raw, rows, scaled
from unstuck import Cause, Training, supervised

STEPS = 40  # of a recurrent net that has to remember


def deep_sigmoid(seed: int) -> Training:
    model = chain(13, *[16] * 9, 3, between=nn.Sigmoid)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    data = loader(*scaled("wine"), size=30)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 200)


def _rectified(training: Training) -> Training:
    """Put rectifiers in the sigmoids' place, and start as He et al. (2015) do."""
    layers = [nn.ReLU() if isinstance(layer, nn.Sigmoid) else layer for layer in training.model.children()]
    model = nn.Sequential(*layers)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    return replace(training, model=model, optimizer=optimizer)


class Memory(nn.Module):
    """Shows an image to a recurrent net at the start only, lets it run on, and asks it then."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(64, 24)
        self.cell = nn.RNNCell(4, 24)
        self.head = nn.Linear(24, 10)
        self.steps = STEPS

    def forward(self, images: Tensor) -> Tensor:
        """Examples x rows x pixels in, examples x logits out."""
        state = self.encoder(images.flatten(1)).tanh()
        nothing = images.new_zeros(len(images), 4)
        for _ in range(self.steps):
            state = self.cell(nothing, state)
        return self.head(state)


def long_memory(seed: int) -> Training:
    images, labels = (part[:600] for part in rows())
    model = Memory()
    optimizer = optim.Adagrad(model.parameters(), lr=0.01)
    data = loader(images, labels, size=100)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 60)


def _remembering(training: Training) -> Training:
    """Start from an identity with rectifiers, which keeps what it is given (Le et al., 2015)."""
    cell = training.model.get_submodule("cell")
    assert isinstance(cell, nn.RNNCell)
    nn.init.eye_(cell.weight_hh)
    nn.init.zeros_(cell.bias_hh)
    nn.init.zeros_(cell.bias_ih)
    cell.nonlinearity = "relu"
    return replace(training, optimizer=optim.Adam(training.model.parameters(), lr=1e-3))


def deep_convolutions(seed: int) -> Training:
    layers: list[nn.Module] = [nn.Conv1d(8, 12, 3, padding=1), nn.Sigmoid()]
    for _ in range(7):
        layers += [nn.Conv1d(12, 12, 3, padding=1), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96, 10))
    for module in model:
        if isinstance(module, nn.Conv1d):
            nn.init.xavier_normal_(module.weight, gain=0.5)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = loader(*rows(), size=128)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 100)


def _rectified_convolutions(training: Training) -> Training:
    layers = [nn.ReLU() if isinstance(layer, nn.Sigmoid) else layer for layer in training.model.children()]
    model = nn.Sequential(*layers)
    for layer in layers:
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return replace(training, model=model, optimizer=optimizer)


def low_biases(seed: int) -> Training:
    model = nn.Sequential(
        nn.Conv1d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    nn.init.constant_(model[2].bias, -10.0)  # type: ignore[arg-type]
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = loader(*rows(), size=90)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 60)


def _biases_at_zero(training: Training) -> Training:
    for module in training.model.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
    return training


def killed_by_a_step(seed: int) -> Training:
    features, labels = scaled("cancer")
    model = chain(30, 32, 32, 1, between=nn.ReLU)
    targets = labels[:, None].float()
    data = loader(features, targets, size=128)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    training = train(Training(model, supervised(nn.MSELoss()), data, optimizer), 20)
    step(training, (features * 10, targets - 300))
    return train(training, 260)


def _started_anew(training: Training) -> Training:
    for module in training.model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return training


def dead_code(seed: int) -> Training:
    inputs, _ = scaled("wine")
    encoder = nn.Sequential(nn.Linear(13, 24), nn.ReLU6(), nn.Linear(24, 8), nn.ReLU())
    model = Autoencoder(encoder, chain(8, 24, 13, between=nn.ReLU6))
    with torch.no_grad():
        encoder[2].bias.sub_(30.0)  # type: ignore[operator]
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    data = loader(inputs, inputs, size=45)
    return train(Training(model, supervised(nn.SmoothL1Loss()), data, optimizer), 60)


def raw_into_tanh(seed: int) -> Training:
    features, labels = raw("wine")
    model = chain(13, 24, 3, between=nn.Tanh)
    nn.init.normal_(model[0].weight)  # type: ignore[arg-type]
    optimizer = optim.SGD(model.parameters(), lr=0.02)
    data = loader(features.float(), labels, size=50)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 400)


def _features_scaled(training: Training) -> Training:
    nn.init.xavier_normal_(training.model[0].weight)  # type: ignore[index]
    return replace(training, data=loader(*scaled("wine"), size=50))


def sure_and_wrong(seed: int) -> Training:
    features, labels = scaled("cancer")
    model = nn.Sequential(nn.Linear(30, 16), nn.SiLU(), nn.Linear(16, 1), nn.Sigmoid())
    nn.init.constant_(model[2].bias, 25.0)  # type: ignore[arg-type]
    optimizer = optim.RMSprop(model.parameters(), lr=1e-4, eps=1e-6)
    data = loader(features, labels[:, None].float(), size=96)
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 50)


def _unsure(training: Training) -> Training:
    nn.init.zeros_(training.model[2].bias)  # type: ignore[index]
    optimizer = optim.RMSprop(training.model.parameters(), lr=2e-3)
    return replace(training, optimizer=optimizer)


class Gates(nn.Module):
    """Reads rows with a gate that a sigmoid opens: h <- z h + (1 - z) tanh(W x + U h)."""

    def __init__(self, width: int, openness: float) -> None:
        super().__init__()
        self.gate = nn.Linear(8 + width, width)
        self.candidate = nn.Linear(8 + width, width)
        self.sigmoid = nn.Sigmoid()
        self.head = nn.Linear(width, 10)
        nn.init.constant_(self.gate.bias, openness)

    def forward(self, images: Tensor) -> Tensor:
        """Examples x rows x pixels in, examples x logits out."""
        state = images.new_zeros(len(images), self.head.in_features)
        for row in images.unbind(1):
            both = torch.cat([row, state], dim=1)
            keep = self.sigmoid(self.gate(both))
            state = keep * state + (1 - keep) * self.candidate(both).tanh()
        return self.head(state)


def closed_gates(seed: int) -> Training:
    model = Gates(24, 12.0)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*rows()), 100, shuffle=True, collate_fn=named("rows", "digit")
    )

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch["rows"]), batch["digit"])

    return train(Training(model, loss, data, optim.SGD(model.parameters(), lr=0.3, momentum=0.9)), 60)


def _gates_opened(training: Training) -> Training:
    nn.init.zeros_(training.model.get_parameter("gate.bias"))
    return training


CASES = (
    Case(
        "wine-deep-sigmoid", Cause.VANISHING_GRADIENT, deep_sigmoid, _rectified, "mlp", "nine sigmoid layers"
    ),
    Case(
        "rows-long-memory",
        Cause.VANISHING_GRADIENT,
        long_memory,
        _remembering,
        "rnn",
        "the image is shown forty steps before the question",
    ),
    Case(
        "rows-deep-convolutions",
        Cause.VANISHING_GRADIENT,
        deep_convolutions,
        _rectified_convolutions,
        "conv",
        "eight convolutions with sigmoids between",
    ),
    Case("rows-low-biases", Cause.DEAD_UNITS, low_biases, _biases_at_zero, "conv", "biases start at -10"),
    Case(
        "cancer-killed",
        Cause.DEAD_UNITS,
        killed_by_a_step,
        _started_anew,
        "mlp",
        "one step on a broken batch",
    ),
    Case("wine-dead-code", Cause.DEAD_UNITS, dead_code, _started_anew, "autoencoder", "the code is never on"),
    Case(
        "wine-raw-tanh",
        Cause.SATURATED_UNITS,
        raw_into_tanh,
        _features_scaled,
        "mlp",
        "as measured, into tanh",
    ),
    Case(
        "cancer-sure", Cause.SATURATED_UNITS, sure_and_wrong, _unsure, "mlp", "squared error of sure outputs"
    ),
    Case(
        "rows-closed-gates",
        Cause.SATURATED_UNITS,
        closed_gates,
        _gates_opened,
        "rnn",
        "gates that never open",
    ),
)
