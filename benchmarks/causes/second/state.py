"""Runs whose numbers are not what they should be: stale moments, rounding, NaN, and parameters nobody moves."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from benchmarks.causes.case import Case
from benchmarks.causes.second.language import bert
from benchmarks.causes.second.loops import loader, moments_forgotten, named, step, train
from benchmarks.causes.second.networks import Autoencoder, Reader, Vision, chain, separable
from benchmarks.causes.second.tables import BUCKETS, lines, raw, rows, scaled
from unstuck import Cause, Training, supervised


def adagrad_after_sums(seed: int) -> Training:
    model = Reader(nn.GRU(8, 24, batch_first=True), 10)
    data = loader(*(part[:600] for part in rows()), size=60)
    optimizer = optim.Adagrad(model.parameters(), lr=0.02)
    summed = supervised(nn.CrossEntropyLoss(reduction="sum"))
    training = Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer)
    train(replace(training, loss=lambda model, batch: 10 * summed(model, batch)), 10)
    return training


def adam_after_spike(seed: int) -> Training:
    inputs, labels = scaled("cancer")
    model = chain(30, 32, 32, 2, between=nn.GELU)
    optimizer = optim.Adam(model.parameters(), lr=4e-4, betas=(0.9, 0.9999), weight_decay=1e-4)
    training = Training(model, supervised(nn.CrossEntropyLoss()), loader(inputs, labels, size=64), optimizer)
    train(training, 3)
    step(training, (inputs[:64] * 1e5, 1 - labels[:64]))
    return train(training, 20)


def rmsprop_after_scaling(seed: int) -> Training:
    inputs, labels = (part[:600] for part in scaled("digits"))
    model = chain(64, 32, 10, between=nn.SiLU)
    optimizer = optim.RMSprop(model.parameters(), lr=3e-4, alpha=0.999)
    plain = supervised(nn.CrossEntropyLoss())
    training = Training(model, plain, loader(inputs, labels, size=60), optimizer)
    train(replace(training, loss=lambda model, batch: 1024 * plain(model, batch)), 4)
    return training


def rounded_table(seed: int) -> Training:
    inputs, targets = scaled("diabetes")[0] * 8, raw("diabetes")[1][:, None] / 50
    model = nn.Linear(10, 1).bfloat16()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = optim.SGD(model.parameters(), lr=3e-3)  # three times that is unstable
    data = [(inputs.bfloat16(), targets.bfloat16())]
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 500)


def rounded_transformer(seed: int) -> Training:
    images, labels = (part[:600] for part in rows())
    model = Vision(8, 8, 10, width=24, layers=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.sign() / parameter.shape[1] ** 0.5)
    model.bfloat16()
    data = loader(images.bfloat16(), labels, size=10)
    optimizer = optim.Adam(model.parameters(), lr=4e-4)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 200)


def half_overflow(seed: int) -> Training:
    features, targets = raw("diabetes")
    model = chain(10, 32, 1, between=nn.ReLU).half()
    data = loader(features.half() * 4, targets[:, None].half(), size=64)
    return Training(model, supervised(nn.MSELoss()), data, optim.SGD(model.parameters(), lr=1e-8))


def _standardised_single(training: Training) -> Training:
    inputs, targets = scaled("diabetes")
    model = training.model.float()
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    return replace(training, data=loader(inputs, targets[:, None], size=64), optimizer=optimizer)


def constant_pixel(seed: int) -> Training:
    pixels, labels = raw("digits")
    normal = ((pixels - pixels.mean(0)) / pixels.std(0)).float()  # some pixels never change: 0 / 0
    model = chain(64, 32, 10, between=nn.Hardswish)
    optimizer = optim.NAdam(model.parameters(), lr=2e-3)
    return Training(model, supervised(nn.CrossEntropyLoss()), loader(normal, labels, size=150), optimizer)


def _constants_at_zero(training: Training) -> Training:
    return replace(training, data=loader(*scaled("digits"), size=150))


class Twin(nn.Module):
    """Distances between what a net makes of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = chain(13, 16, 4, between=nn.Tanh)
        self.inside = 0.0  # added under the root

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Two batches in, distances out."""
        return ((self.net(left) - self.net(right)).square().sum(dim=1) + self.inside).sqrt()


def root_at_zero(seed: int) -> Training:
    inputs, labels = scaled("wine")
    partner = torch.arange(178)
    partner[::2] = torch.randperm(178)[:89]  # every other wine is its own partner, at distance nothing
    apart = (labels != labels[partner]).float()
    model = Twin()
    data = loader(inputs, inputs[partner], apart, size=40)
    return Training(model, distances, data, optim.Adam(model.parameters(), lr=5e-3))


def distances(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Ask for a distance of two between kinds, and of nothing within a kind."""
    left, right, apart = batch
    return functional.mse_loss(model(left, right), 2 * apart)


