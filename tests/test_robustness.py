"""Strangers' trainings: what cannot be said is left out with a reason, the rest is still said."""

import json
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from objective.fingerprint import unchanged
from unstuck import Cause, Diagnosis, Training, diagnose, supervised
from unstuck.demos.digits import digits

CROSS_ENTROPY = supervised(functional.cross_entropy)


def network(*, hidden: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))


def pairs(examples: int = 512, size: int = 64) -> list[tuple[Tensor, Tensor]]:
    images, labels = digits()
    return list(zip(images[:examples].split(size), labels[:examples].split(size), strict=True))


def diagnosed(training: Training, budget: float = 10.0) -> Diagnosis:
    with unchanged(training), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = diagnose(training, budget=budget)
    assert json.loads(found.to_json())["schema"] == 1
    assert str(found)
    return found


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=3e-3)


def test_one_batch_of_one_example():
    model = network()
    found = diagnosed(Training(model, CROSS_ENTROPY, pairs(1, 1), adam(model)))
    assert found.cause is Cause.HEALTHY
    left_out = {one.name for one in found.verdict.measured.omitted}
    assert left_out & {"labels", "noise", "order"}
    assert all(one.reason for one in found.verdict.measured.omitted)


class Endless(Dataset[Any]):
    """Ten thousand batches, and which of them were asked for."""

    def __init__(self) -> None:
        self.asked: set[int] = set()

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.asked.add(index)
        drawn = torch.Generator().manual_seed(index)
        inputs = torch.randn(32, 64, generator=drawn)
        return inputs, (inputs[:, 0] > 0).long() + 2 * (inputs[:, 1] > 0).long()


def test_of_ten_thousand_batches_a_sample_is_drawn():
    model, batches = network(), Endless()
    training = Training(model, CROSS_ENTROPY, DataLoader(batches, batch_size=None, shuffle=True), adam(model))
    found = diagnose(training, budget=10.0)
    assert found.cause is Cause.HEALTHY
    assert found.verdict.measured.sample.batches <= 512
    assert len(batches.asked) < 5_000


def constant(model: nn.Module, batch: Any) -> Tensor:
    return 0.0 * CROSS_ENTROPY(model, batch) + 1.0


@pytest.mark.parametrize("shift", [1.0, 0.0])
def test_a_constant_loss_is_a_plateau(shift):
    model = network()
    training = Training(model, lambda *given: constant(*given) - 1.0 + shift, pairs(), adam(model))
    assert diagnosed(training, budget=30.0).cause is Cause.PLATEAU


class Mixed(nn.Module):
    """Layers of three types, as left behind by a hand-made cast."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.second.bfloat16()
        self.third.double()

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images).tanh()
        return self.third(self.second(hidden.bfloat16()).double().tanh())


def test_parameters_of_mixed_types():
    model = Mixed()
    assert diagnosed(Training(model, CROSS_ENTROPY, pairs(), adam(model))).cause is Cause.HEALTHY


class Nameless(nn.Module):
    """Parameters in a list, functions instead of layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shapes = ((64, 16), (16,), (16, 10), (10,))
        self.weights = nn.ParameterList(nn.Parameter(0.1 * torch.randn(shape)) for shape in shapes)

    def forward(self, images: Tensor) -> Tensor:
        a, b, c, d = self.weights
        return torch.relu(images @ a + b) @ c + d


@pytest.mark.parametrize(("shift", "cause"), [(0.0, Cause.HEALTHY), (-100.0, Cause.DEAD_UNITS)])
def test_a_model_without_layers(shift, cause):
    model = Nameless()
    with torch.no_grad():
        model.weights[1].add_(shift)
    assert diagnosed(Training(model, CROSS_ENTROPY, pairs(), adam(model))).cause is cause


class Named(dict[str, Tensor]):
    """As transformers' BatchEncoding: values by keys and as attributes, moved as a whole."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: Any) -> "Named":
        return Named({name: value.to(device) for name, value in self.items()})


def wrapped(kind: str) -> list[Any]:
    made: dict[str, Any] = {
        "tuple": lambda images, labels: (images, {"wanted": labels}, "a name", None),
        "dict": lambda images, labels: {"images": images, "labels": labels, "id": list(range(len(labels)))},
        "named": lambda images, labels: Named(images=images, labels=labels),
    }
    return [made[kind](images, labels) for images, labels in pairs()]


def unwrapped(model: nn.Module, batch: Any) -> Tensor:
    if isinstance(batch, tuple):
        return functional.cross_entropy(model(batch[0]), batch[1]["wanted"])
    return functional.cross_entropy(model(batch["images"]), batch["labels"])


@pytest.mark.parametrize("kind", ["tuple", "dict", "named"])
def test_batches_of_any_kind(kind):
    model = network()
    found = diagnosed(Training(model, unwrapped, wrapped(kind), adam(model)))
    assert found.cause is Cause.HEALTHY
    labels = found.verdict.measured.labels
    assert labels is not None
    assert labels.p_value < 0.01


class Stranger(torch.optim.Optimizer):
    """Sign descent with a state of its own and groups without `lr`."""

    def __init__(self, parameters: Any, length: float) -> None:
        super().__init__(parameters, {"length": length})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["trace"] = 0.9 * state.get("trace", 0.0) + parameter.grad
                parameter.sub_(group["length"] * state["trace"].sign())


def test_an_optimizer_that_is_unknown():
    model = network()
    found = diagnosed(Training(model, CROSS_ENTROPY, pairs(), Stranger(model.parameters(), 1e-3)))
    assert found.cause is Cause.HEALTHY


class Raising(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        msg = "not today"
        raise RuntimeError(msg)


def test_an_optimizer_that_fails_leaves_the_rest_to_be_said():
    model = network()
    found = diagnosed(Training(model, CROSS_ENTROPY, pairs(), Raising(model.parameters(), lr=0.1)))
    assert any("not today" in one.reason for one in found.verdict.measured.omitted)
    assert found.verdict.measured.layers is not None


def test_without_an_optimizer_what_concerns_the_model_and_the_data_is_said():
    model = nn.Sequential(*network(), nn.Softmax(1))
    assert diagnosed(Training(model, CROSS_ENTROPY, pairs())).cause is Cause.MISMATCHED_LOSS
