import ctypes
import gc
import itertools
import math
import sys

import psutil
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from zoo import CLASSES, FEATURES, MODELS, batches, generator, perceptron, training

from unstuck import Training, supervised
from unstuck.objective import Objective, draw
from unstuck.objective.graphs import keep

CROSS_ENTROPY = supervised(nn.functional.cross_entropy)


def objective(model: nn.Module, data: list, optimizer=None, dtype=torch.float64) -> Objective:
    drawn = draw(data, seed=0, enough=lambda *_: False)
    return Objective(Training(model, CROSS_ENTROPY, data, optimizer), drawn.batches, dtype=dtype)


def decayed() -> Objective:
    torch.manual_seed(0)
    model = perceptron()
    groups = [{"params": model[0].parameters(), "weight_decay": 0.2}, {"params": model[2].parameters()}]
    return objective(model, batches(8, 8, 8, 5), torch.optim.SGD(groups, lr=0.1))


def dense(sampled: Objective) -> Tensor:
    """The Hessian of the plain loop, decay included."""
    (first, second), weights = sampled.replay.training.model[0::2], sampled.weights
    decay = torch.zeros_like(sampled.theta)
    decay[: first.weight.numel() + first.bias.numel()] = 0.2

    def loss(theta: Tensor) -> Tensor:
        w1, b1, w2, b2 = sampled.parameters.pieces(theta)
        losses = [
            nn.functional.cross_entropy(torch.tanh(x @ w1.T + b1) @ w2.T + b2, y)
            for x, y in (batch.content for batch in sampled.batches)
        ]
        return sum(w * loss for w, loss in zip(weights, losses, strict=True)) + 0.5 * (decay * theta**2).sum()

    assert second.out_features == CLASSES
    return hessian(loss, sampled.theta)


def memory_of(sampled: Objective, kept: float) -> float:
    """A cap that allows so many graphs."""
    first = sampled.batches[0]
    with sampled.replay.session():
        return kept * 1.3 * keep(sampled.replay, first, sampled.theta).nbytes


@pytest.mark.parametrize(
    ("kept", "engine"), [(math.inf, "retained"), (0.0, "fresh"), (2.5, "retained + fresh"), (0.5, "fresh")]
)
def test_every_engine_gives_the_rows_of_the_dense_hessian(kept, engine):
    sampled = decayed()
    expected = dense(sampled)
    memory = memory_of(sampled, kept) if math.isfinite(kept) else kept
    with sampled.products(sampled.theta, memory=memory) as products:
        assert products.engine == engine
        rows = torch.stack([products(unit) for unit in torch.eye(sampled.size, dtype=torch.float64)[::7]])
        torch.testing.assert_close(rows, expected[::7])
    assert products.engine == "fresh"


def test_many_vectors_at_once_give_what_they_give_alone():
    sampled = decayed()
    columns = torch.randn(sampled.size, 5, generator=generator(), dtype=torch.float64)
    expected = dense(sampled) @ columns
    for memory in (math.inf, 0.0):
        with sampled.products(sampled.theta, memory=memory) as products:
            torch.testing.assert_close(products.block(columns), expected)


def test_the_quotient_of_each_batch_is_that_of_its_own_hessian():
    sampled = decayed()
    vector = torch.randn(sampled.size, generator=generator(), dtype=torch.float64)
    alone = []
    for index in range(len(sampled.batches)):
        with sampled.products(sampled.theta, [index]) as products:
            alone.append(float(products(vector) @ vector / (vector @ vector)))
    assert sampled.quotients(sampled.theta, vector) == pytest.approx(alone)
    assert sampled.quotients(sampled.theta, vector, [2]) == pytest.approx(alone[2:3])


@pytest.mark.parametrize("memory", [0.0, math.inf])
def test_the_forms_of_each_batch_are_those_of_its_own_hessian(memory):
    sampled = decayed()
    vectors = torch.randn(3, sampled.size, generator=generator(), dtype=torch.float64)
    with sampled.products(sampled.theta, memory=memory) as products:
        found = products.forms(list(vectors))
    for index, form in enumerate(found):
        with sampled.products(sampled.theta, [index]) as products:
            own = torch.stack([products(vector) for vector in vectors])
        torch.testing.assert_close(form, vectors @ own.T)
    torch.testing.assert_close(sampled.forms(sampled.theta, list(vectors), [2]), found[2:3])


