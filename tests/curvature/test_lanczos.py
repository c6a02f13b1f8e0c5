import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import diagonal, generator, matrix, operator, planted
from scipy.sparse.linalg import eigsh

from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import Operator, Room, random_unit
from unstuck.errors import MeasurementError

TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-4}
EIGENVALUES = st.lists(
    st.sampled_from([-3.0, -1.0, -1e-3, 0.0, 1e-6, 0.5, 0.51, 2.0, 2.0001, 7.0]), min_size=1
)


def grown(of: Operator, steps: int, capacity: int = 256, seed: int = 0) -> Lanczos:
    draws = generator(seed)
    run = Lanczos(of, random_unit(of, draws), room=Room(capacity), generator=draws)
    while run.products < steps and not run.finished:
        run.step()
    return run


def rows(run: Lanczos) -> torch.Tensor:
    return torch.stack([run.basis[index] for index in range(len(run.basis))]).double()


def assert_is_a_krylov_decomposition(run: Lanczos, symmetric: torch.Tensor, tolerance: float) -> None:
    scale, count = max(1.0, float(symmetric.norm())), len(run.projected)
    basis = rows(run)
    assert float((basis @ basis.T - torch.eye(len(basis))).abs().max()) < tolerance
    images = basis[:count] @ symmetric
    rebuilt = torch.from_numpy(run.projected) @ basis[:count]
    if len(basis) > count:
        rebuilt += torch.outer(torch.from_numpy(run.coupling), basis[count])
    assert float((images - rebuilt).abs().max()) < tolerance * scale


@settings(deadline=None, derandomize=True, max_examples=60)
@given(EIGENVALUES, st.integers(1, 40), st.sampled_from([8, 11, 100]), st.sampled_from(list(TOLERANCE)))
def test_any_run_is_an_orthonormal_krylov_decomposition(eigenvalues, steps, capacity, dtype):
    run = grown(planted(eigenvalues, dtype), steps, capacity)
    assert len(run.basis) <= max(capacity, 8)
    assert_is_a_krylov_decomposition(run, matrix(eigenvalues), TOLERANCE[dtype])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(EIGENVALUES, st.sampled_from(list(TOLERANCE)))
def test_an_exhausted_run_has_every_eigenvalue_as_often_as_it_occurs(eigenvalues, dtype):
    run = grown(planted(eigenvalues, dtype), len(eigenvalues))
    assert run.finished
    assert run.ritz().values == pytest.approx(sorted(eigenvalues), abs=10 * TOLERANCE[dtype])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("capacity", [12, 256])
def test_both_ends_agree_with_scipy_with_and_without_restart(dtype, tolerance, capacity):
    eigenvalues = [-2.0, -1.5, *np.linspace(-0.1, 0.1, 300), 3.0, 4.0, 5.0]
    symmetric = matrix(eigenvalues)
    ritz = grown(operator(symmetric, dtype), 60, capacity).ritz()
    ends = eigsh(symmetric.numpy(), k=5, which="LM", return_eigenvectors=False)
    found = np.concatenate((ritz.values[:2], ritz.values[-3:]))
    assert found == pytest.approx(np.sort(ends), rel=tolerance)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(2, 25), st.integers(0, 100))
def test_a_true_eigenvalue_lies_within_the_residual_of_each_ritz_value(steps, seed):
    eigenvalues = np.sort(np.random.default_rng(seed).standard_cauchy(60))
    ritz = grown(diagonal(eigenvalues), steps, 15, seed).ritz()
    distances = np.abs(ritz.values[:, None] - eigenvalues).min(axis=1)
    slack = 1e-9 * np.abs(eigenvalues).max()
    assert (distances <= ritz.residuals + slack).all()
    assert (ritz.errors <= ritz.residuals).all()


