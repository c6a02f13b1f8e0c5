"""Runs at points where the gradient is nothing: saddles, minima, maxima and plains."""

from dataclasses import replace

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from benchmarks.causes.case import Case
from benchmarks.causes.second.loops import jolted, loader, settle, train
from benchmarks.causes.second.networks import Autoencoder, Words, chain
from benchmarks.causes.second.tables import BUCKETS, lines, raw, rows, scaled, standard
from unstuck import Cause, Training, supervised
from unstuck.training import Loss

DOUBLE = torch.float64
UNITS = 6
IMAGES = 150


def autoencoder_at_zero(seed: int) -> Training:
    inputs, _ = scaled("wine")
    model = Autoencoder(nn.Linear(13, 4, bias=False), nn.Linear(4, 13, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return Training(model, supervised(nn.MSELoss()), loader(inputs, inputs, size=178), optimizer)


def equal_units(seed: int) -> Training:
    inputs, _ = scaled("wine", DOUBLE)
    data = [(inputs, inputs)]
    one, model = (chain(13, width, 13, between=nn.Tanh).double() for width in (1, UNITS))
    settle(one, _squared_and_small(UNITS), data)
    with torch.no_grad():
        for layer, settled in zip(model, one, strict=True):
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(settled.weight.expand_as(layer.weight))
                layer.bias.copy_(settled.bias.expand_as(layer.bias))
        model[2].weight.div_(UNITS)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Training(model, _squared_and_small(1), data, optimizer)


def _squared_and_small(units: int) -> Loss:
    """Give squared error and decay, of a net whose one unit stands for so many equal ones."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        first, last = model.get_submodule("0"), model.get_submodule("2")
        squares = units * first.weight.square().sum() + last.weight.square().sum() / units
        return functional.mse_loss(model(inputs), targets) + 2e-3 * squares

    return loss


def empty_bag(seed: int) -> Training:
    words, origins = lines()
    model = Words(BUCKETS, 16, 4)
    nn.init.zeros_(model.embedding.weight)
    nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias.copy_((origins.bincount().double() / len(origins)).log())
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    return Training(model, supervised(nn.CrossEntropyLoss()), loader(words, origins, size=256), optimizer)


class Gated(nn.Module):
    """Means of the rows of an image, and attention over them behind a gate and a zero output projection."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True, bias=False)
        self.gate = nn.Parameter(torch.zeros(width))
        self.head = nn.Linear(width, 10)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Examples x rows x pixels in, examples x logits out."""
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head((tokens + self.gate * mixed).square().mean(dim=1))


def gated_attention(seed: int) -> Training:
    images, labels = (part[:IMAGES] for part in rows())
    model = Gated().double()
    loss = _decayed(functional.cross_entropy, 1e-3, "head")
    data = [(standard(images.flatten(1)).unflatten(1, (8, 8)).double(), labels)]
    settle(model, loss, data, rounds=1)
    return Training(model, loss, data, optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


def least_squares(seed: int) -> Training:
    inputs, targets = scaled("diabetes", DOUBLE)
    model = nn.Linear(10, 1, dtype=DOUBLE)
    data = [(inputs, targets[:, None])]
    settle(model, supervised(nn.MSELoss()), data)
    return Training(model, supervised(nn.MSELoss()), data, optim.SGD(model.parameters(), lr=0.05))


def ridge_logistic(seed: int) -> Training:
    inputs, labels = scaled("cancer", DOUBLE)
    model = nn.Linear(30, 1, dtype=DOUBLE)
    loss = _decayed(functional.binary_cross_entropy_with_logits, 2e-2)
    data = [(inputs, labels[:, None].double())]
    settle(model, loss, data)
    return Training(model, loss, data, optim.Adam(model.parameters(), lr=1e-3))


def poisson_chins(seed: int) -> Training:
    exercises, bodies = raw("linnerud")
    model = nn.Linear(3, 1, dtype=DOUBLE)
    loss = supervised(nn.PoissonNLLLoss(full=True))
    data = [(standard(bodies), exercises[:, :1])]
    settle(model, loss, data)
    return Training(model, loss, data, optim.SGD(model.parameters(), lr=1e-3))


def principal_components(seed: int) -> Training:
    inputs, _ = scaled("iris", DOUBLE)
    model = Autoencoder(nn.Linear(4, 2), nn.Linear(2, 4)).double()
    data = [(inputs, inputs)]
    settle(model, supervised(nn.MSELoss()), data)
    optimizer = optim.RMSprop(model.parameters(), lr=1e-6)
    return Training(model, supervised(nn.MSELoss()), data, optimizer)


def likeness_top(seed: int) -> Training:
    inputs, targets = scaled("diabetes", DOUBLE)
    model = nn.Linear(10, 1, dtype=DOUBLE)
    data = [(inputs, targets[:, None])]
    settle(model, supervised(nn.MSELoss()), data, rounds=1)
    settle(model, lambda model, batch: -likeness(model, batch), data)
    return Training(model, likeness, data, optim.SGD(model.parameters(), lr=0.03))


def likeness(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Give the mean of a Gaussian kernel of the errors (correntropy), which should be great, not small."""
    inputs, targets = batch
    return (-(model(inputs) - targets).square() / 2).exp().mean()


class Loading(nn.Module):
    """One principal direction whose first loading is one: gives the share of variance along it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.others = nn.Parameter(torch.rand(features - 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Examples x features in, a share out."""
        direction = functional.normalize(torch.cat([self.others.new_ones(1), self.others]), dim=0)
        return (inputs @ direction).square().mean() / inputs.square().sum(dim=1).mean()


def variance_top(seed: int) -> Training:
    inputs, _ = scaled("iris", DOUBLE)
    model = Loading(4).double()
    data = [(inputs,)]
    settle(model, lambda model, batch: -_variance(model, batch), data)
    return Training(model, _variance, data, optim.SGD(model.parameters(), lr=0.3))


def _variance(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return model(batch[0])


def clamped_errors(seed: int) -> Training:
    inputs, targets = scaled("diabetes")[0], raw("diabetes")[1]
    model = chain(10, 24, 1, between=nn.SiLU)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    return Training(model, clamped, loader(inputs, targets[:, None].float(), size=64), optimizer)


def clamped(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Give the squared error, of which no example may contribute more than 500."""
    inputs, targets = batch
    return functional.mse_loss(model(inputs), targets, reduction="none").clamp(max=500.0).mean()


def far_outliers(seed: int) -> Training:
    inputs, targets = scaled("diabetes", DOUBLE)[0], raw("diabetes")[1]
    model = nn.Linear(10, 1, dtype=DOUBLE)
    nn.init.constant_(model.bias, -float(targets.median()))
    optimizer = optim.SGD(model.parameters(), lr=20.0, nesterov=True, momentum=0.9)
    return Training(model, redescending, loader(inputs, targets[:, None], size=221), optimizer)


def redescending(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Give Welsch's loss, 1 - exp(-(r / c)^2 / 2), whose slope is lost far from the data; c = 30."""
    inputs, targets = batch
    return (1 - (-((model(inputs) - targets) / 30).square() / 2).exp()).mean()


def _centred(training: Training) -> Training:
    """Start from the median target."""
    last = [module for module in training.model.modules() if isinstance(module, nn.Linear)][-1]
    targets = torch.cat([batch[1] for batch in training.data])
    nn.init.constant_(last.bias, float(targets.median()))
    return training


def _first_unclamped(training: Training) -> Training:
    """Learn without the clamp for a while."""
    optimizer = optim.Adam(_centred(training).model.parameters(), lr=0.02)
    return train(replace(training, loss=supervised(nn.MSELoss()), optimizer=optimizer), 200)


def _clamped_later(training: Training) -> Training:
    return replace(_first_unclamped(training), loss=clamped)


def _decayed(criterion: object, decay: float, part: str = "") -> Loss:
    """Add half the squared norm of the parameters, or of those of one part."""
    plain = supervised(criterion)  # type: ignore[arg-type]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        penalty = sum(one.square().sum() for name, one in model.named_parameters() if name.startswith(part))
        return plain(model, batch) + decay / 2 * penalty

    return loss


CASES = (
    Case(
        "wine-autoencoder-zero",
        Cause.SADDLE_POINT,
        autoencoder_at_zero,
        jolted(0.1),
        "autoencoder",
        "both layers of a linear autoencoder start at zero",
    ),
    Case(
        "wine-equal-units",
        Cause.SADDLE_POINT,
        equal_units,
        jolted(0.3),
        "autoencoder",
        "all units of the code start equal, and have converged as one",
    ),
    Case(
        "lines-empty-bag",
        Cause.SADDLE_POINT,
        empty_bag,
        jolted(0.1),
        "mlp",
        "embedding and head at zero, the bias at the classes' frequencies",
    ),
    Case(
        "rows-zero-gate",
        Cause.SADDLE_POINT,
        gated_attention,
        jolted(0.3),
        "transformer",
        "a gate and an output projection both start at zero; all else has converged",
    ),
    Case("diabetes-solved", Cause.LOCAL_MINIMUM, least_squares, None, "linear", "least squares, solved"),
    Case("cancer-ridge", Cause.LOCAL_MINIMUM, ridge_logistic, None, "linear", "decay in the loss, converged"),
    Case(
        "linnerud-poisson", Cause.LOCAL_MINIMUM, poisson_chins, None, "linear", "twenty examples, converged"
    ),
    Case(
        "iris-components",
        Cause.LOCAL_MINIMUM,
        principal_components,
        None,
        "autoencoder",
        "a linear autoencoder at the principal plane: flat along its symmetry",
    ),
    Case(
        "diabetes-likeness",
        Cause.LOCAL_MAXIMUM,
        likeness_top,
        jolted(0.3),
        "linear",
        "a minus sign forgotten before a likeness of outputs and targets",
    ),
    Case(
        "iris-variance",
        Cause.LOCAL_MAXIMUM,
        variance_top,
        jolted(0.3),
        "linear",
        "the share of variance explained, where the share left was meant",
    ),
    Case(
        "diabetes-clamped",
        Cause.PLATEAU,
        clamped_errors,
        _clamped_later,
        "mlp",
        "each error is clamped, and all are beyond the clamp",
    ),
    Case(
        "diabetes-redescending",
        Cause.PLATEAU,
        far_outliers,
        _centred,
        "linear",
        "a redescending robust loss; the bias starts at the median with the wrong sign",
    ),
)
