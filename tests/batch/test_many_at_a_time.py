"""Gradients of many examples out of one backward pass, against those of each example by itself."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from objective import zoo
from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.batch import shares
from unstuck.batch.gradients import grouped
from unstuck.batch.pool import Pieces, of
from unstuck.objective import Objective, draw

EXAMPLES, FEATURES, CLASSES, WORDS, TOKENS = 44, 16, 3, 9, 5

# Sums of some dozens of terms, in another order: a hundred times the rounding of one.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5}


class Attentive(nn.Module):
    """A transformer's block over four tokens, with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.embedding, self.places = nn.Linear(4, 6), nn.Parameter(0.1 * torch.randn(4, 6))
        self.norm, self.inputs = nn.LayerNorm(6), nn.Linear(6, 18)
        self.wide, self.narrow = nn.Linear(6, 30), nn.Linear(30, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        tokens = self.embedding(x.unflatten(-1, (4, 4))) + self.places
        queries, keys, values = (
            part.unflatten(-1, (2, 3)).transpose(1, 2) for part in self.inputs(self.norm(tokens)).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + mixed.transpose(1, 2).flatten(2)
        return self.head((tokens + self.narrow(functional.gelu(self.wide(tokens)))).mean(1))


class Tied(nn.Module):
    """Says the next word with the table that it reads words with."""

    def __init__(self, *, tied=True):
        super().__init__()
        self.table, self.places = nn.Embedding(WORDS, 6), nn.Embedding(TOKENS, 6)
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, WORDS, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, words):
        places = self.places(torch.arange(words.shape[1]))
        return self.head(self.inner(self.table(words) + places).tanh())


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(WORDS, 6, padding_idx=2), nn.Linear(6, CLASSES)

    def forward(self, words):
        return self.head(self.table(words).sum(1).tanh())


class Beside(nn.Module):
    """Makes use of a layer's weight beside the layer: once it is a table, too."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.second(self.first(x).tanh()) + (x @ self.first.weight.T)[:, :CLASSES]


class Multiplied(nn.Module):
    """Products with matrices, as people write them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(0.3 * torch.randn(FEATURES, 8))
        self.second = nn.Parameter(0.3 * torch.randn(8, 8))
        self.third = nn.Parameter(0.3 * torch.randn(8, CLASSES))
        self.bias = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x):
        return torch.addmm(self.bias, torch.matmul((x @ self.first).tanh(), self.second).tanh(), self.third)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(self.cell(x.unflatten(1, (4, 4)))[0][:, -1])


class Unrolled(nn.Module):
    """One layer, used at every step."""

    def __init__(self):
        super().__init__()
        self.step, self.head = nn.Linear(9, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        state = x.new_zeros(len(x), 5)
        for part in x.split(4, dim=1):
            state = self.step(torch.cat([state, part], 1)).tanh()
        return self.head(state)


def perceptron(*between):
    return nn.Sequential(nn.Linear(FEATURES, 8), *between, nn.Tanh(), nn.Linear(8, CLASSES))


def convolution(*layers):
    return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), *layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(CLASSES))


def partly_frozen():
    model = perceptron(nn.Linear(8, 8))
    model[0].requires_grad_(requires_grad=False)
    return model


# What is evaluated many at a time.
TOGETHER = {
    "perceptron": perceptron,
    "convolution": lambda: convolution(nn.Conv2d(1, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, (1, 2))),
    "convolution with gaps": lambda: convolution(nn.Conv2d(1, 5, 2, stride=(2, 1), padding=1, dilation=2)),
    "convolution in groups": lambda: convolution(nn.Conv2d(1, 4, 2), nn.Conv2d(4, 4, 2, groups=2)),
    "transformer": Attentive,
    "frozen layer": partly_frozen,
    "weight used beside its layer": Beside,
    "products": Multiplied,
    "layer used again": Unrolled,
    "batch norm that is frozen": lambda: perceptron(nn.BatchNorm1d(8)).eval(),
    "group norm": lambda: perceptron(nn.GroupNorm(2, 8)),
}
OF_WORDS = {"tied": Tied, "untied": lambda: Tied(tied=False), "padded": Padded}


