"""There is a way down, and the step does not take it: rates, conditioning, noise, stale scales, rounding."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.causes.case import Case, trained
from benchmarks.causes.first.models import (
    Rows,
    Transformer,
    convnet,
    encodings,
    gpt,
    hugging_face,
    mlp,
    next_symbol,
    scaled,
)
from unstuck import Cause, Training, supervised

_cross_entropy = supervised(functional.cross_entropy)


def _reconstruction(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[0])


def _rate_times(factor: float) -> Any:
    def remedy(training: Training) -> Training:
        for group in training.optimizer.param_groups:
            group["lr"] *= factor
        return training

    return remedy


def _adam(rate: float) -> Any:
    def remedy(training: Training) -> Training:
        return replace(training, optimizer=torch.optim.Adam(training.model.parameters(), lr=rate))

    return remedy


# Steps too large


def bouncing_logistic(seed: int) -> Training:
    """Full-batch gradient descent above 2 / lambda_max on a convex loss."""
    features, labels = data.table("breast_cancer")
    model = nn.Linear(30, 2)
    batches = [(features, labels)]
    optimizer = torch.optim.SGD(model.parameters(), lr=8.0)
    trained(model, _penalised, batches, optimizer, epochs=400)
    del seed
    return Training(model, _penalised, batches, optimizer)


def _penalised(model: nn.Module, batch: Any) -> Tensor:
    return _cross_entropy(model, batch) + 0.02 * model.weight.square().sum()


def rmsprop_autoencoder(seed: int) -> Training:
    """RMSProp at a rate that suits SGD."""
    model = mlp(64, 32, 64, activation=nn.Tanh)
    batches = [(data.patches(512, seed=seed),)]
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.03)
    trained(model, _reconstruction, batches, optimizer, epochs=300)
    return Training(model, _reconstruction, batches, optimizer)


# Steps too small


def slow_autoencoder(seed: int) -> Training:
    model = mlp(64, 24, 64)
    batches = data.loader(data.patches(800), size=50, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    trained(model, _reconstruction, batches, optimizer, epochs=3)
    return Training(model, _reconstruction, batches, optimizer)


def annealed_gpt(seed: int) -> Training:
    """The cosine ran over epochs where steps were meant, the rate stays at its floor."""
    model = gpt()
    batches = encodings(data.text(seed=seed)[0], 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 32, eta_min=1e-6)
    for batch in batches:
        trained(model, hugging_face, [batch], optimizer, epochs=1)
        scheduler.step()
    optimizer.param_groups[0]["lr"] = 1e-6
    trained(model, hugging_face, batches, optimizer, epochs=1)
    return Training(model, hugging_face, batches, optimizer, scheduler=scheduler)


def decayed_conv(seed: int) -> Training:
    """A decay meant for epochs is applied after every step."""
    model = convnet(norm=True)
    batches = data.loader(*data.digits(800), size=50, seed=seed)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=1e-2)
    trained(model, _cross_entropy, batches, optimizer, steps=4)
    optimizer.param_groups[0]["lr"] = 1e-2 * 0.5**8
    trained(model, _cross_entropy, batches, optimizer, epochs=1)
    return Training(model, _cross_entropy, batches, optimizer)


# Ill-conditioned


def raw_wine(seed: int) -> Training:
    """Features in their own units: proline counts in hundreds and hue in tenths."""
    features, labels = data.table("wine", raw=True)
    model = nn.Linear(13, 3)
    batches = [(features, labels)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    trained(model, _cross_entropy, batches, optimizer, epochs=1000)
    del seed
    return Training(model, _cross_entropy, batches, optimizer)


def _standardised(training: Training) -> Training:
    """Standardise the features, undo that in the weights, and use a rate that suits."""
    ((features, labels),) = training.data
    mean, deviation = features.mean(0), features.std(0)
    with torch.no_grad():
        training.model.bias.add_(training.model.weight @ mean)
        training.model.weight.mul_(deviation)
    optimizer = torch.optim.SGD(training.model.parameters(), lr=0.5)
    return replace(training, data=[((features - mean) / deviation, labels)], optimizer=optimizer)


def powers(seed: int) -> Training:
    """A polynomial in its powers, which are nearly the same functions."""
    features, targets = data.table("iris")[0][:, 2], data.table("iris")[0][:, 3]
    scaled = (features - features.min()) / (features.max() - features.min())
    wave = torch.sin(9 * scaled).double() + 0.05 * targets.double()
    columns = torch.stack([scaled.double() ** power for power in range(1, 10)], dim=1)
    model = nn.Linear(9, 1).double()
    loss = supervised(functional.mse_loss)
    batches = [(columns, wave[:, None])]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.0)
    trained(model, loss, batches, optimizer, epochs=1500)
    del seed
    return Training(model, loss, batches, optimizer)


def _newton(training: Training) -> Training:
    ((columns, wanted),) = training.data
    with torch.no_grad():
        design = torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1)
        left = wanted - training.model(columns)
        step = torch.linalg.lstsq(design, left).solution
        training.model.weight.add_(step[:-1].T)
        training.model.bias.add_(step[-1])
    return training


# Gradient noise


def _some_wrong(labels: Tensor, share: float, seed: int) -> Tensor:
    """Replace a share of the labels by others at random: people who label make mistakes."""
    generator = torch.Generator().manual_seed(seed)
    others = torch.randint(10, labels.shape, generator=generator)
    return torch.where(torch.rand(labels.shape, generator=generator) < share, others, labels)


def fours_of_digits(seed: int) -> Training:
    """A linear classifier on batches of four, with some wrong labels."""
    images, labels = data.digits(600, flat=True, seed=seed)
    model = nn.Linear(64, 10)
    batches = data.loader(images, _some_wrong(labels, 0.2, seed), size=4, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    trained(model, _cross_entropy, batches, optimizer, epochs=6)
    return Training(model, _cross_entropy, batches, optimizer)


def pairs_of_images(seed: int) -> Training:
    """A conv net on batches of two, with some wrong labels."""
    images, labels = data.digits(320, seed=seed)
    model = convnet(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = data.loader(images, _some_wrong(labels, 0.3, seed), size=2, seed=seed)
    trained(model, _cross_entropy, batches, optimizer, epochs=4)
    return Training(model, _cross_entropy, batches, optimizer)


# Stale second moments


def adagrad_after_sums(seed: int) -> Training:
    """For one epoch the loss was summed over the batch instead of averaged, and Adagrad does not forget."""
    model = mlp(64, 32, 10, activation=nn.GELU)
    batches = data.loader(*data.digits(1000, flat=True), size=100, seed=seed)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    summed = supervised(lambda logits, labels: 3000 * functional.cross_entropy(logits, labels))
    trained(model, summed, batches, optimizer, steps=4)
    trained(model, _cross_entropy, batches, optimizer, epochs=2)
    return Training(model, _cross_entropy, batches, optimizer)


def adam_after_burst(seed: int) -> Training:
    """A few batches with a loss scale left in, and a second moment that remembers ten thousand steps."""
    model = Transformer()
    batches = data.mappings(data.batches(*data.text(seed=seed), size=8), "symbols", "following")
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, betas=(0.9, 0.9999))
    trained(model, next_symbol, batches, optimizer, steps=8)
    trained(model, lambda m, b: 2.0**14 * next_symbol(m, b), batches, optimizer, steps=4)
    trained(
        model,
        next_symbol,
        batches,
        optimizer,
        epochs=1,
    )
    return Training(model, next_symbol, batches, optimizer)


def rmsprop_after_spike(seed: int) -> Training:
    """One batch with pixels in the thousands."""
    model = Rows(nn.LSTM, 24)
    images, labels = data.digits(800, seed=seed)
    batches = data.loader(images, labels, size=50, seed=seed)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.9999)
    trained(model, _cross_entropy, batches, optimizer, steps=8)
    spike = supervised(lambda logits, wanted: 20000 * functional.cross_entropy(logits, wanted))
    trained(model, spike, batches, optimizer, steps=3)
    trained(model, _cross_entropy, batches, optimizer, epochs=2)
    return Training(model, _cross_entropy, batches, optimizer)


def _forgotten(training: Training) -> Training:
    training.optimizer.state.clear()
    return training


# Rounding


def bfloat16_large_weights(seed: int) -> Training:
    """Weights in bfloat16 keep eight bits, and Adam's updates are smaller than the last of them."""
    model = mlp(64, 48, 10)
    scaled(model, 4.0)
    model.bfloat16()
    images, labels = data.digits(1000, flat=True)
    batches = data.loader(images.bfloat16(), labels, size=10, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    trained(model, _cross_entropy, batches, optimizer, epochs=5)
    return Training(model, _cross_entropy, batches, optimizer)


def bfloat16_fine_tuning(seed: int) -> Training:
    """A language model in bfloat16 is tuned on other text at a cautious rate."""
    model = Transformer(depth=1)
    before = data.loader(*data.text(seed=seed), size=32, seed=seed)
    trained(model, next_symbol, before, torch.optim.Adam(model.parameters(), lr=1e-2), epochs=12)
    model.bfloat16()
    symbols, following = data.text(128, seed=seed + 50)
    batches = data.batches(25 + 0 * symbols + (symbols % 20), 25 + 0 * symbols + (following % 20), size=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.4e-4)
    trained(model, next_symbol, batches, optimizer, epochs=9)
    return Training(model, next_symbol, batches, optimizer)


def _in_float32(training: Training) -> Training:
    training.model.float()
    for state in training.optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, Tensor):
                state[key] = value.float()
    batches = [
        tuple(one.float() if one.is_floating_point() else one for one in batch) for batch in training.data
    ]
    return replace(training, data=batches)


