from contextlib import nullcontext

import pytest
import torch
from tests.objective.fingerprint import unchanged
from torch import nn
from torch.nn import functional

from unstuck import Training
from unstuck.errors import MeasurementError
from unstuck.findings.data import misses
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.loss.mixing import measure_mixing
from unstuck.objective import Objective, draw
from unstuck.objective.sampling import repeated

EXAMPLES, STEPS, CLASSES = 16, 5, 4
DRAWN = torch.Generator().manual_seed(0)
X = torch.randn(64, STEPS, 6, generator=DRAWN)
Y = torch.randint(CLASSES, (64,), generator=DRAWN)
TOKENS = torch.randint(CLASSES, (64, STEPS), generator=DRAWN)


class Net(nn.Module):
    """A recurrent network whose outputs go through `arranged` before its head."""

    def __init__(self, arranged, features=8, *, batch_first=True, normalised=False):
        super().__init__()
        torch.manual_seed(0)
        self.arranged = arranged
        self.recurrent = nn.GRU(6, 8, batch_first=batch_first)
        self.norm = nn.BatchNorm1d(features) if normalised else nn.Identity()
        self.head = nn.Linear(features, CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.arranged(self.recurrent(x)[0])))


def by_class(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def by_token(model, batch):
    return functional.cross_entropy(model(batch[0]).reshape(-1, CLASSES), batch[1].reshape(-1))


def mixing(model, loss, *tensors, size=EXAMPLES):
    data = list(zip(*(tensor.split(size) for tensor in tensors), strict=True))
    training = Training(model, loss, data, torch.optim.SGD(model.parameters(), 0.1))
    batches = draw(data, seed=0, enough=lambda *_: False).batches
    objective = Objective(training, batches)
    judge = Judge(objective, Halves.of(len(batches), exhaustive=False), objective.values(objective.theta))
    with unchanged(training):
        return measure_mixing(training, judge, seed=0)


def test_outputs_follow_their_examples_where_they_should():
    followed = [
        mixing(Net(lambda out: out[:, -1]), by_class, X, Y),
        mixing(Net(lambda out: out[:, -1], normalised=True), by_class, X, Y),
        mixing(Net(lambda out: out), by_token, X, TOKENS),
    ]

    assert [found.own.value for found in followed] == pytest.approx([1.0] * 3, abs=1e-6)
    assert not any(misses(found) for found in followed)


def test_a_view_in_the_place_of_a_permute_is_seen():
    viewed = Net(lambda out: out.reshape(EXAMPLES, -1), features=8 * STEPS, batch_first=False)

    found = mixing(viewed, lambda model, batch: by_class(model, (batch[0].transpose(0, 1), batch[1])), X, Y)

    assert misses(found)


def test_outputs_that_are_the_same_for_all_the_batch_are_seen_and_those_of_a_dead_network_are_not():
    averaged = Net(lambda out: out.mean((0, 1)).expand(EXAMPLES, -1))
    dead = Net(lambda out: 0.0 * out[:, -1])

    assert misses(mixing(averaged, by_class, X, Y))
    assert mixing(dead, by_class, X, Y) is None
    assert mixing(Net(lambda out: out[:, -1]), by_class, X, torch.zeros_like(Y)) is None


def test_most_of_a_batch_may_have_the_same_outputs_though_statistics_of_all_are_in_them():
    x = X.clone()
    x.view(-1, EXAMPLES, STEPS, 6)[:, :-1] = 0.0

    found = mixing(Net(lambda out: out[:, -1], normalised=True), by_class, x, Y)

    assert found.own.value == pytest.approx(1.0, abs=1e-6)


def test_targets_flattened_in_another_order_are_seen():
    assert misses(mixing(Net(lambda out: out.transpose(0, 1)), by_token, X, TOKENS))


def test_steps_of_one_sequence_see_each_other_and_are_not_taken_for_strangers():
    found = mixing(Net(lambda out: out), by_class, X[:, 0], Y)

    assert found.own.surely_below(1.0)
    assert not misses(found)


@pytest.mark.parametrize(
    ("loss", "tensors", "size", "said"),
    [
        (by_token, (X, TOKENS), 4, "too small"),
        (by_class, (X, Y), 64, "all the data"),
    ],
)
def test_where_examples_cannot_be_told_apart_it_says_so(loss, tensors, size, said):
    with pytest.raises(MeasurementError, match=said):
        mixing(Net(lambda out: out[:, -1] if loss is by_class else out), loss, *tensors, size=size)


def test_outputs_in_as_many_steps_as_examples_are_not_taken_for_examples():
    def aligned(model, batch):
        scores = functional.log_softmax(model(batch[0]), 2).transpose(0, 1)
        return functional.ctc_loss(scores, 1 + batch[1][:, :2] % 3, torch.full((8,), 8), torch.full((8,), 2))

    with pytest.raises(MeasurementError, match="along the second dimension"):
        mixing(Net(lambda out: out), aligned, X.repeat(1, 2, 1)[:, :8], TOKENS, size=8)


def test_examples_along_the_second_dimension_are_told_apart_by_it():
    data = [
        (X[first : first + 8].transpose(0, 1).repeat(2, 1, 1), TOKENS[first : first + 8].T.repeat(2, 1))
        for first in (0, 8)
    ]
    sequences, targets = (torch.cat(parts) for parts in zip(*data, strict=True))

    with pytest.raises(MeasurementError, match="second dimension"):
        mixing(Net(lambda out: out, batch_first=False), by_token, sequences, targets, size=2 * STEPS)


def test_batches_that_come_twice_under_other_draws_are_still_several():
    data = list(zip(X.split(EXAMPLES), Y.split(EXAMPLES), strict=True))
    for batches, several in ((data, True), (data[:1], False)):
        model = Net(lambda out: out[:, -1])
        drawn = repeated(draw(batches, seed=0, enough=lambda *_: False), 8)
        objective = Objective(Training(model, by_class, batches), drawn.batches)
        judge = Judge(objective, Halves.of(8, exhaustive=False), objective.values(objective.theta))
        with nullcontext() if several else pytest.raises(MeasurementError, match="one batch is all"):
            assert not misses(measure_mixing(objective.replay.training, judge, seed=0))


def test_an_index_that_sorts_outputs_is_no_target_that_they_miss():
    """As in a Cox loss: outputs and events in the order of time."""

    def cox(model, batch):
        order = batch[1].argsort()
        risk = model(batch[0])[order, 0]
        return -((risk - risk.logcumsumexp(0)) * batch[2][order]).mean()

    time, event = torch.rand(64, generator=DRAWN), (Y > 0).float()
    with pytest.raises(MeasurementError, match="does not show"):
        mixing(Net(lambda out: out[:, -1]), cox, X, time, event)
