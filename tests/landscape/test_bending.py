"""The spectrum against the dense Hessian, with and without a metric."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from landscape.test_survey import data_of
from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.curvature.records import Density
from unstuck.landscape import bending
from unstuck.landscape.bending import Bender, binned
from unstuck.landscape.ground import Ground, Limits
from unstuck.measurements.records import Sample
from unstuck.objective import draw


def fitted(make=torch.optim.SGD, steps=60, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 2))
    optimizer = make(model.parameters(), **settings)
    data = data_of()
    for step in range(steps):
        inputs, targets = data[step % len(data)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer)


def bent(training, *, top=6, exhaustive=True, left=lambda: 600.0):
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive, stochastic=False, whole=exhaustive)
    ground = Ground(training, drawn, sample, Limits(left, 1e9, 0), decayed=True)
    bender = Bender(training, ground, top)
    bender.run(lambda *_: None)
    return ground, bender.bending()


def dense(ground):
    with ground.objective.products(ground.theta) as products:
        return products.block(torch.eye(ground.objective.size, dtype=torch.float64))


def test_a_loss_has_weight_decay_in_it_only_where_the_optimizer_decays():
    assert [bent(fitted(lr=0.3, weight_decay=c))[1].subject.decay for c in (0.0, 0.1)] == [False, True]


@pytest.fixture
def never_formed(monkeypatch):
    monkeypatch.setattr(bending, "_FORMED", 0)


def test_both_ends_and_all_between_are_those_of_the_dense_hessian_though_it_is_not_formed(never_formed):
    ground, found = bent(fitted(lr=0.3))
    values = torch.linalg.eigvalsh(dense(ground))
    spread, size = found.spread("hessian"), len(values)
    radius = float(values.abs().max())
    for index, (low, high) in enumerate(zip(spread.lowest, spread.highest, strict=True)):
        assert abs(low.value - float(values[index])) <= low.residual + 0.01 * radius, index
        assert abs(high.value - float(values[-1 - index])) <= high.residual + 0.01 * radius, index
    known = spread.spectrum
    assert abs(known.trace.value - float(values.sum())) <= 4.0 * known.trace.stderr + 1e-9
    for share, true in (
        (known.positive, (values > 0).double().mean()),
        (known.above, (values > known.flat * radius).double().mean()),
        (known.below, (values < -known.flat * radius).double().mean()),
    ):
        assert abs(share.value - float(true)) <= 4.0 * share.stderr + 1.0 / size
    assert spread.starts == 5
    assert sum(each.share.value for each in spread.bins) == pytest.approx(1.0)
    assert float(values[0]) >= known.floor.bound
    assert found.complete


def test_the_density_is_within_its_errors_bin_by_bin(never_formed):
    ground, found = bent(fitted(lr=0.3))
    values = torch.linalg.eigvalsh(dense(ground))
    spread, off = found.spread("hessian"), []
    for each in spread.bins:
        true = float(((values >= each.low) & (values < each.high)).double().mean())
        off.append(abs(each.share.value - true) / (each.share.stderr + 1.0 / len(values)))
    assert sum(value < 3.0 for value in off) >= 0.8 * len(off)


def test_small_ones_are_formed_and_exact():
    ground, found = bent(fitted(lr=0.3), top=4)
    values = torch.linalg.eigvalsh(dense(ground))
    spread = found.spread("hessian")
    assert spread.spectrum.exact
    assert [each.value for each in spread.lowest] == pytest.approx(values[:4].tolist(), abs=1e-9)
    assert [each.value for each in spread.highest] == pytest.approx(values[-4:].flip(0).tolist())
    assert all(each.share.stderr == 0.0 for each in spread.bins)


def test_in_the_metric_of_adam_they_are_those_of_the_scaled_hessian():
    training = fitted(torch.optim.Adam, lr=0.01)
    ground, found = bent(training)
    assert found.rate is None
    spread = found.spread("metric")
    state = training.optimizer.state
    scales = [
        (state[weight]["exp_avg_sq"].double() / (1 - 0.999**60)).sqrt() + 1e-8
        for weight in training.model.parameters()
    ]
    half = (0.01 / (1 - 0.9**60) / torch.cat([scale.flatten() for scale in scales])).sqrt()
    values = torch.linalg.eigvalsh(half[:, None] * dense(ground) * half)
    assert spread.highest[0].value == pytest.approx(float(values[-1]), rel=1e-4)
    assert spread.lowest[0].value == pytest.approx(float(values[0]), rel=1e-3)
    assert spread.judged_highest.value == pytest.approx(float(values[-1]), rel=1e-4)
    assert found.limit == pytest.approx(38.0)


def test_one_rate_for_all_is_no_metric_of_its_own():
    _, found = bent(fitted(lr=0.3))
    assert [spread.name for spread in found.spreads] == ["hessian"]
    assert (found.rate, found.limit) == (0.3, 2.0)


def test_weight_decay_adds_to_every_eigenvalue():
    plain = fitted(lr=0.3)
    decayed = replace(plain, optimizer=torch.optim.SGD(plain.model.parameters(), lr=0.3, weight_decay=0.1))
    one, other = (bent(training)[1].spread("hessian") for training in (plain, decayed))
    for before, after in zip(one.lowest, other.lowest, strict=True):
        assert after.value == pytest.approx(before.value + 0.1, abs=1e-8)


def test_ends_are_judged_on_data_they_were_not_found_on():
    training = fitted(lr=0.3)
    _, found = bent(training, exhaustive=False)
    spread = found.spread("hessian")
    assert spread.judged_highest.stderr > 0.0
    assert spread.judged_highest.value != pytest.approx(spread.highest[0].value, rel=1e-6)


def test_when_the_time_is_over_what_is_known_is_there(never_formed):
    left = itertools.count(40, -1)
    _, found = bent(fitted(lr=0.3), left=lambda: float(next(left)))
    assert not found.complete
    assert found.spread("hessian").highest


def test_the_training_stays_as_it_was():
    training = fitted(torch.optim.Adam, lr=0.01)
    with unchanged(training):
        bent(training, exhaustive=False)


def test_of_several_starts_a_bin_has_the_mean_and_its_error():
    starts = [Density((-1.0, 0.0, 1.0), (0.1, 0.5, 0.4)), Density((-1.0, 0.0, 1.0), (0.3, 0.5, 0.2))]
    low, middle, high = binned(starts, 0.1)
    assert (low.share.value, low.share.stderr) == pytest.approx((0.2, 0.1))
    assert (middle.share.value, middle.share.stderr) == pytest.approx((0.5, 0.0))
    assert low.low < -1.0 < low.high < middle.low <= 0.0 < middle.high < high.low < 1.0 < high.high
    assert math.isclose(middle.low, 0.0, abs_tol=1e-12)


def test_of_one_start_nobody_knows_the_error_unless_it_holds_every_eigenvalue():
    one = [Density((-1.0, 1.0), (0.3, 0.7))]
    assert [each.share.stderr for each in binned(one, 0.1)] == [math.inf, math.inf]
    assert [each.share.stderr for each in binned(one, 0.1, exact=True)] == [0.0, 0.0]
