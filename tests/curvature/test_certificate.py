import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import diagonal, generator
from scipy.stats import binom

from unstuck.curvature.certificate import ceiling, excludes, floor, mirrored
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import Room, random_unit

SPECTRA = {
    "a tiny isolated negative eigenvalue": [-0.02, *np.linspace(0, 0.2, 55), 0.5, 0.7, 0.9, 1.0],
    "a cluster at the lower end": [-0.05, -0.049, -0.048, *np.linspace(0, 1, 57)],
    "outliers over an indefinite bulk": [*np.linspace(-0.1, 0.1, 50), 1.0, 2.0, 5.0],
    "many zeros": [-0.01, *[0.0] * 50, 0.1, 0.3, 1.0],
}


def grown(eigenvalues, steps, capacity=256, seed=0) -> Lanczos:
    of, draws = diagonal(eigenvalues), generator(seed)
    run = Lanczos(of, random_unit(of, draws), room=Room(capacity), generator=draws)
    for _ in range(steps):
        run.step()
    return run


def certified(run: Lanczos, probability: float = 0.99):
    ritz = run.ritz()
    shared = {"probability": probability, "noise": run.noise}
    low = floor(run.chains[0], float(ritz.values[0]), ritz.radius, **shared)
    high = ceiling(run.chains[0], float(ritz.values[-1]), ritz.radius, **shared)
    return low, high


def missed(eigenvalues, steps, capacity, runs, delta) -> int:
    """How many of the runs would have sworn that the true lower end is not there."""
    hidden, lowest = 1e-14 * max(map(abs, eigenvalues)), min(eigenvalues)
    chains = (grown(eigenvalues, steps, capacity, seed).chains[0] for seed in range(runs))
    return sum(excludes(chain, lowest, probability=1 - delta, hidden=hidden) for chain in chains)


@pytest.mark.parametrize(("steps", "capacity"), [(10, 256), (14, 8)])
@pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA.keys())
def test_the_bound_fails_no_more_often_than_it_says(eigenvalues, steps, capacity):
    assert missed(eigenvalues, steps, capacity, 80, 0.2) <= binom.ppf(0.999, 80, 0.2)


def test_the_bound_fails_as_often_as_it_says_once_the_end_is_resolved():
    wrong = missed(SPECTRA["a tiny isolated negative eigenvalue"], 12, 256, 200, 0.2)
    assert binom.ppf(0.001, 200, 0.2) <= wrong <= binom.ppf(0.999, 200, 0.2)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(1, 30), st.sampled_from([8, 13, 256]), st.sampled_from(list(SPECTRA.values())))
def test_bounds_lie_outside_of_all_ritz_values_and_mirror_each_other(steps, capacity, eigenvalues):
    run = grown(eigenvalues, steps, capacity)
    low, high = certified(run)
    values = run.ritz().values
    assert low.bound <= values[0]
    assert high.bound >= values[-1]
    turned = grown([-value for value in eigenvalues], steps, capacity)
    assert certified(turned)[1].bound == pytest.approx(-low.bound, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("capacity", [8, 12])
def test_more_products_never_loosen_the_bound_much_also_across_restarts(capacity):
    eigenvalues = np.linspace(0, 1, 200)
    bounds = [certified(grown(eigenvalues, steps, capacity))[0].bound for steps in (5, 10, 20, 40, 60)]
    assert bounds == sorted(bounds)
    assert bounds[-1] > -0.03


def test_a_restart_costs_the_certificate_little():
    eigenvalues = np.linspace(0, 1, 200)
    whole, restarted = (certified(grown(eigenvalues, 40, capacity))[0].bound for capacity in (256, 20))
    assert whole < 0
    assert restarted > 2 * whole


def test_noise_widens_the_bound():
    run = grown(SPECTRA["many zeros"], 10)
    ritz = run.ritz()
    quiet, loud = (
        floor(run.chains[0], float(ritz.values[0]), ritz.radius, probability=0.99, noise=noise).bound
        for noise in (1e-12, 1e-2)
    )
    assert loud <= quiet - 1e-2 * ritz.radius


def test_an_ended_krylov_space_excludes_everything_beyond_it():
    run = grown([2.0] * 50, 1)
    assert certified(run)[0].bound == pytest.approx(2.0, abs=1e-8)
    assert certified(run)[1].bound == pytest.approx(2.0, abs=1e-8)
    assert certified(run)[0].tolerance == 0


def test_nothing_is_excluded_at_a_ritz_value_or_before_the_first_product():
    run = grown([1.0, 2.0, 3.0, 4.0], 2)
    assert not excludes(run.chains[0], float(run.ritz().values[0]), probability=0.5, hidden=0.0)
    assert not excludes(mirrored(grown([1.0] * 9, 1).chains[-1]), -100.0, probability=0.5, hidden=0.0)


def test_a_zero_operator_is_certified_to_be_zero():
    low, high = certified(grown([0.0] * 20, 1))
    assert (low.bound, low.tolerance, high.bound, high.tolerance) == (0, 0, 0, 0)
