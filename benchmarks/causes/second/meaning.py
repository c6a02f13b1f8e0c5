"""Runs whose loss or data cannot say what was meant: mismatched, mislabelled, sorted, or too few."""

from dataclasses import replace

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.causes.case import Case
from benchmarks.causes.second.loops import Change, loader, train
from benchmarks.causes.second.networks import Bag, Reader, chain, residual, separable
from benchmarks.causes.second.tables import BUCKETS, lines, patches, raw, rows, scaled, standard
from unstuck import Cause, Training, supervised


def broadcast_targets(seed: int) -> Training:
    exercises, bodies = (standard(part).float() for part in raw("linnerud"))
    model = residual(4, 1, width=16, depth=2, dropout=0.0)
    inputs = torch.cat([bodies, exercises[:, :1]], dim=1)
    data = [(inputs, exercises[:, 1])]
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    return train(Training(model, supervised(_squared), data, optimizer), 200)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()  # (n, 1) less (n,) is (n, n)


def _same_shape(training: Training) -> Training:
    return replace(training, loss=supervised(lambda outputs, targets: _squared(outputs.squeeze(-1), targets)))


def likelihood_of_probabilities(seed: int) -> Training:
    model = nn.Sequential(chain(13, 24, 3, between=nn.SiLU), nn.Softmax(dim=1))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    data = loader(*scaled("wine"), size=60)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 240)


def _without_softmax(training: Training) -> Training:
    model = nn.Sequential(training.model.get_submodule("0"))
    return replace(training, model=model, optimizer=optim.Adam(model.parameters(), lr=1e-2))


def outputs_too_short(seed: int) -> Training:
    flowers, _ = scaled("iris")
    model = nn.Sequential(chain(3, 16, 1, between=nn.GELU), nn.Sigmoid())
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    data = loader(flowers[:, :3], flowers[:, 3:], size=50)  # standardised: half of them below nothing
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 400)


def _without_last(training: Training) -> Training:
    """Start anew, with outputs that can take either sign."""
    model = nn.Sequential(training.model.get_submodule("0"))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return replace(training, model=model, optimizer=optim.Adam(model.parameters(), lr=1e-2))


def logits_twice(seed: int) -> Training:
    inputs, labels = patches()
    model = nn.Sequential(separable(3, 8, 1), nn.Sigmoid())
    optimizer = optim.RMSprop(model.parameters(), lr=2e-3)
    data = loader(inputs, labels[:, None].float(), size=128)
    return train(Training(model, supervised(nn.BCEWithLogitsLoss()), data, optimizer), 120)


def _logits_once(training: Training) -> Training:
    model = nn.Sequential(training.model.get_submodule("0"))
    return replace(training, model=model, optimizer=optim.RMSprop(model.parameters(), lr=2e-3))


def split_twice(seed: int) -> Training:
    inputs, labels = scaled("cancer")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    model = residual(30, 2, width=16, depth=1, dropout=0.2)
    optimizer = optim.NAdam(model.parameters(), lr=2e-3)
    data = loader(inputs[order], labels, size=64)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 40)


def _with(*tensors: Tensor, size: int) -> Change:
    return lambda training: replace(training, data=loader(*tensors, size=size))


def _cancer(training: Training) -> Training:
    return _with(*scaled("cancer"), size=64)(training)


def rows_off_by_many(seed: int) -> Training:
    images, labels = rows()
    model = Reader(nn.GRU(8, 24, batch_first=True), 10)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    data = loader(images, labels.roll(503), size=100)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 50)


def _rows(training: Training) -> Training:
    return _with(*rows(), size=100)(training)


def joined_wrongly(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))]
    model = nn.Linear(10, 1)
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    data = loader(inputs, targets[:, None], size=64)
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 60)


def _diabetes(training: Training) -> Training:
    inputs, targets = scaled("diabetes")
    return _with(inputs, targets[:, None], size=64)(training)


def file_by_file(seed: int) -> Training:
    model = Bag(BUCKETS, 8, 4)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    data = loader(*lines(), size=24, shuffle=False)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), round(10.7 * len(data)))


def digit_by_digit(seed: int) -> Training:
    images, labels = rows()
    order = labels.argsort(stable=True)
    model = nn.Sequential(nn.Flatten(), chain(64, 32, 10, between=nn.Tanh))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    data = DataLoader(TensorDataset(images[order], labels[order]), batch_size=60)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 920)