def test_the_forms_by_differences_are_as_good_as_the_differences():
    torch.manual_seed(0)
    rough = objective(MODELS["once differentiable"](), batches(8, 8, 5))
    vectors = torch.randn(2, rough.size, generator=generator(), dtype=torch.float64)
    vectors[1] *= 10.0
    found = rough.forms(rough.theta, list(vectors))
    with rough.products(rough.theta) as products:
        assert products.engine == "differences"
        whole = torch.stack([products(vector) for vector in vectors]) @ vectors.T
        limit = 3.0 * products.noise * float(whole.abs().max())
    mean = (torch.tensor(rough.weights, dtype=torch.float64)[:, None, None] * found).sum(dim=0)
    torch.testing.assert_close(mean, whole, rtol=0.0, atol=limit)
    torch.testing.assert_close(found, found.mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_are_as_good_as_they_say(dtype):
    torch.manual_seed(0)
    model = MODELS["once differentiable"]()
    smooth = nn.Sequential(model[0], nn.Tanh(), model[1])
    data = batches(8, 8, 5)
    exact, rough = objective(smooth, data), objective(model, data, dtype=dtype)
    assert exact.differentiable_twice
    assert not rough.differentiable_twice
    with exact.products(exact.theta) as truly, rough.products(rough.theta) as products:
        assert products.engine == "differences"
        eye = torch.eye(exact.size, dtype=torch.float64)
        curvature = torch.stack([truly(unit) for unit in eye])
        values, vectors = torch.linalg.eigh(curvature)
        radius = float(values.abs().max())
        drawn = torch.randn(exact.size, generator=generator(), dtype=torch.float64)
        for vector in (drawn / drawn.norm(), vectors[:, -1], vectors[:, 0], vectors[:, exact.size // 2]):
            error = float((products(vector.to(dtype)).double() - curvature @ vector).norm()) / radius
            assert error < 3.0 * products.noise
        limit = 1e-2 if dtype == torch.float32 else 1e-6
        assert products.noise < limit
    quotients = rough.quotients(rough.theta, drawn.to(dtype))
    assert quotients == pytest.approx(exact.quotients(exact.theta, drawn), rel=0, abs=3 * limit * radius)


def test_kinks_show_in_the_error_of_differences():
    torch.manual_seed(0)
    smooth, kinked = (
        objective(
            nn.Sequential(MODELS["once differentiable"](), activation, nn.Linear(3, 3)),
            batches(512),
            dtype=torch.float32,
        )
        for activation in (nn.Tanh(), nn.ReLU())
    )
    with smooth.products(smooth.theta) as products, kinked.products(kinked.theta) as others:
        assert products.noise < 1e-3
        assert others.noise > 3.0 * products.noise


def test_a_loss_that_is_linear_in_the_parameters_has_no_curvature():
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(FEATURES))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    data = batches(8)
    sampled = Objective(
        Training(Linear(), lambda model, batch: model(batch[0]).mean(), data),
        draw(data, seed=0, enough=lambda *_: False).batches,
    )
    with sampled.products(sampled.theta) as products:
        assert bool((products(sampled.theta) == 0).all())
        assert bool((products.block(torch.eye(FEATURES)) == 0).all())


def test_the_estimate_of_a_graphs_memory_is_near_what_it_takes():
    wide = nn.Sequential(*itertools.chain(*((nn.Linear(128, 128), nn.Tanh()) for _ in range(6))))
    inputs = torch.randn(4096, 128, generator=generator())
    targets = torch.zeros(4096, dtype=torch.int64)
    sampled = objective(wide, [(inputs, targets)] * 3, dtype=torch.float32)
    with sampled.replay.session():
        estimated = 3 * keep(sampled.replay, sampled.batches[0], sampled.theta).nbytes
    assert estimated > 4e7
    gc.collect()
    # What tests before this one have freed would be taken again, and not be seen.
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = psutil.Process().memory_info().rss
    with sampled.products(sampled.theta) as products:
        gc.collect()
        taken = psutil.Process().memory_info().rss - before
        assert products.engine == "retained"
    assert 0.6 < taken / estimated < 1.6


def test_functions_of_torch_func_in_a_loss_are_products_without_kept_graphs():
    def loss(model: nn.Module, batch) -> Tensor:
        slopes = torch.func.vmap(torch.func.grad(lambda x: model(x).logsumexp(-1)))(batch[0])
        return CROSS_ENTROPY(model, batch) + slopes.square().mean()

    torch.manual_seed(0)
    data = batches(8)
    drawn = draw(data, seed=0, enough=lambda *_: False)
    sampled = Objective(Training(perceptron(), loss, data), drawn.batches, dtype=torch.float64)
    vector = torch.randn(sampled.size, generator=generator(), dtype=torch.float64)
    step = 1e-5
    ahead, behind = (sampled.gradient(sampled.theta + side * step * vector) for side in (1.0, -1.0))
    with sampled.products(sampled.theta) as products:
        torch.testing.assert_close(products(vector), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)


def test_what_float32_leaves_of_the_symmetry_is_measured():
    torch.manual_seed(0)
    sampled = objective(MODELS["lstm"](), batches(8, 8), dtype=torch.float32)
    with sampled.products(sampled.theta) as products:
        assert 0.0 < products.noise < 1e-3


@pytest.mark.parametrize("name", ["sparse embedding", "reentrant checkpoint", "renormed embedding"])
def test_what_cannot_be_kept_is_made_afresh(name):
    torch.manual_seed(0)
    sampled = objective(MODELS[name](), training(MODELS[name]()).data)
    vector = torch.randn(sampled.size, generator=generator(), dtype=torch.float64)
    with sampled.products(sampled.theta) as kept, sampled.products(sampled.theta, memory=0.0) as fresh:
        torch.testing.assert_close(kept(vector), fresh(vector))
