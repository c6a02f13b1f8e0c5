import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import bowl, judge_of, mean_bowl, noisy_bowls, objective_of, vector
from scipy import stats

from unstuck.measurements.judging import Halves, Judge

laws = settings(deadline=None, derandomize=True, max_examples=30)


@laws
@given(st.integers(2, 500))
def test_the_halves_share_no_batch_leave_none_out_and_are_equal_to_one(batches):
    halves = Halves.of(batches, exhaustive=False)
    assert sorted(halves.finds + halves.judges) == list(range(batches))
    assert abs(len(halves.finds) - len(halves.judges)) <= 1


@laws
@given(st.integers(1, 500))
def test_all_the_data_there_is_judges_itself(batches):
    halves = Halves.of(batches, exhaustive=True)
    assert halves.finds == halves.judges == tuple(range(batches))


def test_a_single_batch_of_many_finds_and_judges_but_is_sure_of_nothing():
    objective = objective_of(bowl, vector(3), noisy_bowls(1, 3))
    judge = judge_of(objective, exhaustive=False)
    gain = judge.gain(objective.values(objective.theta + vector(3, 7)))
    assert math.isinf(gain.stderr)


def test_losses_are_means_over_examples_of_the_half_that_is_asked():
    data = noisy_bowls(7, 3)
    theta = vector(3)
    objective = objective_of(bowl, theta, data)
    judge = judge_of(objective, exhaustive=False)
    for told, half in (
        (judge.found(judge.base), data[::2]),
        (judge.judged(judge.base), data[1::2]),
        (judge.loss().value, data),
    ):
        H, b = mean_bowl(half)
        assert told == pytest.approx(float(0.5 * theta @ H @ theta - b @ theta) + 1.0, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_rayleigh_quotient_is_that_of_the_judging_halfs_dense_hessian(seed):
    data = noisy_bowls(6, 4)
    v = vector(4, seed)
    judge = judge_of(objective_of(bowl, vector(4), data), exhaustive=False)
    H, _ = mean_bowl(data[1::2])
    assert judge.curvature(v).value == pytest.approx(float(v @ H @ v / (v @ v)), rel=1e-9)


def test_the_error_of_a_quotient_is_its_spread_over_batches():
    data = [(torch.zeros(4), *rest[1:]) for rest in noisy_bowls(12, 4)]
    v = vector(4, 5)
    judge = judge_of(objective_of(bowl, vector(4), data), exhaustive=False)
    quotients = [float(v @ H @ v / (v @ v)) for _, H, _ in data[1::2]]
    assert judge.curvature(v).stderr == pytest.approx(stats.sem(quotients), rel=1e-6)


def test_nothing_is_left_to_sampling_where_there_is_no_sample():
    objective = objective_of(bowl, vector(4), noisy_bowls(6, 4))
    judge = judge_of(objective)
    gain = judge.gain(objective.values(objective.theta + vector(4, 3)))
    assert 0.0 < gain.stderr <= 1e-14 * max(map(abs, judge.base))  # rounding only
    assert judge.curvature(vector(4, 5)).stderr == 0.0


@pytest.mark.parametrize("size", [4, 12])
def test_the_true_gain_lies_in_the_interval_as_often_as_promised(size):
    """Many samples of batches, whose losses before and after a step vary together."""
    objective = objective_of(bowl, vector(2), noisy_bowls(size, 2))
    halves = Halves.of(size, exhaustive=False)
    rng, rounds, hits = np.random.default_rng(0), 2000, 0
    for _ in range(rounds):
        base = rng.normal(3.0, 1.0, size)
        gained = rng.normal(0.1, 0.3, size)
        gain = Judge(objective, halves, base.tolist()).gain((base - gained).tolist())
        hits += abs(gain.value - 0.1) <= gain.margin(2.0)
    promised = 2 * stats.norm.cdf(2.0) - 1
    # The weights differ by a factor of two, for which Student's law is nearly right.
    assert abs(hits / rounds - promised) < 4 * math.sqrt(promised * (1 - promised) / rounds)


def test_a_loss_with_a_floor_is_compared_with_what_lies_above_it():
    objective = objective_of(
        lambda model, each: each + 0.0 * model.theta.sum(), vector(1), list(torch.tensor([2.0, 3.0]))
    )
    judge = judge_of(objective)
    above = Judge(judge.objective, judge.halves, judge.base, 2.25)
    assert judge.scale() == pytest.approx(2.5)
    assert above.scale() == above.bare.scale() == pytest.approx(0.25)
    at = Judge(judge.objective, judge.halves, judge.base, 2.5)
    assert at.scale() == at.rounding > 0.0


def test_a_loss_that_may_be_negative_is_compared_with_its_spread_and_any_other_with_itself():
    single = torch.randn(40, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objective = objective_of(
        lambda model, each: each.mean() + 0.0 * model.theta.sum(), vector(1), list(single - single.mean())
    )
    assert judge_of(objective).scale() == pytest.approx(1.0, rel=0.3)
    base = objective.values(objective.theta)
    halves = Halves.of(len(base), exhaustive=True)
    assert Judge(objective, halves, [value + 3.0 for value in base]).scale() == pytest.approx(3.0)