def training(make, loss=None, dtype=torch.float64, **options):
    torch.manual_seed(0)
    x = torch.randn(EXAMPLES, FEATURES, dtype=dtype)
    y = torch.randint(CLASSES, (EXAMPLES,))
    model = make()
    with torch.no_grad():
        model(x[:2].to(torch.float32))
    model = model.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    return Training(model, loss or supervised(nn.CrossEntropyLoss()), [(x, y)], optimizer)


def of_words(make, dtype=torch.float64):
    torch.manual_seed(0)
    words = torch.randint(WORDS, (EXAMPLES, TOKENS + 1))
    model = make().to(dtype)

    def loss(model, batch):
        said = model(batch["words"][:, :-1])
        wanted = batch["words"][:, 1:] if said.ndim == 3 else batch["words"][:, -1] % CLASSES
        return functional.cross_entropy(said.flatten(0, -2), wanted.flatten())

    return Training(model, loss, [{"words": words}], torch.optim.SGD(model.parameters(), lr=0.1))


def both(made, *, size=1, groups=8, weighted=False, **options):
    """The same pieces, many at a time and one by one; a list is taken one by one."""
    pool = of(made, draw(made.data, seed=0, enough=lambda *_: False))
    objective = Objective(made, pool.batches)
    weights = torch.rand(objective.size, generator=torch.Generator().manual_seed(1)).to(objective.theta)
    pieces = Pieces(pool, torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(2)).tolist(), size)
    metrics = (None, weights) if weighted else (None,)
    found = [
        grouped(objective, each, groups, seed=3, metrics=metrics, **options)
        for each in (pieces, list(pieces))
    ]
    assert found[1].singly
    return found, objective


def assert_same(one, other, tolerance):
    for name in ("sums", "signed", "squares"):
        a, b = getattr(one, name).double(), getattr(other, name).double()
        assert float((a - b).abs().max()) <= tolerance * float(b.abs().max()), name
    assert one.loss == pytest.approx(other.loss, rel=tolerance)
    assert one.signs == pytest.approx(other.signs)
    for name in ("pieces", "examples", "names", "sizes"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TOGETHER)
def test_many_at_a_time_is_the_same_as_one_by_one(kind, weighted, dtype):
    (fast, slow), _ = both(training(TOGETHER[kind], dtype=dtype), weighted=weighted)
    assert fast.singly == ""
    assert_same(fast, slow, ROUNDING[dtype])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", OF_WORDS)
def test_so_it_is_of_words(kind, weighted):
    (fast, slow), _ = both(of_words(OF_WORDS[kind]), weighted=weighted)
    assert fast.singly == ""
    assert_same(fast, slow, ROUNDING[torch.float64])


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("groups", [3, 8])
@pytest.mark.parametrize("kind", ["perceptron", "convolution", "transformer"])
def test_so_it_is_of_pieces_of_any_size_the_last_of_which_is_smaller(kind, groups, size):
    (fast, slow), _ = both(training(TOGETHER[kind]), size=size, groups=groups)
    assert fast.singly == ""
    assert sum(fast.examples) == EXAMPLES
    assert_same(fast, slow, ROUNDING[torch.float64])


@pytest.mark.parametrize(("memory", "most"), [(5e4, 3), (1e5, 7), (2e5, 20)])
def test_so_it_is_with_little_memory(memory, most):
    made, asked = training(TOGETHER["transformer"]), []

    def enough(done):
        asked.append(done)
        return False

    (fast, slow), _ = both(made, memory=memory, enough=enough)
    assert fast.singly == ""
    assert 2 <= asked[1] <= most
    assert_same(fast, slow, ROUNDING[torch.float64])