def test_a_ritz_vector_has_its_ritz_value_as_quotient_and_its_residual():
    symmetric = matrix([-1.0, *np.linspace(0, 1, 50), 3.0])
    run = grown(operator(symmetric), 15)
    ritz = run.ritz()
    vector = run.vector(ritz.weights[:, 0])
    assert float(vector @ symmetric @ vector) == pytest.approx(ritz.values[0])
    assert float((symmetric @ vector - ritz.values[0] * vector).norm()) == pytest.approx(ritz.residuals[0])


def test_without_a_generator_a_run_ends_with_the_krylov_space_of_its_start():
    of = diagonal([1.0, 2.0, 3.0, 4.0])
    run = Lanczos(of, torch.tensor([0.0, 5.0, 0.0, 5.0], dtype=torch.float64))
    run.step()
    run.step()
    assert run.finished
    assert run.ritz().values == pytest.approx([2, 4])
    with pytest.raises(MeasurementError, match="exhausted"):
        run.step()


def test_an_interrupted_product_leaves_the_run_as_it_was():
    of, calls = diagonal(range(30)), []

    def matvec(vector):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return of.matvec(vector)

    run = Lanczos(Operator(matvec, 30, of.like), random_unit(of, generator()))
    for _ in range(5):
        run.step()
    with pytest.raises(KeyboardInterrupt):
        run.step()
    assert run.products == 5
    for _ in range(5):
        run.step()
    assert_is_a_krylov_decomposition(run, torch.diag(torch.arange(30.0).double()), 1e-10)


def test_a_product_that_is_not_symmetric_is_noticed():
    skewed = matrix(np.linspace(0, 1, 40))
    skewed[3, 7] += 1e-3
    assert grown(operator(skewed), 10).noise > 1e-6
    assert grown(operator(matrix(np.linspace(0, 1, 40))), 10).noise < 1e-14


@pytest.mark.parametrize("start", [0.0, float("nan"), float("inf")])
def test_a_start_without_direction_is_refused(start):
    with pytest.raises(MeasurementError, match="start"):
        Lanczos(diagonal([1.0, 2.0]), torch.full((2,), start, dtype=torch.float64))


@pytest.mark.parametrize("vectors", [24, 256])
def test_a_basis_of_half_the_memory_finds_the_same_eigenvalues_and_tells_its_error(vectors):
    size = 300_000
    eigenvalues = 1e-3 * torch.randn(size, generator=generator())
    eigenvalues[:12] = torch.logspace(1, -1, 12)
    eigenvalues[12:15] = torch.tensor([-1.0, -0.3, -0.1])
    axis = torch.randn(size, generator=generator(1), dtype=torch.float64)
    axis /= axis.norm()

    def multiply(vector):  # reflections hide the axes, which rounding treats too well
        wide = vector.double()
        wide = wide - 2.0 * axis * (axis @ wide)
        wide = eigenvalues.double() * wide
        return (wide - 2.0 * axis * (axis @ wide)).float()

    of = Operator(multiply, size, torch.zeros(size))
    draws = generator()
    run = Lanczos(of, random_unit(of, draws), room=Room(vectors, halved=True), generator=draws)
    for _ in range(40):
        run.step()
    ritz, exact = run.ritz(), eigenvalues.sort().values.double().numpy()
    assert ritz.values[-3:] == pytest.approx(exact[-3:], rel=1e-4)
    assert ritz.values[:2] == pytest.approx(exact[:2], rel=1e-3)
    assert 1e-6 < run.noise < 2e-3
    assert abs(ritz.values[-3:] - exact[-3:]).max() < run.noise * ritz.radius


def test_a_room_too_small_to_restart_is_refused():
    with pytest.raises(MeasurementError, match="room"):
        Lanczos(diagonal([1.0, 2.0]), torch.ones(2, dtype=torch.float64), room=Room(3))


def test_a_product_with_nan_is_refused():
    with pytest.raises(MeasurementError, match="not finite"):
        grown(diagonal([1.0, float("nan"), 2.0]), 1)