_C = Cause
CASES = (
    Case(
        "large-bouncing-logistic",
        _C.STEP_TOO_LARGE,
        bouncing_logistic,
        _rate_times(0.1),
        "linear",
        "above 2/λ",
    ),
    Case(
        "large-rmsprop-autoencoder",
        _C.STEP_TOO_LARGE,
        rmsprop_autoencoder,
        _rate_times(0.1),
        "autoencoder",
        "0.03",
    ),
    Case(
        "small-sgd-autoencoder", _C.STEP_TOO_SMALL, slow_autoencoder, _rate_times(1000), "autoencoder", "1e-4"
    ),
    Case(
        "small-annealed-gpt", _C.STEP_TOO_SMALL, annealed_gpt, _rate_times(2000), "transformer", "cosine over"
    ),
    Case(
        "small-decayed-conv",
        _C.STEP_TOO_SMALL,
        decayed_conv,
        _rate_times(256),
        "conv-bn",
        "decayed each step",
    ),
    Case(
        "ill-raw-wine", _C.ILL_CONDITIONED, raw_wine, _standardised, "linear", "features in their own units"
    ),
    Case("ill-powers", _C.ILL_CONDITIONED, powers, _newton, "linear", "powers of one variable, in float64"),
    Case(
        "noise-fours-of-digits",
        _C.GRADIENT_NOISE,
        fours_of_digits,
        _rate_times(0.05),
        "linear",
        "batches of four",
    ),
    Case(
        "noise-pairs-of-images",
        _C.GRADIENT_NOISE,
        pairs_of_images,
        _rate_times(0.1),
        "conv",
        "batches of two",
    ),
    Case(
        "stale-adagrad-sums", _C.STALE_SECOND_MOMENT, adagrad_after_sums, _forgotten, "mlp", "summed losses"
    ),
    Case(
        "stale-adam-burst",
        _C.STALE_SECOND_MOMENT,
        adam_after_burst,
        _forgotten,
        "transformer",
        "beta2 0.9999",
    ),
    Case(
        "stale-rmsprop-spike", _C.STALE_SECOND_MOMENT, rmsprop_after_spike, _forgotten, "rnn", "alpha 0.9999"
    ),
    Case(
        "rounding-bfloat16-adam", _C.PRECISION_STALL, bfloat16_large_weights, _in_float32, "mlp", "bfloat16"
    ),
    Case(
        "rounding-bfloat16-tuning",
        _C.PRECISION_STALL,
        bfloat16_fine_tuning,
        _in_float32,
        "transformer",
        "AdamW",
    ),
)
