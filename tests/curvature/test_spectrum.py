import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import diagonal, generator, matrix, operator, planted
from sklearn.datasets import load_digits

from unstuck.curvature.dense import dense_spectrum
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator, Room

OUTLIERS = [*np.linspace(-1e-3, 0.1, 300), 1.0, 2.0, 3.0, 4.0, 5.0]
SADDLE = [-0.5, *OUTLIERS]


@pytest.fixture(scope="module")
def network() -> Operator:
    """The Hessian of a small net on digits, in float32, as autograd multiplies it."""
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images[:200, ::2] / 16, dtype=torch.float32)
    targets = torch.tensor(labels[:200])
    flat = 0.3 * torch.randn(32 * 8 + 8 * 10, generator=generator())
    flat.requires_grad_()
    hidden = torch.tanh(inputs @ flat[:256].view(32, 8)) @ flat[256:].view(8, 10)
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(hidden, targets), flat, create_graph=True
    )

    def matvec(vector):
        return torch.autograd.grad(gradient, flat, vector, retain_graph=True)[0]

    return Operator(matvec, len(flat), torch.zeros(len(flat)), noise=1e-6)


def test_a_run_agrees_with_the_dense_hessian_of_a_network(network):
    truth = dense_spectrum(network)
    found = spectrum(network, Question(top=5, negative_to=0.01, probes=5), generator())
    assert found.settled
    assert found.spectrum.products < 0.5 * network.size
    for mine, exact in zip(found.spectrum.highest[:5], truth.spectrum.highest, strict=False):
        assert mine.value == pytest.approx(exact.value, rel=0.01)
    assert found.spectrum.lambda_min == pytest.approx(truth.spectrum.lambda_min, rel=0.01)
    assert abs(float(found.lowest @ truth.lowest)) > 0.95
    assert abs(float(found.highest @ truth.highest)) > 0.99
    assert found.spectrum.floor.bound <= truth.spectrum.lambda_min
    for name in ("positive", "above", "below", "trace"):
        mine, exact = getattr(found.spectrum, name), getattr(truth.spectrum, name)
        assert abs(mine.value - exact.value) <= 3 * (mine.stderr + exact.stderr)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_top_five_of_outliers_over_a_bulk_take_few_products(dtype):
    found = spectrum(planted(OUTLIERS, dtype), Question(tolerance=math.inf, top=5), generator()).spectrum
    assert [each.value for each in found.highest[:5]] == pytest.approx([5, 4, 3, 2, 1], rel=0.01)
    assert found.products <= 15


def test_the_saddle_of_a_product_of_two_weights_is_found_exactly():
    saddle = operator(torch.tensor([[0.0, -2.0], [-2.0, 0.0]], dtype=torch.float64))
    found = spectrum(saddle, Question(), generator())
    assert (found.spectrum.lambda_min, found.spectrum.lambda_max) == pytest.approx((-2, 2))
    assert (found.spectrum.positive.value, found.spectrum.exact, found.settled) == (0.5, True, True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_copies_are_told_apart_behind_the_end_of_a_krylov_space(dtype):
    few = [-2.0] * 11 + [-0.3, 0.0, 0.0]
    for seed in range(20):
        found = spectrum(planted(few, dtype, seed), Question(tolerance=1e-2, top=2), generator(seed)).spectrum
        assert [value.value for value in found.highest[:2]] == pytest.approx([0.0, 0.0], abs=1e-4)


def test_eigenvalues_that_are_copies_to_the_accuracy_asked_for_are_told_as_two():
    found = spectrum(planted([-2.0, -1.9, 0.0, 1e-8]), Question(tolerance=1e-2, top=2), generator()).spectrum
    assert [value.value for value in found.highest[:2]] == pytest.approx([0.0, 0.0], abs=1e-3)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    st.lists(st.sampled_from([-2.0, -1.9, -0.3, 0.0, 1e-8, 0.5, 1.0, 1.001, 3.0]), min_size=1, max_size=30),
    st.sampled_from([torch.float64, torch.float32]),
    st.sampled_from([10, 256]),
)
def test_any_spectrum_is_answered_within_what_was_asked(eigenvalues, dtype, capacity):
    question = Question(tolerance=1e-2, top=2)
    found = spectrum(planted(eigenvalues, dtype), question, generator(), room=Room(capacity))
    array, record = np.sort(eigenvalues), found.spectrum
    radius = np.abs(array).max()
    assert found.settled
    assert record.floor.bound <= array[0] + 1e-5 * radius
    assert record.lambda_min == pytest.approx(array[0], rel=0.1, abs=1.1e-2 * radius)
    told, different = [value.value for value in record.highest[:2]], sorted(set(eigenvalues), reverse=True)
    near = {"rel": 0.02, "abs": 1e-3 * radius}
    assert told[0] == pytest.approx(array[-1], **near)
    if (
        len(told) == 2
    ):  # the second largest, or of copies, which the start touches as one, the next smaller one
        assert any(told[1] == pytest.approx(exact, **near) for exact in {array[-2], *different[1:2]})
    assert sum(record.density.weights) == pytest.approx(1)