def _inside_the_root(training: Training) -> Training:
    training.model.inside = 1e-6  # type: ignore[assignment]
    return training


def only_the_head(seed: int) -> Training:
    words, origins = lines()
    model = bert(BUCKETS, 4)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(words, origins),
        64,
        shuffle=True,
        collate_fn=named("input_ids", "labels"),
    )
    optimizer = optim.AdamW(model.classifier.parameters(), lr=1e-3)  # pyright: ignore[reportArgumentType]
    return train(Training(model, _own, data, optimizer), 100)


def _own(model: nn.Module, batch: Any) -> Tensor:
    return model(**batch).loss


def _all_in(rate: float) -> Any:
    def change(training: Training) -> Training:
        for parameter in training.model.parameters():
            parameter.requires_grad = True
        return replace(training, optimizer=optim.AdamW(training.model.parameters(), lr=rate))

    return change


class Cut(Autoencoder):
    """An autoencoder whose code is detached."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Give the reconstruction, of which the encoder hears nothing."""
        return self.decoder(self.encoder(inputs).detach())


def detached_code(seed: int) -> Training:
    inputs = rows()[0].flatten(1)[:600]
    model = Cut(chain(64, 48, 8, between=nn.SiLU), chain(8, 48, 64, between=nn.SiLU))
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    data = loader(inputs, inputs, size=100)
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 400)


def _attached(training: Training) -> Training:
    cut = training.model
    assert isinstance(cut, Cut)
    model = Autoencoder(cut.encoder, cut.decoder)
    return replace(training, model=model, optimizer=optim.Adam(model.parameters(), lr=5e-3))


def frozen_convolutions(seed: int) -> Training:
    images, labels = (part[:500] for part in rows())
    model = separable(1, 8, 10)
    for module in model[:-1]:
        for parameter in module.parameters():
            parameter.requires_grad = False
    optimizer = optim.Adam(model[-1].parameters(), lr=0.1)
    data = loader(images[:, None], labels, size=50)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 300)


def _in_single(training: Training) -> Training:
    """Hold everything in float32."""
    batches = list(training.data)
    data = loader(*(_single(torch.cat(part)) for part in zip(*batches, strict=True)), size=len(batches[0][1]))
    training.model.float()
    assert training.optimizer is not None
    for kept in training.optimizer.state.values():
        kept.update({key: _single(value) for key, value in kept.items() if isinstance(value, Tensor)})
    return replace(training, data=data)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


CASES = (
    Case(
        "rows-adagrad-sums",
        Cause.STALE_SECOND_MOMENT,
        adagrad_after_sums,
        moments_forgotten,
        "rnn",
        "ten steps on a sum where a mean was meant, which Adagrad does not forget",
    ),
    Case(
        "cancer-adam-spike",
        Cause.STALE_SECOND_MOMENT,
        adam_after_spike,
        moments_forgotten,
        "mlp",
        "one broken batch, and a second moment that remembers ten thousand",
    ),
    Case(
        "digits-rmsprop-scaled",
        Cause.STALE_SECOND_MOMENT,
        rmsprop_after_scaling,
        moments_forgotten,
        "mlp",
        "four steps on a loss scaled for half precision, which nobody scaled back",
    ),
    Case(
        "diabetes-bfloat16",
        Cause.PRECISION_STALL,
        rounded_table,
        _in_single,
        "linear",
        "the bias has come to two, where bfloat16 rounds its steps away",
    ),
    Case(
        "rows-vision-bfloat16",
        Cause.PRECISION_STALL,
        rounded_transformer,
        _in_single,
        "transformer",
        "weights of one size and either sign, as they start, in bfloat16: Adam's steps are rounded away",
    ),
    Case(
        "diabetes-half-overflow",
        Cause.NON_FINITE,
        half_overflow,
        _standardised_single,
        "mlp",
        "squared errors beyond what half precision holds",
    ),
    Case(
        "digits-constant-pixel",
        Cause.NON_FINITE,
        constant_pixel,
        _constants_at_zero,
        "mlp",
        "features divided by a spread of nothing",
    ),
    Case(
        "wine-root-at-zero",
        Cause.NON_FINITE,
        root_at_zero,
        _inside_the_root,
        "mlp",
        "the slope of a square root at zero: the loss is finite, the gradient is not",
    ),
    Case(
        "lines-bert-head",
        Cause.FROZEN_PARAMETERS,
        only_the_head,
        _all_in(1e-3),
        "transformer",
        "random weights, of which the optimizer was given the classifier only",
    ),
    Case(
        "rows-detached-code",
        Cause.FROZEN_PARAMETERS,
        detached_code,
        _attached,
        "autoencoder",
        "`detach()` between encoder and decoder",
    ),
    Case(
        "rows-frozen-convolutions",
        Cause.FROZEN_PARAMETERS,
        frozen_convolutions,
        _all_in(1e-2),
        "conv-bn",
        "`requires_grad = False` left over from fine-tuning",
    ),
)
