import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo import CLASSES, FEATURES, batches, generator

from unstuck import Training, supervised
from unstuck.objective import Objective, draw
from unstuck.objective.swift import Swift

CROSS_ENTROPY = supervised(nn.functional.cross_entropy)


class Gelus(nn.Module):
    """GELU as a module and as a function, in both of its forms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.gelu(self.second(nn.GELU()(self.first(x))), approximate="tanh")
        return self.last(functional.gelu(hidden))


def normalised() -> nn.Module:
    model = nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)),
        nn.Conv1d(1, 4, 3),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.BatchNorm1d(4, affine=False),
        nn.Flatten(),
        nn.LazyLinear(CLASSES),
    )
    for _ in range(3):  # statistics that are none of 0 and 1
        model(torch.randn(16, FEATURES, generator=generator()))
    return model.eval()


def sampled(model: nn.Module, loss=CROSS_ENTROPY, dtype: torch.dtype = torch.float64) -> Objective:
    data = batches(8, 5)
    drawn = draw(data, seed=0, enough=lambda *_: False)
    return Objective(Training(model, loss, data), drawn.batches, dtype=dtype)


def hessian(objective: Objective, *, memory: float, swift: bool) -> Tensor:
    with objective.products(objective.theta, memory=memory) as first:
        assert first.engine in ("retained", "fresh")
    assert objective.replay.swift
    objective.replay.swift = swift
    with objective.products(objective.theta, memory=memory) as products:
        return products.block(torch.eye(objective.size, dtype=torch.float64))


@pytest.mark.parametrize("memory", [0.0, float("inf")])
@pytest.mark.parametrize("make", [Gelus, normalised])
def test_what_is_exchanged_has_the_second_derivative_of_what_it_stands_for(make, memory):
    torch.manual_seed(0)
    objective = sampled(make())
    swift, plain = (hessian(objective, memory=memory, swift=swift) for swift in (True, False))
    torch.testing.assert_close(swift, plain)
    assert not torch.equal(swift, plain)  # something was exchanged


@pytest.mark.parametrize("make", [Gelus, normalised])
def test_what_is_exchanged_has_the_same_value_and_gradient(make):
    torch.manual_seed(0)
    model = make().double()
    inputs = torch.randn(8, FEATURES, generator=generator(), dtype=torch.float64)

    def gradients() -> list[Tensor]:
        outputs = model(inputs)
        return [outputs, *torch.autograd.grad(outputs.square().sum(), list(model.parameters()))]

    expected = gradients()
    with Swift():
        found = gradients()
    torch.testing.assert_close(found, expected)


def test_batch_norm_that_learns_its_statistics_is_left_alone():
    model = nn.BatchNorm1d(FEATURES)
    inputs = torch.randn(8, FEATURES, generator=generator())
    expected = model(inputs)
    before = model.running_mean.clone()
    with Swift():
        assert torch.equal(model(inputs), expected)
    assert not torch.equal(model.running_mean, before)


def test_a_loss_that_differentiates_by_itself_is_differentiated_with_the_plain_kernels():
    def bent(model: nn.Module, batch: tuple) -> Tensor:
        inputs = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(inputs).logsumexp(1).sum(), inputs, create_graph=True)
        return CROSS_ENTROPY(model, batch) + slope.square().mean()

    torch.manual_seed(0)
    objective = sampled(Gelus(), bent)
    vector = torch.randn(objective.size, generator=generator(), dtype=torch.float64)
    step = 1e-5
    ahead, behind = (objective.gradient(objective.theta + side * step * vector) for side in (1.0, -1.0))
    with objective.products(objective.theta) as products:
        assert products.engine == "retained"
        torch.testing.assert_close(products(vector), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)
    assert not objective.replay.swift
