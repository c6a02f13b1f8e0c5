"""It is the data: labels that say nothing, an order that says too much, and too few examples."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from benchmarks.causes import data
from benchmarks.causes.case import Case, Remedy, trained
from benchmarks.causes.first.models import Rows, Transformer, anew, convnet, mlp, next_symbol
from unstuck import Cause, Training, supervised

_cross_entropy = supervised(functional.cross_entropy)


# Labels without information


def misaligned_labels(seed: int) -> Training:
    """The images were shuffled, and the labels were not."""
    images, labels = data.digits(600)
    wrong = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    model = convnet(4)
    batches = data.loader(images, wrong, size=100, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    trained(model, _cross_entropy, batches, optimizer, epochs=4)
    return Training(model, _cross_entropy, batches, optimizer)


def _true_labels(training: Training) -> Training:
    batches = data.loader(*data.digits(600), size=100, seed=0)
    return replace(training, data=batches)


def other_targets(seed: int) -> Training:
    """Targets from another copy of the table, sorted by age: a regression on noise, with validation."""
    features, targets = data.table("wine")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed + 9))
    shown, held = data.split(features, targets[order])
    model = mlp(13, 16, 3)
    batches = data.batches(*shown, size=25)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=5)
    return Training(model, _cross_entropy, batches, optimizer, validation=data.batches(*held, size=53))


def _true_targets(training: Training) -> Training:
    shown, held = data.split(*data.table("wine"))
    return replace(training, data=data.batches(*shown, size=25), validation=data.batches(*held, size=53))


# Data in order


def sorted_classes(seed: int) -> Training:
    """Digits stored class by class, a loader without shuffle, and a checkpoint from the middle of an epoch."""
    images, labels = data.digits(1000, seed=seed)
    order = labels.argsort(stable=True)
    features = torch.cat([images.mean(dim=(1, 2)), images.mean(dim=(1, 3))], dim=1)[order]
    model = nn.Linear(16, 10)
    batches = data.loader(features, labels[order], size=50, seed=seed, shuffle=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    trained(model, _cross_entropy, batches, optimizer, steps=40 * 20 + 10)
    return Training(model, _cross_entropy, batches, optimizer)


def sorted_regression(seed: int) -> Training:
    """A regression sorted by its target."""
    features, targets = data.table("diabetes")
    order = targets.argsort()
    model = nn.Linear(10, 1)
    loss = supervised(functional.mse_loss)
    batches = data.loader(features[order], targets[order, None], size=20, seed=seed, shuffle=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trained(model, loss, batches, optimizer, steps=12 * 23 + 12)
    return Training(model, loss, batches, optimizer)


def _shuffled(training: Training) -> Training:
    columns = [torch.cat(column) for column in zip(*training.data, strict=True)]
    return replace(training, data=data.loader(*columns, size=len(next(iter(training.data))[0]), seed=0))


# Too few examples


def overfitted_rows(seed: int) -> Training:
    """A recurrent net that learns eighty images by heart."""
    images, labels = data.digits(480)
    model = Rows(nn.LSTM, 48)
    batches = data.loader(images[:80], labels[:80], size=20, seed=seed)
    held = data.batches(images[80:], labels[80:], size=200)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trained(model, _cross_entropy, batches, optimizer, epochs=60)
    return Training(model, _cross_entropy, batches, optimizer, validation=held)


def overfitted_language(seed: int) -> Training:
    """A transformer on 48 windows of text."""
    symbols, following = data.text(208, seed=seed)
    model = Transformer(width=32)
    batches = data.loader(symbols[:48], following[:48], size=16, seed=seed)
    held = data.batches(symbols[48:], following[48:], size=80)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    trained(model, next_symbol, batches, optimizer, epochs=70)
    return Training(model, next_symbol, batches, optimizer, validation=held)


def overfitted_regression(seed: int) -> Training:
    """A wide network on a hundred patients."""
    (features, targets), (others, wanted) = data.split(*data.table("diabetes"), held=0.75)
    model = mlp(10, 64, 32, 1)
    loss = supervised(functional.mse_loss)
    batches = data.loader(features, targets[:, None], size=22, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    trained(model, loss, batches, optimizer, epochs=60)
    held = data.batches(others, wanted[:, None], size=111)
    return Training(model, loss, batches, optimizer, validation=held)


def _stopped_early(epochs: int, rate: float) -> Remedy:
    """Start anew, with decay, and end before it is learnt by heart: a rate that decays to nothing by then."""

    def remedy(training: Training) -> Training:
        anew(training.model)
        optimizer = torch.optim.AdamW(training.model.parameters(), lr=rate, weight_decay=0.1)
        trained(training.model, training.loss, training.data, optimizer, epochs=epochs)
        optimizer.param_groups[0]["lr"] = 1e-8
        return replace(training, optimizer=optimizer)

    return remedy


def _more_images(training: Training) -> Training:
    """A thousand more, none of them held out."""
    more = [part[480:] for part in data.digits(1480)]
    return replace(training, data=data.loader(*more, size=50, seed=0))


def _more_text(training: Training) -> Training:
    """Other windows of the same text."""
    return replace(training, data=data.loader(*data.text(640, seed=1000), size=16, seed=0))


_C = Cause
CASES = (
    Case(
        "labels-misaligned",
        _C.UNINFORMATIVE_LABELS,
        misaligned_labels,
        _true_labels,
        "conv",
        "images shuffled",
    ),
    Case(
        "labels-other-table",
        _C.UNINFORMATIVE_LABELS,
        other_targets,
        _true_targets,
        "mlp",
        "from another order",
    ),
    Case("order-sorted-classes", _C.UNSHUFFLED_DATA, sorted_classes, _shuffled, "linear", "class by class"),
    Case("order-sorted-targets", _C.UNSHUFFLED_DATA, sorted_regression, _shuffled, "linear", "by the target"),
    Case(
        "gap-lstm-by-heart",
        _C.GENERALIZATION_GAP,
        overfitted_rows,
        _more_images,
        "rnn",
        "80 images",
    ),
    Case(
        "gap-text-by-heart",
        _C.GENERALIZATION_GAP,
        overfitted_language,
        _more_text,
        "transformer",
        "48",
    ),
    Case(
        "gap-wide-regression",
        _C.GENERALIZATION_GAP,
        overfitted_regression,
        _stopped_early(6, 2e-3),
        "mlp",
        "110",
    ),
)
