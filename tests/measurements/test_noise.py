"""The noise of batch gradients, beside what is known of it."""

import math
from statistics import fmean, stdev

import pytest
import torch
from quadratics import batch, bowl, mean_bowl, noisy_bowls, objective_of, symmetric, vector

from unstuck.measurements import noise as module
from unstuck.measurements.judging import Halves
from unstuck.measurements.noise import measure_gradients

SIZE = 6
EXAMPLES = 8  # in a batch
SPREAD = 0.5  # of one example's gradient, in each coordinate


def measured(data, *, exhaustive=False):
    objective = objective_of(bowl, vector(SIZE), data)
    return measure_gradients(objective, Halves.of(len(data), exhaustive=exhaustive))


def drawn(batches, slope, seed):
    """Batches of a population of examples whose gradients scatter about one mean."""
    generator, size = torch.Generator().manual_seed(seed), len(slope)
    scatter = SPREAD * torch.randn(batches, EXAMPLES, size, generator=generator, dtype=torch.float64)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return [batch(matrix, slope + mean, examples=EXAMPLES) for mean in scatter.mean(1)]


def test_the_means_of_both_halves_are_those_of_their_batches_by_size():
    data, theta = noisy_bowls(7, SIZE), vector(SIZE)
    found = measured(data)
    for half, members in ((found.finds, data[::2]), (found.judges, data[1::2])):
        matrix, slope = mean_bowl(members)
        torch.testing.assert_close(half, matrix @ theta - slope)


def test_signal_and_variance_of_a_sample_are_without_bias_and_their_errors_true(unchecked):
    slope = vector(SIZE, seed=3, scale=0.2)
    found = [measured(drawn(24, slope, seed)).noise for seed in range(200)]
    for estimates, truth in (
        ([one.signal for one in found], float(slope.square().sum())),
        ([one.variance for one in found], SIZE * SPREAD**2),
    ):
        values = [one.value for one in estimates]
        assert fmean(values) == pytest.approx(truth, abs=3.0 * stdev(values) / math.sqrt(len(values)))
        assert fmean(one.stderr for one in estimates) == pytest.approx(stdev(values), rel=0.25)


def test_the_noise_scale_is_their_ratio_and_unknown_where_the_signal_drowns(unchecked):
    slope = vector(SIZE, seed=3)
    scales = [measured(drawn(48, slope, seed)).noise.simple for seed in range(50)]
    truth = SIZE * SPREAD**2 / float(slope.square().sum())
    assert all(scales)
    assert sum(abs(one.value - truth) < 2.0 * one.stderr for one in scales) >= 45
    drowned = [measured(drawn(12, torch.zeros(SIZE, dtype=torch.float64), seed)).noise for seed in range(50)]
    assert sum(one.simple is None for one in drowned) >= 40


def test_of_all_the_data_the_signal_is_the_gradient_itself():
    data = drawn(10, vector(SIZE, seed=3, scale=0.1), 0)
    found = measured(data, exhaustive=True)
    assert found.noise.signal.value == pytest.approx(float(found.finds.square().sum()), rel=1e-12)
    assert found.noise.signal.stderr == 0.0
    scale = found.noise.variance.value / found.noise.signal.value
    assert found.noise.simple.value == pytest.approx(scale, rel=1e-12)


def test_a_sketch_of_long_gradients_keeps_the_errors(monkeypatch):
    size = 40_000
    data = [(torch.zeros(EXAMPLES), vector(size, seed=seed) + 1.0) for seed in range(24)]
    objective = objective_of(lambda model, given: 1.0 - given[1] @ model.theta, torch.zeros(size), data)
    halves = Halves.of(len(data), exhaustive=False)
    whole = measure_gradients(objective, halves).noise
    monkeypatch.setattr(module, "_SKETCH", 20_000)
    sketched = measure_gradients(objective, halves).noise
    assert sketched.signal.value == pytest.approx(whole.signal.value, rel=1e-9)
    assert sketched.signal.stderr == pytest.approx(whole.signal.stderr, rel=0.5)


@pytest.mark.parametrize(("batches", "known"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_batches_tell_nothing(batches, known):
    assert (measured(noisy_bowls(batches, SIZE)).noise is not None) == known


def test_equal_batches_have_no_noise():
    data = [batch(symmetric(torch.linspace(-1, 3, SIZE)), vector(SIZE, seed=9))] * 5
    assert measured(data).noise.variance.value == pytest.approx(0.0, abs=1e-12)
