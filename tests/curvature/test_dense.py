import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import matrix, operator, planted

from unstuck.curvature.dense import dense_spectrum, looped, materialise
from unstuck.curvature.vectors import Operator
from unstuck.errors import MeasurementError


@pytest.mark.parametrize("block", [1, 7, 64])
def test_a_materialised_operator_is_its_matrix(block):
    symmetric = matrix(np.linspace(-1, 2, 20))
    formed = materialise(operator(symmetric), block=block)
    torch.testing.assert_close(formed.matrix, symmetric)
    together = materialise(operator(symmetric), lambda columns: symmetric @ columns, block=block)
    torch.testing.assert_close(together.matrix, symmetric)


def test_looping_over_columns_is_one_product_with_the_matrix():
    symmetric, columns = matrix(np.linspace(-1, 2, 6)), torch.arange(12.0).double().reshape(6, 2)
    torch.testing.assert_close(looped(lambda vector: symmetric @ vector)(columns), symmetric @ columns)


def test_the_saddle_of_a_product_of_two_weights_has_eigenvalues_plus_and_minus_two():
    curvature = dense_spectrum(operator(torch.tensor([[0.0, -2.0], [-2.0, 0.0]], dtype=torch.float64)))
    found = curvature.spectrum
    assert (found.lambda_min, found.lambda_max) == pytest.approx((-2, 2))
    assert (found.positive.value, found.positive.stderr, found.trace.value) == pytest.approx((0.5, 0, 0))
    assert curvature.lowest.abs().tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    assert float(curvature.lowest.prod()) > 0


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1e-9, 1.0, 3.0]), min_size=1, max_size=30))
def test_an_exact_spectrum_counts_its_eigenvalues(eigenvalues):
    found = dense_spectrum(planted(eigenvalues)).spectrum
    array = np.sort(eigenvalues)
    radius = np.abs(array).max()
    assert found.exact
    assert (
        found.settled_by_counting if hasattr(found, "settled_by_counting") else found.products == len(array)
    )
    assert found.density.nodes == pytest.approx(array, abs=1e-12)
    assert sum(found.density.weights) == pytest.approx(1)
    assert found.floor.probability == 1
    assert found.floor.bound <= array[0] + 1e-12
    assert found.trace.value == pytest.approx(array.sum(), abs=1e-12)
    assert found.positive.value == pytest.approx((array > found.noise * radius).mean())
    assert found.above.value == pytest.approx((array > 1e-3 * radius).mean())
    assert found.below.value == pytest.approx((array < -1e-3 * radius).mean())


def test_eigenvalues_within_the_noise_are_left_undecided():
    entries = torch.tensor([-1e-3, 1e-3, 1.0, 1.0])
    noisy = Operator(lambda vector: entries * vector, 4, torch.zeros(4), noise=1e-2)
    found = dense_spectrum(noisy).spectrum
    assert (found.positive.value, found.positive.stderr) == pytest.approx((0.5, 0.25))
    assert found.noise == 1e-2


def test_asymmetry_is_measured_as_noise():
    skewed = matrix(np.linspace(1, 2, 30))
    skewed += 1e-3 * torch.randn(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 1e-3 * 30 / float(skewed.norm())
    assert materialise(operator(skewed)).noise == pytest.approx(expected, rel=0.1)


def test_a_product_with_nan_is_refused():
    with pytest.raises(MeasurementError, match="not finite"):
        dense_spectrum(operator(torch.full((3, 3), math.nan, dtype=torch.float64)))