def from_mild_to_severe(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    order = targets.argsort()
    model = nn.Linear(10, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    data = loader(inputs[order], targets[order][:, None], size=13, shuffle=False)
    return train(Training(model, supervised(nn.MSELoss()), data, optimizer), 706)


def _in_random_order(training: Training) -> Training:
    batches = list(training.data)
    tensors = [torch.cat([batch[part] for batch in batches]) for part in (0, 1)]
    return replace(training, data=loader(*tensors, size=len(batches[0][1])))


def too_few_patients(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    targets = targets[:, None]
    model = chain(10, 96, 96, 1, between=nn.GELU)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    return train(
        Training(
            model,
            supervised(nn.MSELoss()),
            loader(inputs[:80], targets[:80], size=20),
            optimizer,
            validation=loader(inputs[80:], targets[80:], size=100, shuffle=False),
        ),
        400,
    )


def _with_the_rest_of_the_table(training: Training) -> Training:
    """Train on more patients, fewer steps from the start: weights decay, and the model starts small."""
    inputs, targets = scaled("diabetes")
    model = nn.Linear(10, 1)
    nn.init.zeros_(model.weight)
    data = loader(inputs[:80], targets[:80, None], size=20)
    optimizer = optim.SGD(model.parameters(), lr=0.02, weight_decay=0.3)
    return replace(training, model=model, optimizer=optimizer, data=data)


def too_few_lines(seed: int) -> Training:
    words, origins = lines()
    order = torch.randperm(len(origins), generator=torch.Generator().manual_seed(seed))
    few, others = order[:150], order[150:750]
    model = Bag(BUCKETS, 32, 4)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    return train(
        Training(
            model,
            supervised(nn.CrossEntropyLoss()),
            loader(words[few], origins[few], size=50),
            optimizer,
            validation=loader(words[others], origins[others], size=100, shuffle=False),
        ),
        200,
    )


def _decayed_anew(training: Training) -> Training:
    """Start anew, with decay."""
    model = training.model
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.EmbeddingBag):
            module.reset_parameters()
    return replace(training, optimizer=optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-2))


CASES = (
    Case(
        "linnerud-broadcast",
        Cause.MISMATCHED_LOSS,
        broadcast_targets,
        _same_shape,
        "mlp",
        "(n, 1) outputs less (n,) targets",
    ),
    Case(
        "wine-softmax-twice",
        Cause.MISMATCHED_LOSS,
        likelihood_of_probabilities,
        _without_softmax,
        "mlp",
        "cross-entropy fed with probabilities of three classes",
    ),
    Case(
        "iris-short-outputs",
        Cause.MISMATCHED_LOSS,
        outputs_too_short,
        _without_last,
        "mlp",
        "a sigmoid at the end, and targets of either sign",
    ),
    Case(
        "patches-sigmoid-twice",
        Cause.MISMATCHED_LOSS,
        logits_twice,
        _logits_once,
        "conv-bn",
        "the loss takes a sigmoid of a sigmoid",
    ),
    Case(
        "cancer-split-twice",
        Cause.UNINFORMATIVE_LABELS,
        split_twice,
        _cancer,
        "mlp",
        "inputs were shuffled, labels were not",
    ),
    Case(
        "rows-off-by-many",
        Cause.UNINFORMATIVE_LABELS,
        rows_off_by_many,
        _rows,
        "rnn",
        "labels of the rows some hundreds further down",
    ),
    Case(
        "diabetes-joined-wrongly",
        Cause.UNINFORMATIVE_LABELS,
        joined_wrongly,
        _diabetes,
        "linear",
        "a table joined to another's targets",
    ),
    Case(
        "lines-file-by-file",
        Cause.UNSHUFFLED_DATA,
        file_by_file,
        _in_random_order,
        "mlp",
        "source text, one module after the other",
    ),
    Case(
        "rows-digit-by-digit",
        Cause.UNSHUFFLED_DATA,
        digit_by_digit,
        _in_random_order,
        "mlp",
        "sorted by digit",
    ),
    Case(
        "diabetes-mild-to-severe",
        Cause.UNSHUFFLED_DATA,
        from_mild_to_severe,
        _in_random_order,
        "linear",
        "the table is sorted by what is to be predicted",
    ),
    Case(
        "diabetes-few-patients",
        Cause.GENERALIZATION_GAP,
        too_few_patients,
        _with_the_rest_of_the_table,
        "mlp",
        "eighty examples and ten thousand parameters",
    ),
    Case(
        "lines-few",
        Cause.GENERALIZATION_GAP,
        too_few_lines,
        _decayed_anew,
        "mlp",
        "a bag of words fitted to a hundred and fifty lines",
    ),
)
