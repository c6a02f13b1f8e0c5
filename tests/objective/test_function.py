import copy
import math
import random as random_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from zoo import CASES, CLASSES, FEATURES, MODELS, batches, perceptron, training

from unstuck import Training, supervised
from unstuck.objective import Draw, Objective, draw

CROSS_ENTROPY = supervised(nn.functional.cross_entropy)
SIZES = (8, 8, 8, 5)

every_training = pytest.mark.parametrize(
    ("make", "loss"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


def everything(data: Any) -> Draw:
    return draw(data, seed=0, enough=lambda *_: False)


def objective(training: Training, **options: Any) -> Objective:
    return Objective(training, everything(training.data).batches, **options)


def smooth(*sizes: int, **options: Any) -> Objective:
    torch.manual_seed(0)
    return objective(Training(perceptron().double(), CROSS_ENTROPY, doubled(*(sizes or SIZES))), **options)


def doubled(*sizes: int) -> list[Any]:
    return [(inputs.double(), targets) for inputs, targets in batches(*sizes)]


def direction(theta: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(theta.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        theta
    )


def dense(sampled: Objective, model: nn.Module, data: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient and Hessian of the mean over all examples, without batches."""
    inputs, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    names = [slot.name for slot in sampled.parameters.slots]

    def whole(flat: Tensor) -> Tensor:
        given = dict(zip(names, sampled.parameters.pieces(flat), strict=True))
        return nn.functional.cross_entropy(functional_call(model, given, (inputs,)), targets)

    flat = sampled.theta.clone().requires_grad_()
    value = whole(flat)
    (slope,) = torch.autograd.grad(value, flat)
    return value.detach(), slope, hessian(whole, sampled.theta)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    hidden=st.integers(1, 5),
    parameters=st.sampled_from([torch.float32, torch.float64]),
)
@settings(deadline=None, derandomize=True, max_examples=12)
def test_value_gradient_and_products_are_those_of_the_mean_over_all_examples(sizes, hidden, parameters):
    torch.manual_seed(hidden)
    model = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES)).to(parameters)
    data = [(inputs.to(parameters), targets) for inputs, targets in batches(*sizes)]
    sampled = objective(Training(model, CROSS_ENTROPY, data))
    value, slope, curvature = dense(sampled, model, data)
    close = {"rtol": 1e-4, "atol": 1e-5} if parameters == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
    vector = direction(sampled.theta)
    torch.testing.assert_close(sampled.value(sampled.theta), float(value), **close)
    torch.testing.assert_close(sampled.gradient(sampled.theta), slope, **close)
    with sampled.products(sampled.theta) as products:
        torch.testing.assert_close(products(vector), curvature @ vector, **close)


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float16])
def test_parameters_of_half_precision_are_a_vector_of_float32_and_give_what_the_plain_loop_gives(parameters):
    torch.manual_seed(0)
    model = perceptron().to(parameters)
    data = [(inputs.to(parameters), targets) for inputs, targets in batches(8)]
    sampled = objective(Training(model, CROSS_ENTROPY, data))
    assert sampled.theta.dtype == torch.float32
    CROSS_ENTROPY(model, data[0]).backward()
    expected = torch.cat([parameter.grad.float().reshape(-1) for parameter in model.parameters()])
    assert torch.equal(sampled.gradient(sampled.theta), expected)
    with sampled.products(sampled.theta) as products:
        assert products.noise > 2e-5  # more than float32 would have


def test_parameters_of_mixed_types_are_a_vector_of_the_widest():
    model = nn.ModuleDict({"first": nn.Linear(FEATURES, 4).bfloat16(), "second": nn.Linear(4, CLASSES)})

    def loss(given: Any, batch: Any) -> Tensor:
        inner = given["first"](batch[0].bfloat16()).float().tanh()
        return nn.functional.cross_entropy(given["second"](inner), batch[1])

    sampled = objective(Training(model, loss, batches(*SIZES)))
    assert sampled.theta.dtype == torch.float32
    assert sampled.size == sum(parameter.numel() for parameter in model.parameters())
    assert bool(sampled.gradient(sampled.theta).isfinite().all())


@every_training
def test_the_same_parameters_give_the_same_value_and_gradient_bit_for_bit(make, loss):
    torch.manual_seed(0)
    sampled = objective(training(make(), loss))
    theta = sampled.theta + 0.01 * direction(sampled.theta)
    first, gradient = sampled.value(theta), sampled.gradient(theta)
    torch.rand(3)
    sampled.value(sampled.theta)
    assert sampled.value(theta) == first
    assert torch.equal(sampled.gradient(theta), gradient)
    again, _ = sampled.value_and_gradient(theta)
    assert again == pytest.approx(first, rel=1e-6)


# What updates itself in forward by detached statistics gives autograd another gradient than the value has.
CONSERVATIVE = [
    name
    for name in MODELS
    if name not in ("spectral norm by hooks", "parametrizations", "renormed embedding")
]


@pytest.mark.parametrize("name", CONSERVATIVE)
def test_gradient_and_products_are_the_slopes_of_value_and_gradient(name):
    torch.manual_seed(0)
    sampled = objective(training(MODELS[name]()), dtype=torch.float64)
    theta = sampled.theta + 0.01 * direction(sampled.theta)
    vector, step = direction(sampled.theta, seed=2), 1e-5
    vector /= vector.norm()
    ahead, behind = theta + step * vector, theta - step * vector
    slope = (sampled.value(ahead) - sampled.value(behind)) / (2 * step)
    assert float(sampled.gradient(theta) @ vector) == pytest.approx(slope, rel=1e-5, abs=1e-8)
    expected = (sampled.gradient(ahead) - sampled.gradient(behind)) / (2 * step)
    for memory in (0.0, math.inf):
        with sampled.products(theta, memory=memory) as products:
            assert float((products(vector) - expected).norm()) < 1e-5 * float(expected.norm())


def test_a_checkpoint_is_computed_again_with_the_parameters_asked_for_and_not_with_the_users():
    torch.manual_seed(0)
    model, data = MODELS["checkpoint"](), batches(*SIZES)
    sampled = objective(Training(model, CROSS_ENTROPY, data))
    theta = sampled.theta + direction(sampled.theta)
    away = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, piece in zip(away.parameters(), sampled.parameters.pieces(theta), strict=True):
            parameter.copy_(piece)
    moved = objective(Training(away, CROSS_ENTROPY, data))
    assert torch.equal(sampled.gradient(theta), moved.gradient(moved.theta))


def test_a_hessian_that_the_fused_weight_norm_of_pytorch_gets_wrong_is_taken_by_differences():
    torch.manual_seed(0)
    sampled = objective(training(MODELS["parametrizations"]()), dtype=torch.float64)
    vector = direction(sampled.theta)
    step = 1e-5 / float(vector.norm())
    expected = sampled.gradient(sampled.theta + step * vector) - sampled.gradient(
        sampled.theta - step * vector
    )
    with sampled.products(sampled.theta) as products:
        assert products.engine == "differences"
        assert float((products(vector) - expected / (2 * step)).norm()) < 1e-6 * float(
            products(vector).norm()
        )


def test_batch_norm_in_train_mode_uses_the_batch_and_in_eval_mode_the_running_statistics():
    torch.manual_seed(0)
    model, data = MODELS["batch norm"](), batches(*SIZES)
    reference = copy.deepcopy(model)
    for mode in (True, False):
        sampled = objective(Training(model.train(mode), CROSS_ENTROPY, data))
        with torch.no_grad():
            expected = [float(CROSS_ENTROPY(copy.deepcopy(reference).train(mode), batch)) for batch in data]
        assert sampled.values(sampled.theta) == pytest.approx(expected, rel=1e-6)


def test_dropout_is_drawn_anew_for_each_batch_and_each_seed():
    torch.manual_seed(0)
    (batch,) = batches(8)
    sampled = objective(Training(MODELS["dropout"](), CROSS_ENTROPY, [batch, batch]))
    first, second = sampled.values(sampled.theta)
    assert first != second
    assert sampled.stochastic
    assert not smooth().stochastic


@pytest.mark.parametrize(
    ("drawn", "random"),
    [
        (lambda _: 1.0, False),
        (lambda _: random_module.random(), True),  # noqa: S311
        (lambda _: float(np.random.rand()), True),
        (lambda _: float(torch.rand(())), True),
        (lambda own: float(own.random()), True),
        # Not seeded by anybody, and so another at every call.
        (lambda _: float(np.random.default_rng().random()), True),
        # Drawn, but always the same.
        (lambda _: torch.manual_seed(3).initial_seed() + float(torch.rand(())), False),
    ],
)
def test_it_is_known_whether_the_loss_draws_random_numbers(drawn, random):
    own = np.random.default_rng(0)
    plain = supervised(nn.CrossEntropyLoss())

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return (1.0 + drawn(own)) * plain(model, batch)

    model = perceptron()
    made = Training(model, loss, batches(8), torch.optim.SGD(model.parameters(), lr=0.1))
    assert Objective(made, draw(made.data, seed=0, enough=lambda *_: False).batches).stochastic is random


def test_batches_alone_add_up_to_the_whole():
    sampled = smooth()
    theta, vector = sampled.theta, direction(sampled.theta)
    weights = torch.tensor(sampled.weights, dtype=torch.float64)
    assert sampled.weights == tuple(size / sum(SIZES) for size in SIZES)
    values, gradients = zip(*sampled.batch_gradients(theta), strict=True)
    assert list(values) == sampled.values(theta)
    gradients = torch.stack(gradients)
    torch.testing.assert_close(weights @ gradients, sampled.gradient(theta))
    with sampled.products(theta) as products:
        whole = float(products(vector) @ vector / (vector @ vector))
    quotients = torch.tensor(sampled.quotients(theta, vector), dtype=torch.float64)
    assert float(weights @ quotients) == pytest.approx(whole)
    torch.testing.assert_close(sampled.gradient(theta, [1]), gradients[1])


def test_losses_alone_may_be_computed_by_the_fused_kernels_and_gradients_never(capsys):
    def loss(model, batch):
        print(torch.backends.cuda.flash_sdp_enabled())  # noqa: T201  # what it keeps would be put back
        return model(batch).square().mean()

    torch.manual_seed(0)
    data = [torch.randn(4, 3)]
    sampled = Objective(
        Training(nn.Linear(3, 2), loss, data), draw(data, seed=0, enough=lambda *_: True).batches
    )

    def kernels(evaluate):
        capsys.readouterr()
        evaluate(sampled.theta)
        return set(capsys.readouterr().out.split())

    assert kernels(sampled.values) == {"False"}
    sampled.replay.fused = True
    assert kernels(sampled.values) == {str(torch.backends.cuda.flash_sdp_enabled())} == {"True"}
    assert kernels(sampled.gradient) == kernels(sampled.products(sampled.theta)) == {"False"}


def test_the_ledger_counts_in_gradients_over_the_sample():
    sampled = smooth()
    examples, ledger = sampled.examples, sampled.ledger
    sampled.gradient(sampled.theta)
    assert ledger.gradients(examples) == 1.0
    sampled.values(sampled.theta)
    assert ledger.gradients(examples) == 1.5
    sampled.gradient(sampled.theta, [0])
    assert ledger.gradients(examples) == pytest.approx(1.5 + SIZES[0] / examples)
    list(sampled.batch_gradients(sampled.theta))
    assert sampled.differentiable_twice
    before = ledger.gradients(examples)
    with sampled.products(sampled.theta) as products:
        products(sampled.theta)
    assert ledger.gradients(examples) == pytest.approx(before + 1.5 + 2.0)
    with sampled.products(sampled.theta, memory=0.0) as products:
        products(sampled.theta)
    assert ledger.gradients(examples) == pytest.approx(before + 3.5 + 3.0)
    assert ledger.products == 2


def test_float64_sees_what_float32_cannot():
    torch.manual_seed(0)
    model, data = perceptron(), batches(*SIZES)
    wide = objective(Training(model, CROSS_ENTROPY, data), dtype=torch.float64)
    exact = objective(Training(copy.deepcopy(model).double(), CROSS_ENTROPY, doubled(*SIZES)))
    assert wide.theta.dtype == torch.float64
    assert wide.value(wide.theta) == pytest.approx(exact.value(exact.theta), rel=1e-14)
    torch.testing.assert_close(wide.gradient(wide.theta), exact.gradient(exact.theta), rtol=1e-12, atol=1e-15)
    assert next(model.parameters()).dtype == torch.float32


def test_a_loss_that_overflows_somewhere_is_infinite_there():
    sampled = smooth()
    assert sampled.value(1e308 * torch.ones_like(sampled.theta)) == math.inf


def test_a_batch_that_only_later_fails_is_named():
    sampled = objective(Training(perceptron(), CROSS_ENTROPY, [*batches(4), *batches(4, features=5)]))
    with pytest.raises(
        Exception, match=r"`loss` failed on a batch of `data`, \(float32\[4, 5\], int64\[4\]\)"
    ):
        sampled.value(sampled.theta)
