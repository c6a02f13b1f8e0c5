"""Against all per-example gradients, one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unstuck import Training, supervised
from unstuck.batch.gradients import grouped
from unstuck.batch.noise import fieller, measure_curved, measure_noise
from unstuck.batch.pool import Pieces, of
from unstuck.objective import Objective, draw

EXAMPLES = 240


def convolution():
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)
    )


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.cell(x.unflatten(1, (4, 4)))[0][:, -1])


MODELS = {
    "perceptron": lambda: nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)),
    "convolution": convolution,
    "recurrent": Recurrent,
}


def trained(kind, steps, *, dtype=torch.float64, optimizer=torch.optim.SGD, **options):
    """A training after so many full steps: at the beginning, on the way, near its end."""
    torch.manual_seed(0)
    x = torch.randn(EXAMPLES, 16, dtype=dtype)
    y = (x[:, :3] + 0.7 * torch.randn(EXAMPLES, 3, dtype=dtype)).argmax(1)
    model = MODELS[kind]().to(dtype)
    made = optimizer(model.parameters(), **({"lr": 0.5} | options))
    for _ in range(steps):
        made.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        made.step()
    data = list(zip(x.split(20), y.split(20), strict=True))
    return Training(model, supervised(nn.CrossEntropyLoss()), data, made)


def pooled(training):
    pool = of(training, draw(training.data, seed=0, enough=lambda *_: False))
    return pool, Objective(training, pool.batches)


def each(pool, objective):
    """The gradient of every example."""
    with objective.replay.session():
        rows = [
            objective.replay.gradient(pool.update([row], 0)[0], objective.theta)[1] for row in range(EXAMPLES)
        ]
    return torch.stack(rows)


def exact(gradients):
    mean = gradients.mean(0)
    spread = (gradients - mean).square().sum() / (len(gradients) - 1)
    return float(spread / mean.square().sum())


def sampled(pool, objective, rows, size, **options):
    pieces = Pieces(pool, rows[: len(rows) // size * size], size)
    return grouped(objective, pieces, **({"groups": 32, "seed": 0} | options))


@pytest.mark.parametrize("kind", MODELS)
def test_of_all_examples_the_scale_is_the_exact_one(kind):
    pool, objective = pooled(trained(kind, 5))
    noise = measure_noise(sampled(pool, objective, range(EXAMPLES), 1), total=EXAMPLES, separable=True)
    gradients = each(pool, objective)
    assert noise.simple.estimate.value == pytest.approx(exact(gradients), rel=1e-9)
    # All that is left open is whether to divide by N or by N - 1.
    assert noise.simple.estimate.stderr == pytest.approx(noise.simple.estimate.value / EXAMPLES, rel=1e-6)
    assert noise.simple.high - noise.simple.low == pytest.approx(2.0 * noise.simple.estimate.stderr, rel=1e-6)
    start = 0
    for layer in noise.layers:
        part = gradients[:, start : start + layer.parameters]
        assert layer.scale.estimate.value == pytest.approx(exact(part), rel=1e-9)
        start += layer.parameters


def test_in_a_metric_every_square_has_its_weight():
    training = trained("perceptron", 5)
    pool, objective = pooled(training)
    weights = torch.rand(objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = sampled(pool, objective, range(EXAMPLES), 1, metrics=(None, weights))
    noise = measure_noise(found, total=EXAMPLES, separable=True)
    assert noise.metric.estimate.value == pytest.approx(
        exact(each(pool, objective) * weights.sqrt()), rel=1e-9
    )
    assert noise.simple.estimate.value == pytest.approx(exact(each(pool, objective)), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 8, 60])
@pytest.mark.parametrize("kind", MODELS)
def test_the_interval_holds_the_exact_scale_at_least_nine_times_in_ten(kind, steps):
    pool, objective = pooled(trained(kind, steps))
    truth = exact(each(pool, objective))
    inside, by_error, times = 0, 0, 40
    for seed in range(times):
        drawn = torch.Generator().manual_seed(seed)
        rows = torch.randperm(EXAMPLES, generator=drawn)[:96].tolist()
        scale = measure_noise(
            sampled(pool, objective, rows, 1, seed=seed), total=EXAMPLES, separable=True
        ).simple
        inside += scale.low <= truth <= scale.high
        by_error += (
            scale.estimate is None or abs(scale.estimate.value - truth) <= 1.96 * scale.estimate.stderr
        )
    assert inside >= 0.9 * times
    assert by_error >= 0.9 * times


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_the_curvature_weighted_scale_is_that_of_the_dense_hessian(kind):
    pool, objective = pooled(trained(kind, 0))
    gradients = each(pool, objective)
    mean = gradients.mean(0)
    with objective.products(objective.theta) as product:
        dense = product.block(torch.eye(objective.size, dtype=torch.float64))
        rest = gradients - mean
        truth = float(torch.einsum("in,nm,im->", rest, dense, rest) / (EXAMPLES - 1) / (mean @ dense @ mean))
        inside, times = 0, 20
        for seed in range(times):
            rows = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed))[:96].tolist()
            found = sampled(pool, objective, rows, 1, seed=seed)
            scale = measure_curved(found, product, total=EXAMPLES, groups=24)
            inside += scale.low <= truth <= scale.high
    assert inside >= 0.9 * times


def test_pieces_of_any_size_give_the_same_on_average():
    pool, objective = pooled(trained("perceptron", 5))
    truth = exact(each(pool, objective))
    for size in (2, 5):
        values = []
        for seed in range(30):
            order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed)).tolist()
            found = sampled(pool, objective, order, size, groups=12)
            values.append(measure_noise(found, total=EXAMPLES, separable=True).simple.estimate.value)
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
        assert abs(mean - truth) < 4.0 * spread


@pytest.mark.parametrize("kind", MODELS)
def test_of_all_examples_in_pieces_the_interval_knows_that_others_could_have_come_together(kind):
    pool, objective = pooled(trained(kind, 8))
    truth = exact(each(pool, objective))
    inside, times = 0, 20
    for seed in range(times):
        order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed)).tolist()
        noise = measure_noise(sampled(pool, objective, order, 8, groups=8), total=EXAMPLES, separable=True)
        inside += noise.simple.low <= truth <= noise.simple.high
        # Their mean is the gradient, whoever came together.
        assert noise.signal.stderr == 0.0
    assert inside >= 0.9 * times


def test_where_the_signal_drowns_there_is_no_value_but_a_lower_end():
    training = trained("perceptron", 400)
    pool, objective = pooled(training)
    rows = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(0))[:24].tolist()
    scale = measure_noise(sampled(pool, objective, rows, 1, groups=12), total=None, separable=True).simple
    assert scale.estimate is None
    assert math.isinf(scale.high)
    assert 0.0 <= scale.low < math.inf


@settings(deadline=None, derandomize=True)
@given(
    st.floats(0.1, 100),
    st.floats(0.1, 100),
    st.floats(0.0, 10.0),
    st.floats(0.0, 10.0),
    st.floats(-1.0, 1.0),
    st.integers(3, 60),
)
def test_fiellers_interval_holds_the_ratio_and_every_end_is_as_likely_as_it_says(
    above, below, one, other, correlation, degrees
):
    both = correlation * math.sqrt(one * other)
    low, high = fieller(above, below, (one, both, other), float(degrees))
    assert 0.0 <= low <= above / below * (1.0 + 1e-9)
    assert high >= above / below * (1.0 - 1e-9)
