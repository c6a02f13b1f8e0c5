import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unstuck import Training, supervised
from unstuck.batch.pool import of, separable
from unstuck.objective import Objective, draw

FEATURES = 5


def training(model, data, loss=None):
    loss = loss or supervised(nn.MSELoss())
    return Training(model, loss, data, torch.optim.SGD(model.parameters(), lr=0.1))


def batches(*sizes):
    drawn = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, FEATURES, generator=drawn), torch.randn(size, 1, generator=drawn))
        for size in sizes
    ]


def pool_of(made):
    return of(made, draw(made.data, seed=0, enough=lambda *_: False))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_every_size_meets_the_examples_in_the_same_order(one, other, seed):
    pool = pool_of(training(nn.Linear(FEATURES, 1), batches(16, 16, 9)))

    def met(size):
        rows, updates = [], pool.order(size, seed)
        while len(rows) < 120:
            (batch,) = next(updates)
            assert batch.examples == size
            rows += batch.content[0][:, 0].tolist()
        return rows[:120]

    assert met(one) == met(other)
    first = met(one)[: pool.examples]
    assert sorted(first) == sorted(torch.cat([x[:, 0] for x, _ in batches(16, 16, 9)]).tolist())


def test_sizes_are_powers_of_two_beside_the_present_one():
    pool = pool_of(training(nn.Linear(FEATURES, 1), batches(24, 24, 24, 10)))
    assert pool.present == 24
    assert pool.sizes(100) == [2, 3, 6, 12, 24, 48, 96]


def test_batches_that_cannot_be_taken_apart_are_averaged_several_at_a_time():
    ragged = [(torch.randn(4, width), torch.randn(4, 1)) for width in (3, 5, 7, 9)]

    def loss(model, batch):
        return (model(batch[0].mean(1, keepdim=True)) - batch[1]).square().mean()

    pool = pool_of(training(nn.Linear(1, 1), ragged, loss))
    assert pool.take is None
    assert "different lengths" in pool.reason
    assert pool.sizes(16) == [4, 8, 16]
    assert [batch.examples for batch in next(pool.order(8, 0))] == [4, 4]


def test_the_length_of_all_the_data_is_known_from_the_data_set():
    data = TensorDataset(torch.randn(50, FEATURES), torch.randn(50, 1))
    made = training(nn.Linear(FEATURES, 1), DataLoader(data, batch_size=8, shuffle=True))
    assert of(made, draw(made.data, seed=0, enough=lambda n, _: n >= 2)).total == 50
    assert pool_of(training(nn.Linear(FEATURES, 1), batches(8, 8))).total == 16


def contrastive(model, batch):
    made = nn.functional.normalize(model(batch[0]), dim=1)
    return nn.functional.cross_entropy(made @ made.detach().T, torch.arange(len(made)))


@pytest.mark.parametrize(
    ("model", "loss", "apart"),
    [
        (nn.Linear(FEATURES, 1), None, True),
        (nn.Sequential(nn.Linear(FEATURES, 4), nn.LayerNorm(4), nn.Linear(4, 1)), None, True),
        (nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), None, False),
        (nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval(), None, True),
        (nn.Linear(FEATURES, 3), contrastive, False),
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(FEATURES, 1)), None, True),
    ],
)
def test_it_is_told_whether_examples_meet_within_a_batch(model, loss, apart):
    made = training(model, batches(16, 16), loss)
    pool = pool_of(made)
    assert separable(pool, Objective(made, pool.batches)) is apart
