import time

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unstuck import Training, supervised
from unstuck.batch.clock import Patience, Stopwatch, measure_loading
from unstuck.batch.pool import of
from unstuck.batch.records import seconds_per_update
from unstuck.objective import Objective, draw


def training(loss=None, width=32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    data = [(torch.randn(16, width), torch.randint(2, (16,))) for _ in range(16)]
    optimizer = torch.optim.Adam(model.parameters())
    return Training(model, loss or supervised(nn.CrossEntropyLoss()), data, optimizer)


def clock(made, *, seconds=0.3, memory=1e9):
    pool = of(made, draw(made.data, seed=0, enough=lambda *_: False))
    sizes = pool.sizes(pool.examples)
    stopwatch = Stopwatch(made, Objective(made, pool.batches[:2]), pool, Patience(seconds, memory, print))
    stopwatch.run(sizes)
    return stopwatch.known


def test_every_size_is_timed_with_an_interval():
    found = clock(training(), seconds=1.0)
    assert [timing.size for timing in found.timings] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    for timing in found.timings:
        assert 0.0 < timing.low <= timing.seconds <= timing.high
        assert timing.count >= 5
        assert timing.memory > 0
    assert "256 examples" in found.limit


def test_time_that_grows_with_the_size_is_seen_to_grow_from_there():
    def loss(model, batch):
        time.sleep(0.002 + 0.001 * max(len(batch[0]) - 8, 0))
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    found = clock(training(loss), seconds=2.0)
    assert found.grows_from == 16
    times = {timing.size: timing.seconds for timing in found.timings}
    assert times[64] > 4.0 * times[8]


def test_what_would_not_fit_into_memory_is_not_tried():
    found = clock(training(width=256), memory=300_000.0)
    assert found.timings[-1].size < 256
    assert "GiB" in found.limit


def test_what_would_take_too_long_is_not_tried():
    def loss(model, batch):
        time.sleep(0.002 * len(batch[0]))
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    found = clock(training(loss), seconds=0.4)
    assert found.timings[-1].size < 256
    assert "with a larger budget" in found.limit


def test_the_model_that_is_timed_is_a_copy():
    made = training()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    clock(made)
    assert all(torch.equal(before[name], value) for name, value in made.model.state_dict().items())
    assert all(parameter.grad is None for parameter in made.model.parameters())


def test_what_was_timed_before_ctrl_c_is_kept():
    made, calls = training(), 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        if calls > 120:
            raise KeyboardInterrupt
        return made.loss(model, batch)

    rough = Training(made.model, loss, made.data, made.optimizer)
    pool = of(rough, draw(rough.data, seed=0, enough=lambda *_: False))
    stopwatch = Stopwatch(rough, Objective(rough, pool.batches[:2]), pool, Patience(60.0, 1e9, print))
    assert stopwatch.known is None
    with pytest.raises(KeyboardInterrupt):
        stopwatch.run([8, 16])
    assert [timing.size for timing in stopwatch.known.timings] == [8, 16]


class Slow(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        time.sleep(0.001)
        return torch.full((4,), float(index))


def test_loading_is_timed_apart_and_added_where_no_worker_does_it():
    model = nn.Linear(4, 1)
    made = Training(
        model,
        lambda model, x: model(x).square().mean(),
        DataLoader(Slow(), 8),
        torch.optim.SGD(model.parameters()),
    )
    loading = measure_loading(made, seconds=1.0)
    assert not loading.beside
    assert loading.low <= loading.example <= loading.high
    assert 0.001 <= loading.example < 0.01
    found = clock(made)
    whole = seconds_per_update(found.timings, loading)
    assert all(
        whole[timing.size] == pytest.approx(timing.seconds + timing.size * loading.example)
        for timing in found.timings
    )


class Stream(IterableDataset):
    def __iter__(self):
        yield from torch.randn(40, 4)


def test_loading_of_data_without_a_length_is_timed():
    model = nn.Linear(4, 1)
    made = Training(model, lambda model, x: model(x).square().mean(), DataLoader(Stream(), 8))
    assert measure_loading(made, seconds=1.0).example > 0.0


def test_one_batch_that_is_all_the_data_has_no_loading():
    made = training()
    whole = Training(made.model, made.loss, made.data[:1], made.optimizer)
    assert measure_loading(whole, seconds=0.1) is None