@pytest.mark.parametrize("cached", [1, 40, 400])
@pytest.mark.parametrize("making", [0.0, math.inf])
@pytest.mark.parametrize("size", [1, 3])
def test_so_it_is_whether_gradients_are_made_or_not_and_however_many_at_a_time(
    cached, making, size, monkeypatch
):
    monkeypatch.setattr(shares, "_CACHED", cached)
    monkeypatch.setattr(shares, "_MAKING", making)
    (fast, slow), _ = both(training(TOGETHER["transformer"]), size=size, groups=5)
    assert fast.singly == ""
    assert_same(fast, slow, ROUNDING[torch.float64])


def test_without_memory_for_two_it_is_one_by_one():
    (fast, slow), _ = both(training(perceptron), memory=1.0)
    assert "no room" in fast.singly
    assert_same(fast, slow, 0.0)


def test_dense_gradients_of_the_examples_give_the_same_sums():
    """Against `torch.autograd` alone."""
    made = training(TOGETHER["convolution"], weight_decay=0.3)
    (fast, _), objective = both(made, weighted=True)
    (inputs, targets), model = made.data[0], made.model
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(2)).tolist()
    rows = []
    for row in order:
        loss = functional.cross_entropy(model(inputs[row][None]), targets[row][None])
        found = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in found]) + 0.3 * objective.theta)
    dense = torch.stack(rows)
    for group in range(8):
        own = dense[group::8]
        torch.testing.assert_close(fast.sums[group], own.sum(0))
        for number, metric in enumerate(fast.metrics):
            squares = own.square() if metric is None else own.square() * metric
            wanted = torch.stack([part.sum() for part in squares.split(list(fast.sizes), 1)])
            torch.testing.assert_close(fast.squares[number, :, group], wanted)


class Normalised(nn.Module):
    """Each example less the mean of those that it comes with."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.layer(x - x.mean(0)) + self.layer(x).mean(0)


@pytest.mark.parametrize("make", [Normalised, TOGETHER["perceptron"]])
def test_what_the_examples_of_a_piece_have_to_do_with_each_other_stays_within_it(make):
    def masked(model, batch):
        # The mean over what is not masked, as of tokens: another number in every piece.
        each = functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        kept = (batch[0][:, 0] > 0.0).to(each) + 0.1
        return (each * kept).sum() / kept.sum()

    (fast, slow), _ = both(training(make, masked), size=4)
    assert fast.singly == ""
    assert_same(fast, slow, ROUNDING[torch.float64])


def item(model, batch):
    outputs = model(batch[0])
    return functional.cross_entropy(outputs, batch[1]) * (1.0 + 0.0 * outputs.sum().item())


def branching(model, batch):
    outputs = model(batch[0])
    return functional.cross_entropy(outputs, batch[1]) if outputs.sum() > 0 else outputs.square().mean()


def chance(library):
    def loss(model, batch):
        drawn = np.random.rand() if library == "numpy" else random.random()  # noqa: S311
        return functional.cross_entropy(model(batch[0]), batch[1]) * (1.0 + drawn)

    return loss


class Written(nn.Module):
    """Holds its weights to a ball, in place."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        with torch.no_grad():
            self.layer.weight.clamp_(-0.1, 0.1)
        return self.layer(x)


# What is evaluated one by one, and what is said of it.
APART = {
    "a number asked for": (perceptron, item, 1, "item"),
    "a choice by the data": (perceptron, branching, 1, "data-dependent"),
    "batch norm": (lambda: perceptron(nn.BatchNorm1d(8)), None, 4, "running_mean"),
    "dropout": (lambda: perceptron(nn.Dropout(0.5)), None, 1, "random"),
    "numpy": (perceptron, chance("numpy"), 1, "random"),
    "python": (perceptron, chance("python"), 1, "random"),
    "lstm": (Recurrent, None, 1, "atching rule"),
    "weights written on": (Written, None, 1, "writes"),
}


