"""A loss that breaks out again and again is told; single spikes and steps down are not."""

import numpy as np
import pytest

from unstuck.watching.losses.bursts import FIRST, Bursts


def told(losses):
    bursts = Bursts()
    return [one for one in map(bursts.add, map(float, losses)) if one is not None]


def test_descent_at_a_rate_too_high_for_a_softmax_that_a_penalty_holds_is_told():
    rng = np.random.default_rng(0)
    inputs, labels = np.c_[16.0 * rng.random((30, 20)), np.ones(30)], np.eye(3)[np.arange(30) % 3]
    weights, losses = np.zeros((21, 3)), []
    for _ in range(4 * FIRST):
        outputs = inputs @ weights
        outputs -= outputs.max(axis=1, keepdims=True)
        given = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        losses.append(np.log(1.0 / (labels * given).sum(axis=1)).mean() + 0.02 * np.square(weights).sum())
        weights -= 0.1 * (inputs.T @ (given - labels) / 30 + 0.04 * weights)
    (found,) = told(losses)
    assert found.since == 2 * FIRST + 1
    assert found.times >= 8
    assert found.share == pytest.approx(0.8, abs=0.1)
    assert max(losses[found.since :]) > 10.0 * found.mostly


def test_spikes_of_single_batches_and_heavy_tails_are_not_told():
    rng = np.random.default_rng(0)
    spikes = np.where(rng.random(8 * FIRST) < 0.02, 1000.0, 1.0)
    assert told(spikes) == []
    assert told(np.abs(rng.standard_cauchy(8 * FIRST))) == []
