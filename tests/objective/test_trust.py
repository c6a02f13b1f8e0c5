import math

import pytest
import torch
from torch import nn
from zoo import FEATURES, MODELS, batches, generator, penalised, perceptron, training

from unstuck import Training, supervised
from unstuck.objective import Objective, draw
from unstuck.objective.trust import _asymmetry, examine

CROSS_ENTROPY = supervised(nn.functional.cross_entropy)


def error(made: Training, dtype: torch.dtype | None = None) -> float:
    sampled = Objective(made, draw(made.data, seed=0, enough=lambda *_: False).batches, dtype=dtype)
    return examine(sampled.replay, sampled.batches[0], sampled.theta).error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["batch norm", "lstm", "attention", "checkpoint", "sparse embedding"])
def test_what_autograd_differentiates_twice_is_trusted(name, dtype):
    torch.manual_seed(0)
    assert error(training(MODELS[name]()), dtype) < 1e-4


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardtanh, nn.LeakyReLU])
def test_kinks_are_no_reason_for_distrust(activation):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(FEATURES, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 3)
    )
    assert error(Training(model, CROSS_ENTROPY, batches(256))) < 1e-4


@pytest.mark.parametrize(("activation", "gradients"), [(nn.Tanh, 5), (nn.GELU, 5), (nn.ReLU, 11)])
def test_a_few_gradients_of_a_batch_settle_it(activation, gradients):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(FEATURES, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 3)
    )
    data = batches(256)
    sampled = Objective(
        Training(model, CROSS_ENTROPY, data), draw(data, seed=0, enough=lambda *_: False).batches
    )
    spent = sampled.ledger.gradients(256)
    examined = examine(sampled.replay, sampled.batches[0], sampled.theta)
    assert examined.error < 1e-4
    assert examined.first is not None
    assert sampled.ledger.gradients(256) - spent <= gradients


def test_where_a_smaller_batch_goes_through_a_kernel_without_second_derivatives_differences_stand_in():
    class Distances(nn.Module):
        """Of more than 25 rows PyTorch makes them by products of matrices, of fewer by a kernel of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.randn(3, FEATURES))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -torch.cdist(x, self.centres)

    torch.manual_seed(0)
    inputs, labels = torch.randn(40, FEATURES), torch.randint(3, (40,))
    data = [(inputs[:30], labels[:30]), (inputs[30:], labels[30:])]
    made = Training(Distances(), CROSS_ENTROPY, data)
    sampled = Objective(made, draw(data, seed=0, enough=lambda *_: False).batches)
    with sampled.products(sampled.theta) as products:
        assert products.engine == "differences"
        assert bool(products(torch.ones_like(sampled.theta)).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_straight_through_gradient_is_not_taken_for_a_kink(dtype):
    class Through(nn.Module):
        """Goes forward as one function and backward as another: no product by autograd says how g changes."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square() + (x.exp() - x.square()).detach()

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.linspace(0.5, 1.5, FEATURES))
            self.through = Through()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.through(self.w).expand(len(x), FEATURES)

    def loss(model: nn.Module, batch: tuple) -> torch.Tensor:
        return model(batch[0]).square().mean()

    assert error(Training(Sum(), loss, batches(8)), dtype) == math.inf


def test_a_backward_pass_cut_off_from_autograd_is_found_out_even_where_the_rest_is_symmetric():
    model = MODELS["once differentiable"]()
    alone = nn.Sequential(model, nn.Identity())
    alone[0][1].requires_grad_(requires_grad=False)
    assert error(Training(alone, CROSS_ENTROPY, batches(64)), torch.float64) == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pytorchs_own_wrong_second_derivatives_are_found_out(dtype):
    torch.manual_seed(0)
    assert error(training(MODELS["parametrizations"]()), dtype) == math.inf
    assert error(training(MODELS["batch norm"](), penalised), dtype) == math.inf


def test_where_no_hessian_exists_the_symmetric_one_of_autograd_is_kept():
    def detaching(model: nn.Module, batch: tuple) -> torch.Tensor:
        outputs = model(batch[0])
        return (outputs - 0.9 * outputs.detach().roll(1, dims=1)).square().mean()

    torch.manual_seed(0)
    assert error(Training(perceptron(), detaching, batches(16)), torch.float64) < 1e-10


def test_the_asymmetry_is_the_error_that_was_planted():
    size = 400
    matrix = torch.randn(size, size, generator=generator(), dtype=torch.float64)
    symmetric = matrix + matrix.T
    probes = torch.randn(30, size, generator=generator(1), dtype=torch.float64)
    assert _asymmetry(probes, probes @ symmetric) < 1e-14
    products = probes @ symmetric
    noise = torch.randn(products.shape, generator=generator(2), dtype=torch.float64)
    noisy = products + 1e-3 * noise / noise.norm(dim=1, keepdim=True) * products.norm(dim=1, keepdim=True)
    assert _asymmetry(probes, noisy) == pytest.approx(1e-3, rel=0.2)
