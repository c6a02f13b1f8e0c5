"""Ritz values of a block Krylov space against the dense matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.curvature.subspace import span
from unstuck.curvature.vectors import Operator


def operator(matvec, like):
    return Operator(matvec, like.numel(), like)


laws = settings(deadline=None, derandomize=True)


def matrix(size, seed):
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn + drawn.T) / 2


@laws
@given(st.integers(2, 20), st.integers(0, 1000))
def test_the_whole_space_gives_all_eigenvalues(size, seed):
    dense = matrix(size, seed)
    starts = [torch.ones(size, dtype=torch.float64), torch.arange(size, dtype=torch.float64)]
    space = span(operator(lambda vector: dense @ vector, dense[0]), starts, size)
    torch.testing.assert_close(space.values, torch.linalg.eigvalsh(dense), rtol=1e-6, atol=1e-6)


@laws
@given(st.integers(10, 40), st.integers(2, 8), st.integers(0, 1000))
def test_an_eigenvalue_lies_within_the_residual_of_each_ritz_value(size, products, seed):
    dense = matrix(size, seed)
    space = span(
        operator(lambda vector: dense @ vector, dense[0]), [torch.ones(size, dtype=torch.float64)], products
    )
    exact = torch.linalg.eigvalsh(dense)
    for index, value in enumerate(space.values):
        assert float((exact - value).abs().min()) <= space.residual(index) * (1 + 1e-9) + 1e-12
    assert exact[0] - 1e-9 <= space.values[0]
    assert space.values[-1] <= exact[-1] + 1e-9


def test_a_matrix_that_is_not_symmetric_shows():
    drawn = torch.randn(30, 30, generator=torch.Generator().manual_seed(0))
    space = span(operator(lambda vector: drawn @ vector, drawn[0]), [torch.ones(30)], 10)
    assert space.asymmetry > 0.1
    assert (
        span(operator(lambda vector: (drawn + drawn.T) @ vector, drawn[0]), [torch.ones(30)], 10).asymmetry
        < 1e-5
    )


def test_it_stops_when_it_is_told_to_after_the_starts():
    dense = matrix(30, 0)
    starts = [torch.ones(30, dtype=torch.float64), torch.arange(30, dtype=torch.float64)]
    assert len(span(operator(lambda vector: dense @ vector, dense[0]), starts, 20, lambda: False).values) == 2


def test_starts_within_the_space_add_nothing():
    space = span(operator(lambda vector: vector, torch.ones(5)), [torch.ones(5), 2 * torch.ones(5)], 4)
    assert space.values.tolist() == pytest.approx([1.0])
