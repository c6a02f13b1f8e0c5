"""Mistakes in the program: numbers that are not finite, parameters that do not train, losses that do not fit."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.causes.case import Case, trained
from benchmarks.causes.first.models import (
    Transformer,
    anew,
    convnet,
    encodings,
    gpt,
    hugging_face,
    mlp,
    next_symbol,
)
from unstuck import Cause, Training, supervised

_cross_entropy = supervised(functional.cross_entropy)
_squares = supervised(functional.mse_loss)


# Not finite


def missing_value(seed: int) -> Training:
    """One missing value in a table: the batch that holds it spoils every weight."""
    features, targets = data.table("diabetes")
    features[37, 4] = torch.nan
    model = mlp(10, 16, 1)
    batches = data.loader(features, targets[:, None], size=32, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _squares, batches, optimizer, epochs=2)
    return Training(model, _squares, batches, optimizer)


def _without_missing(training: Training) -> Training:
    features, targets = training.data.dataset.tensors
    whole = features.isfinite().all(1)
    anew(training.model)
    training.optimizer.state.clear()
    return replace(training, data=data.loader(features[whole], targets[whole], size=32, seed=0))


class Probabilities(nn.Module):
    """A classifier that gives probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = convnet()

    def forward(self, images: Tensor) -> Tensor:
        """Give the probability of each class."""
        return self.logits(images).softmax(dim=1)