def test_a_saddle_is_told_by_a_direction_of_negative_curvature():
    symmetric = matrix(SADDLE)
    found = spectrum(operator(symmetric), Question(), generator())
    assert found.settled
    assert found.spectrum.lambda_min == pytest.approx(-0.5, rel=0.1)
    assert float(found.lowest @ symmetric @ found.lowest) == pytest.approx(found.spectrum.lambda_min)
    assert float(found.lowest.norm()) == pytest.approx(1)


def test_to_prove_a_way_down_is_cheaper_than_to_follow_it():
    proven = spectrum(planted(SADDLE), Question(negative_to=None, top=0), generator()).spectrum
    followed = spectrum(planted(SADDLE), Question(negative_to=1e-6, top=0), generator()).spectrum
    assert proven.lambda_min < 0
    assert proven.products < followed.products
    assert followed.lambda_min == pytest.approx(-0.5, rel=1e-5)


def test_a_minimum_is_certified_to_the_tolerance_asked_for_and_a_coarser_one_is_cheaper():
    coarse, fine = (
        spectrum(planted(OUTLIERS), Question(tolerance=tolerance, top=0), generator()).spectrum
        for tolerance in (0.1, 0.003)
    )
    assert coarse.floor.tolerance <= 0.1
    assert fine.floor.tolerance <= 0.003
    assert coarse.products < fine.products <= 30


def test_a_restarted_run_answers_like_an_unbounded_one():
    question = Question(tolerance=1e-4, top=3, top_to=1e-4)
    whole = spectrum(diagonal(SADDLE), question, generator())
    bounded = spectrum(diagonal(SADDLE), question, generator(), room=Room(14))
    assert bounded.settled
    assert bounded.spectrum.lambda_min == pytest.approx(whole.spectrum.lambda_min, rel=0.01)
    for mine, other in zip(bounded.spectrum.highest[:3], whole.spectrum.highest[:3], strict=True):
        assert mine.value == pytest.approx(other.value, rel=1e-3)
    assert bounded.spectrum.products < 3 * whole.spectrum.products


def test_repeated_eigenvalues_are_listed_as_often_as_they_occur():
    found = spectrum(planted([3.0] * 3 + [1.0] * 2 + [0.0] * 40), Question(top=5), generator()).spectrum
    assert [each.value for each in found.highest[:5]] == pytest.approx([3, 3, 3, 1, 1])
    assert found.products < 45


def test_equal_generators_give_equal_answers_and_the_global_one_is_not_touched():
    before = torch.random.get_rng_state()
    first, second = (spectrum(planted(SADDLE), Question(probes=3), generator(7)) for _ in range(2))
    assert first.spectrum == second.spectrum
    assert torch.equal(first.lowest, second.lowest)
    assert torch.equal(before, torch.random.get_rng_state())


def interrupting(eigenvalues, after: int) -> Operator:
    of, calls = diagonal(eigenvalues), []

    def matvec(vector):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return of.matvec(vector)

    return Operator(matvec, of.size, of.like)


@pytest.mark.parametrize("after", [1, 2, 7])
def test_ctrl_c_returns_what_is_known(after):
    found = spectrum(interrupting(SADDLE, after), Question(negative_to=1e-9), generator())
    assert found.interrupted
    assert not found.settled
    assert found.spectrum.products == after
    assert found.spectrum.floor.bound <= -0.5
    assert -0.5 <= found.spectrum.lambda_min <= found.spectrum.lambda_max <= 5


def test_ctrl_c_during_the_probes_keeps_the_run_and_the_probes_before_it():
    products = spectrum(diagonal(SADDLE), Question(), generator()).spectrum.products
    found = spectrum(interrupting(SADDLE, products + 2), Question(probes=5), generator())
    assert found.interrupted
    assert found.spectrum.products == products + 2


def test_ctrl_c_before_anything_is_known_goes_through():
    with pytest.raises(KeyboardInterrupt):
        spectrum(interrupting(SADDLE, 0), Question(), generator())


def test_a_run_stops_when_told_or_when_its_products_are_spent():
    told = spectrum(diagonal(SADDLE), Question(), generator(), should_stop=lambda: True)
    spent = spectrum(diagonal(SADDLE), Question(negative_to=1e-9, max_products=5), generator())
    assert (told.spectrum.products, told.settled, told.interrupted) == (1, False, False)
    assert (spent.spectrum.products, spent.settled) == (5, False)


def test_progress_is_told_in_order():
    heard = []
    found = spectrum(diagonal(SADDLE), Question(), generator(), progress=heard.append)
    assert [each.products for each in heard] == sorted({each.products for each in heard})
    assert heard[-1].lambda_max == found.spectrum.lambda_max


def test_a_negative_eigenvalue_within_the_noise_is_not_called_one():
    quiet = diagonal([-1e-4, *np.linspace(0.2, 1, 60)])
    noisy = Operator(quiet.matvec, quiet.size, quiet.like, noise=1e-3)
    found = spectrum(noisy, Question(tolerance=1e-6, negative_to=None), generator())
    assert found.spectrum.floor.tolerance >= 1e-3
    assert found.settled