@pytest.mark.parametrize("kind", APART)
def test_what_cannot_be_is_one_by_one_and_says_why(kind):
    make, loss, size, why = APART[kind]
    (fast, slow), _ = both(training(make, loss), size=size)
    assert why in fast.singly
    assert_same(fast, slow, 0.0)


def test_names_of_the_examples_beside_their_tensors_are_said_to_be_the_reason():
    made = training(perceptron)
    content = {
        "inputs": made.data[0][0],
        "targets": made.data[0][1],
        "names": [f"{n}" for n in range(EXAMPLES)],
    }

    def loss(model, batch):
        return functional.cross_entropy(model(batch["inputs"]), batch["targets"])

    (fast, slow), _ = both(Training(made.model, loss, [content], made.optimizer))
    assert fast.singly == "batches hold lists with a str for each example"
    assert_same(fast, slow, 0.0)


def test_nothing_is_printed_of_what_cannot_be_many_at_a_time(capfd):
    class Packed(Recurrent):
        def forward(self, x):
            lengths = torch.full((len(x),), 4)
            packed = nn.utils.rnn.pack_padded_sequence(x.unflatten(1, (4, 4)), lengths, batch_first=True)
            return self.head(self.cell(packed)[1][0][-1])

    (fast, slow), _ = both(training(Packed))
    assert fast.singly
    assert_same(fast, slow, 0.0)
    assert capfd.readouterr() == ("", "")


def test_what_comes_out_otherwise_is_one_by_one():
    class Wrong(torch.autograd.Function):
        """Has a rule for `vmap` that does something else."""

        @staticmethod
        def forward(x):
            return x * 1.0

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, *grads):
            return grads[0]

        @staticmethod
        def vmap(info, in_dims, x):
            return x * 1.01, in_dims[0]

    def loss(model, batch):
        return functional.cross_entropy(Wrong.apply(model(batch[0])), batch[1])

    (fast, slow), _ = both(training(perceptron, loss))
    assert "one by one" in fast.singly
    assert_same(fast, slow, 0.0)


@pytest.mark.parametrize(("name", "make", "loss"), zoo.CASES, ids=[case[0] for case in zoo.CASES])
def test_models_that_people_train_are_untouched_and_give_the_same(name, make, loss):
    made = zoo.training(make(), loss, zoo.batches(EXAMPLES))
    pool = of(made, draw(made.data, seed=0, enough=lambda *_: False))
    objective = Objective(made, pool.batches)
    # Batch norm in training asks for two at least.
    pieces = Pieces(pool, range(EXAMPLES), 4)
    with unchanged(made):
        fast = grouped(objective, pieces, 5, seed=0)
    slow = grouped(objective, list(pieces), 5, seed=0)
    assert_same(fast, slow, 1e-5)


def test_what_is_spent_is_counted_with_what_was_compared_and_with_what_was_tried_in_vain():
    for loss, least, most in ((None, EXAMPLES + 2, EXAMPLES + 2), (item, EXAMPLES + 9, 2 * EXAMPLES + 1)):
        made = training(perceptron, loss)
        pool = of(made, draw(made.data, seed=0, enough=lambda *_: False))
        objective = Objective(made, pool.batches)
        before = objective.ledger.examples
        grouped(objective, Pieces(pool, range(EXAMPLES)), 8, seed=0)
        assert least <= objective.ledger.examples - before <= most


def test_without_random_signs_there_are_none():
    (fast, slow), objective = both(training(perceptron), signed=False)
    assert fast.signed.shape == slow.signed.shape == (0, objective.size)
    assert float((fast.sums - slow.sums).abs().max()) <= 1e-12


def test_it_ends_when_there_is_enough():
    (fast, _), _ = both(training(perceptron), memory=2e4, enough=lambda done: done >= 7)
    assert fast.singly == ""
    assert 7 <= sum(fast.pieces) < EXAMPLES
    assert math.isfinite(fast.loss)
