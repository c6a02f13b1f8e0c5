from itertools import islice

import numpy as np
import pytest
from planted import generator
from test_density import EIGENVALUES, grown

from unstuck.curvature.density import quadrature
from unstuck.curvature.trace import complement_samples, projected_trace, quadrature_trace

TRACE = float(EIGENVALUES.sum())


def by_quadrature(steps, seed):
    run = grown(EIGENVALUES, steps, seed)
    return quadrature_trace(quadrature(run, run.ritz()))


def by_probes(steps, seed):
    run = grown(EIGENVALUES, steps, seed)
    return projected_trace(run, list(islice(complement_samples(run, generator(1000 + seed)), 8)))


@pytest.mark.parametrize("estimator", [by_quadrature, by_probes])
@pytest.mark.parametrize("steps", [6, 20])
def test_the_standard_error_of_the_trace_is_the_spread_of_its_errors(estimator, steps):
    estimates = [estimator(steps, seed) for seed in range(40)]
    scores = np.array([(estimate.value - TRACE) / estimate.stderr for estimate in estimates])
    assert np.sqrt((scores**2).mean()) < 1.6
    assert abs(scores.mean()) < 0.6


def test_settled_eigenvalues_and_probes_sharpen_the_trace():
    early, late, probed = by_quadrature(4, 0), by_quadrature(20, 0), by_probes(20, 0)
    assert probed.stderr < late.stderr < early.stderr
    assert probed.stderr < 0.03 * TRACE


def test_probes_stay_out_of_the_basis():
    run = grown([5.0, *[0.0] * 60], 2)
    samples = list(islice(complement_samples(run, generator(1)), 5))
    assert [sample.square for sample in samples] == pytest.approx([0.0] * 5, abs=1e-20)
    assert projected_trace(run, samples).value == pytest.approx(5)
