"""Nothing is wrong: trainings at different stages that go on improving."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.causes.case import Case, trained
from benchmarks.causes.first.models import (
    Characters,
    Rows,
    Transformer,
    convnet,
    encodings,
    gpt,
    hugging_face,
    mlp,
    next_symbol,
)
from unstuck import Cause, Training, supervised

_cross_entropy = supervised(functional.cross_entropy)


def _reconstruction(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[0])


def first_epoch(seed: int) -> Training:
    model = mlp(64, 48, 10)
    batches = data.loader(*data.digits(flat=True), size=64, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    trained(model, _cross_entropy, batches, optimizer, epochs=1)
    return Training(model, _cross_entropy, batches, optimizer)


def conv_bn(seed: int) -> Training:
    model = convnet(norm=True)
    batches = data.loader(*data.digits(1000), size=100, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=2)
    return Training(model, _cross_entropy, batches, optimizer)


def gru_rows(seed: int) -> Training:
    model = Rows(nn.GRU)
    batches = data.loader(*data.digits(1200), size=60, seed=seed)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=3)
    return Training(model, _cross_entropy, batches, optimizer)


def language_float64(seed: int) -> Training:
    model = Transformer().double()
    batches = data.loader(*data.text(), size=16, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    trained(model, next_symbol, batches, optimizer, epochs=4)
    return Training(model, next_symbol, batches, optimizer, scheduler=scheduler)


def language_bfloat16(seed: int) -> Training:
    model = Transformer(depth=1).bfloat16()
    batches = data.mappings(data.batches(*data.text(seed=seed), size=16), "symbols", "following")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    trained(model, next_symbol, batches, optimizer, epochs=2)
    return Training(model, next_symbol, batches, optimizer)


def frozen_backbone(seed: int) -> Training:
    """Convolutions from the digits 0 to 4 serve a new head for 5 to 9."""
    images, labels = data.digits()
    few, rest = labels < 5, labels >= 5
    model = convnet(width=12)
    before = data.loader(images[few], labels[few], size=64, seed=seed)
    trained(model, _cross_entropy, before, torch.optim.Adam(model.parameters(), lr=2e-3), epochs=5)
    model.requires_grad_(requires_grad=False)
    model[-1] = nn.Linear(model[-1].in_features, 5)
    batches = data.loader(images[rest], labels[rest] - 5, size=64, seed=seed)
    optimizer = torch.optim.Adam(model[-1].parameters(), lr=1e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=1)
    return Training(model, _cross_entropy, batches, optimizer)


def autoencoder(seed: int) -> Training:
    model = mlp(64, 64, 24, 64, 64, activation=nn.SiLU)
    batches = data.loader(data.patches(1024), size=32, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    trained(model, _reconstruction, batches, optimizer, epochs=6)
    return Training(model, _reconstruction, batches, optimizer)


def some_dead(seed: int) -> Training:
    """A fifth of the units of the first layer is dead, and nobody misses them."""
    model = mlp(64, 60, 40, 10)
    with torch.no_grad():
        model[0].bias[:12] = -30.0
    batches = data.loader(*data.digits(flat=True), size=100, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, nesterov=True, momentum=0.8)
    trained(model, _cross_entropy, batches, optimizer, epochs=1)
    return Training(model, _cross_entropy, batches, optimizer)


def dropout_decay(seed: int) -> Training:
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 10))
    shown, held = data.split(*data.digits(flat=True))
    batches = data.loader(*shown, size=50, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    trained(model, _cross_entropy, batches, optimizer, epochs=3)
    return Training(model, _cross_entropy, batches, optimizer, validation=data.batches(*held, size=180))


def logistic(seed: int) -> Training:
    features, labels = data.table("breast_cancer")
    model = nn.Linear(30, 1)
    loss = supervised(nn.BCEWithLogitsLoss())
    batches = data.loader(features, labels[:, None].float(), size=57, seed=seed)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    trained(model, loss, batches, optimizer, epochs=1)
    return Training(model, loss, batches, optimizer)


def tiny_gpt(seed: int) -> Training:
    model = gpt()
    batches = encodings(data.text(seed=seed)[0], 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    trained(model, hugging_face, batches, optimizer, epochs=3)
    return Training(model, hugging_face, batches, optimizer)


def lstm_language(seed: int) -> Training:
    model = Characters(nn.LSTM)
    batches = data.loader(*data.text(), size=16, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, next_symbol, batches, optimizer, epochs=6)
    return Training(model, next_symbol, batches, optimizer)


_H = Cause.HEALTHY
CASES = (
    Case("healthy-mlp-first-epoch", _H, first_epoch, None, "mlp", "one epoch of SGD with momentum"),
    Case("healthy-conv-batchnorm", _H, conv_bn, None, "conv-bn", "two epochs of Adam, with BatchNorm"),
    Case("healthy-gru-rows", _H, gru_rows, None, "rnn", "three epochs of RMSprop"),
    Case(
        "healthy-transformer-float64", _H, language_float64, None, "transformer", "float64, cosine schedule"
    ),
    Case("healthy-transformer-bfloat16", _H, language_bfloat16, None, "transformer", "all in bfloat16"),
    Case(
        "healthy-frozen-backbone", _H, frozen_backbone, None, "conv", "a new head on a body frozen on purpose"
    ),
    Case("healthy-autoencoder-late", _H, autoencoder, None, "autoencoder", "eight epochs, still improving"),
    Case("healthy-some-dead-units", _H, some_dead, None, "mlp", "a fifth of a wide layer is dead"),
    Case("healthy-dropout-weight-decay", _H, dropout_decay, None, "mlp", "regularised, validation falls too"),
    Case("healthy-logistic-adagrad", _H, logistic, None, "linear", "one epoch of Adagrad"),
    Case(
        "healthy-tiny-gpt", _H, tiny_gpt, None, "transformer", "GPT-2 of Transformers, from its configuration"
    ),
    Case("healthy-lstm-language", _H, lstm_language, None, "rnn", "a middle stage of a language model"),
)
