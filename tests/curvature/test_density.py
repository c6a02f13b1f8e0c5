import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import diagonal, generator
from scipy.stats import wasserstein_distance

from unstuck.curvature.density import density, fraction_above, gauss, jacobi, quadrature, radau
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import Room, random_unit

BULK = np.linspace(-0.1, 0.2, 400)
OUTLIERS = [1.0, 1.5, 2.5, 4.0, 10.0]
EIGENVALUES = np.sort(np.concatenate((BULK, OUTLIERS)))


def grown(eigenvalues, steps, seed=0, capacity=256) -> Lanczos:
    of, draws = diagonal(eigenvalues), generator(seed)
    run = Lanczos(of, random_unit(of, draws), room=Room(capacity), generator=draws)
    for _ in range(steps):
        run.step()
    return run


def measured(eigenvalues, steps, seed=0, capacity=256):
    run = grown(eigenvalues, steps, seed, capacity)
    return quadrature(run, run.ritz())


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 30), st.integers(0, 99))
def test_every_rule_is_a_probability_and_exact_for_polynomials(steps, seed):
    run = grown(EIGENVALUES, steps, seed)
    cycle = run.chains[0].cycles[0]
    of = diagonal(EIGENVALUES)
    start = random_unit(of, generator(seed)).numpy()
    for rule in (gauss(jacobi(cycle)), radau(cycle, 0.05)):
        assert rule.weights.sum() == pytest.approx(1)
        assert (rule.weights >= 0).all()
        for degree in range(min(2 * steps, 5)):
            truth = float(start**2 @ EIGENVALUES**degree)
            assert float(rule.weights @ rule.nodes**degree) == pytest.approx(truth, rel=1e-7, abs=1e-9)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 30), st.floats(-0.15, 0.5), st.integers(0, 99))
def test_the_starts_own_measure_lies_between_the_bounds_of_chebyshev_markov_and_stieltjes(steps, point, seed):
    cycle = grown(EIGENVALUES, steps, seed).chains[0].cycles[0]
    start = random_unit(diagonal(EIGENVALUES), generator(seed)).numpy()
    rule = radau(cycle, point)
    assert np.abs(rule.nodes - point).min() < 1e-8
    above = float((start**2)[point < EIGENVALUES].sum())
    assert rule.beyond(point + 1e-8) <= above + 1e-9
    assert above <= rule.beyond(point - 1e-8) + 1e-9


@pytest.mark.parametrize("capacity", [20, 256])
def test_the_deflated_density_is_near_the_truth_and_nearer_than_the_plain_one(capacity):
    plain, better = [], []
    for seed in range(10):
        found = measured(EIGENVALUES, 30, seed, capacity)
        rules = gauss(jacobi(found.cycle)), density(found)
        for rule, distances in zip(rules, (plain, better), strict=True):
            distances.append(wasserstein_distance(rule.nodes, EIGENVALUES, rule.weights) / 10)
    assert np.mean(better) < 2e-3
    assert np.mean(better) < 0.5 * np.mean(plain)


@pytest.mark.parametrize("point", [-0.05, 0.0, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("steps", [4, 12, 40])
def test_the_true_fraction_lies_within_three_standard_errors(point, steps):
    truth = float((point < EIGENVALUES).mean())
    for seed in range(15):
        estimate = fraction_above(measured(EIGENVALUES, steps, seed), point, blur=1e-12)
        assert abs(estimate.value - truth) <= 3 * estimate.stderr + 1e-12


def test_where_all_mass_sits_at_zero_the_fraction_of_positive_ones_is_left_open():
    estimate = fraction_above(measured([0.0] * 199 + [1.0], 2), 0.0, blur=1e-10)
    assert estimate.stderr > 0.4


def test_a_settled_eigenvalue_is_counted_exactly_however_little_the_start_touched_it():
    found = measured([-1.0, *np.linspace(0.1, 1, 300)], 30, seed=3)
    assert fraction_above(found.mirrored(), 0.5, blur=1e-12).value == pytest.approx(1 / 301, rel=1e-12)


def test_a_repeated_eigenvalue_at_an_end_keeps_its_weight():
    found = measured([1.0] * 100 + [2.0, 3.0], 3)
    assert float(found.known.values.min(initial=9)) > 1.5
    assert float(density(found).weights[:1].sum()) == pytest.approx(100 / 102)