def logarithm_of_zero(seed: int) -> Training:
    """-log(p) written out: pixels up to 1600 make some p underflow to 0."""
    model = Probabilities()
    images, labels = data.digits(600, raw=True)
    batches = [{"x": x, "y": y} for x, y in data.batches(images * 100, labels, size=60)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    trained(model, _written_out, batches, optimizer, steps=3)
    del seed
    return Training(model, _written_out, batches, optimizer)


def _written_out(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    chosen = model(batch["x"]).gather(1, batch["y"][:, None])
    return -chosen.log().mean()


def _scaled_pixels(training: Training) -> Training:
    batches = [{"x": batch["x"] / 1600, "y": batch["y"]} for batch in training.data]
    anew(training.model)
    return replace(training, data=batches, optimizer=torch.optim.Adam(training.model.parameters(), lr=3e-3))


def infinite_state(seed: int) -> Training:
    """A loss scale of 1e25 for one step: its square is infinite, and Adam divides by the root of that for ever."""
    model = Transformer(depth=1)
    batches = data.loader(*data.text(), size=16, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    trained(model, next_symbol, batches, optimizer, steps=10)
    trained(model, lambda m, b: 1e25 * next_symbol(m, b), batches, optimizer, steps=1)
    trained(model, next_symbol, batches, optimizer, epochs=2)
    return Training(model, next_symbol, batches, optimizer)


def _cleared(training: Training) -> Training:
    training.optimizer.state.clear()
    return training


# Frozen


def frozen_body(seed: int) -> Training:
    """A body that was never trained, left frozen by a line copied from a tutorial on fine-tuning."""
    model = convnet(4, norm=True)
    images, labels = data.digits(800)
    batches = data.loader(images, labels, size=50, seed=seed)
    model.requires_grad_(requires_grad=False)
    model[-1].bias.requires_grad_(requires_grad=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=6)
    return Training(model, _cross_entropy, batches, optimizer)


def _all_trained(training: Training) -> Training:
    training.model.requires_grad_(requires_grad=True)
    return replace(training, optimizer=torch.optim.Adam(training.model.parameters(), lr=3e-3))


def replaced_layers(seed: int) -> Training:
    """The optimizer was made before the transformer's blocks and head were replaced."""
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    fresh = gpt()
    model.transformer.h = fresh.transformer.h
    model.lm_head = nn.Linear(24, model.config.vocab_size)
    model.transformer.wte = nn.Embedding(model.config.vocab_size, 24)
    batches = encodings(data.text(seed=seed)[0], 16)
    trained(model, hugging_face, batches, optimizer, epochs=6)
    return Training(model, hugging_face, batches, optimizer)


class Detached(nn.Module):
    """An encoder whose code is detached, as it was for plotting."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(64, 32, 6), mlp(6, 32, 64)
        self.cut = True

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode."""
        code = self.encoder(x)
        return self.decoder(code.detach() if self.cut else code)


def detached_code(seed: int) -> Training:
    model = Detached()
    batches = [(part,) for part in data.patches(600, seed=seed).split(60)]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _reconstruction, batches, optimizer, epochs=25)
    return Training(model, _reconstruction, batches, optimizer)


def _reconstruction(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[0])


def _attached(training: Training) -> Training:
    training.model.cut = False
    return training


# Losses that do not fit


def softmax_twice(seed: int) -> Training:
    """Softmax before a cross-entropy that applies its own: no less than 1.461 with ten classes."""
    model = nn.Sequential(convnet(), nn.Softmax(dim=1))
    batches = data.loader(*data.digits(1000), size=50, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=8)
    return Training(model, _cross_entropy, batches, optimizer)


def _last_removed(training: Training) -> Training:
    model = nn.Sequential(*list(training.model)[:-1])
    return replace(training, model=model)


def sigmoid_twice(seed: int) -> Training:
    """A sigmoid before a loss that expects logits: no less than 0.31 for the ones and 0.69 for the zeros."""
    model = nn.Sequential(*mlp(30, 16, 1), nn.Sigmoid())
    features, labels = data.table("breast_cancer")
    loss = supervised(nn.BCEWithLogitsLoss())
    batches = data.loader(features, labels[:, None].float(), size=64, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    trained(model, loss, batches, optimizer, epochs=20)
    return Training(model, loss, batches, optimizer)


def narrow_range(seed: int) -> Training:
    """A tanh at the end of a decoder for pixels from 0 to 16."""
    model = nn.Sequential(*mlp(64, 32, 64), nn.Tanh())
    images, _ = data.digits(800, raw=True, flat=True)
    batches = [(part,) for part in images.split(80)]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _reconstruction, batches, optimizer, epochs=10)
    del seed
    return Training(model, _reconstruction, batches, optimizer)


def broadcast(seed: int) -> Training:
    """Outputs (N, 1) against targets (N,): every output is compared with every target."""
    model = mlp(10, 24, 1)
    features, targets = data.table("diabetes")
    batches = data.loader(features, targets, size=64, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _squares, batches, optimizer, epochs=8)
    return Training(model, _squares, batches, optimizer)


def _same_shape(training: Training) -> Training:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        return functional.mse_loss(model(inputs).squeeze(1), targets)

    return replace(training, loss=loss)


_C = Cause
CASES = (
    Case("nan-missing-value", _C.NON_FINITE, missing_value, _without_missing, "mlp", "a NaN in a table"),
    Case(
        "inf-logarithm-of-zero",
        _C.NON_FINITE,
        logarithm_of_zero,
        _scaled_pixels,
        "conv",
        "-log(softmax) of 0",
    ),
    Case(
        "inf-adam-state",
        _C.NON_FINITE,
        infinite_state,
        _cleared,
        "transformer",
        "a squared gradient overflowed",
    ),
    Case(
        "frozen-body", _C.FROZEN_PARAMETERS, frozen_body, _all_trained, "conv-bn", "all but one bias frozen"
    ),
    Case(
        "frozen-replaced-layers",
        _C.FROZEN_PARAMETERS,
        replaced_layers,
        _all_trained,
        "transformer",
        "not moved",
    ),
    Case(
        "frozen-detached-code",
        _C.FROZEN_PARAMETERS,
        detached_code,
        _attached,
        "autoencoder",
        "detach in forward",
    ),
    Case(
        "misfit-softmax-twice",
        _C.MISMATCHED_LOSS,
        softmax_twice,
        _last_removed,
        "conv",
        "probabilities as logits",
    ),
    Case(
        "misfit-sigmoid-twice",
        _C.MISMATCHED_LOSS,
        sigmoid_twice,
        _last_removed,
        "mlp",
        "probabilities as logits",
    ),
    Case(
        "misfit-narrow-range",
        _C.MISMATCHED_LOSS,
        narrow_range,
        _last_removed,
        "autoencoder",
        "tanh for 0 to 16",
    ),
    Case("misfit-broadcast", _C.MISMATCHED_LOSS, broadcast, _same_shape, "mlp", "(N, 1) against (N,)"),
)
