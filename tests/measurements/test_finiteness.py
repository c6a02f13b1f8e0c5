import math

import pytest
import torch
from tests.objective.fingerprint import unchanged
from torch import nn

from unstuck import Training, supervised
from unstuck.findings.updates import non_finite
from unstuck.measurements.finiteness import find_non_finite
from unstuck.objective import draw

LOSS = supervised(nn.functional.cross_entropy)


def data(examples=12):
    drawn = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 5, generator=drawn), torch.randint(3, (4,), generator=drawn))
        for _ in range(examples // 4)
    ]


def network(*between):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), *between, nn.Tanh(), nn.Linear(8, 3))


def look(training):
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    with unchanged(training):
        found = find_non_finite(training, batches)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    if found is not None:
        assert found.name in non_finite(found).explanation
    return found


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_number_in_the_data_is_found_in_its_batch(value):
    batches = data()
    batches[2][0][1, 3] = value
    found = look(Training(network(), LOSS, batches))
    # The infinity is first met in the data as well: no operation made it out of finite numbers.
    assert (found.place, found.name, found.batch) == ("data", "batch[0]", 2)


def test_batches_that_are_dictionaries_are_named_by_their_keys():
    batches = [{"x": x, "y": y} for x, y in data()]
    batches[1]["x"][0, 0] = math.nan
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch["x"]), batch["y"])  # noqa: E731
    assert look(Training(network(), loss, batches)).name == "batch['x']"


def test_a_broken_parameter_a_broken_buffer_and_a_broken_state_are_found():
    model = network(nn.BatchNorm1d(8))
    optimizer = torch.optim.Adam(model.parameters())
    LOSS(model, data()[0]).backward()
    optimizer.step()
    optimizer.state[model[3].weight]["exp_avg_sq"][0, 0] = math.inf
    found = look(Training(model, LOSS, data(), optimizer))
    assert (found.place, found.name) == ("state", "exp_avg_sq of 3.weight")
    model[1].running_var[2] = math.nan
    assert look(Training(model, LOSS, data(), optimizer)).name == "1.running_var"
    with torch.no_grad():
        model[3].bias[0] = math.nan
    assert look(Training(model, LOSS, data(), optimizer)).name == "3.bias"


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: (x - x).log(), "log"),
        (lambda x: (x - x) / (x - x), "div"),
        (lambda x: (1000.0 * x.abs() + 1000.0).exp(), "exp"),
    ],
)
def test_the_module_and_the_operation_that_break_the_forward_pass_are_named(function, operation):
    found = look(Training(network(Calls(function)), LOSS, data()))
    assert (found.place, found.name, found.operation, found.overflow) == ("forward", "1", operation, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_overflow_of_half_precision_is_told_from_what_float32_does_not_bear_either(dtype):
    model = network(Calls(lambda x: (200.0 * x.to(dtype) + 100.0).square().exp().float().log().float()))
    overflowing = network(Calls(lambda x: ((x + 300.0).to(dtype).square() * 1e-6).float()))
    assert look(Training(model, LOSS, data())).overflow is False
    found = look(Training(overflowing, LOSS, data()))
    assert found is None if dtype is torch.float32 else found.overflow and found.dtype == "float16"


def test_a_gradient_that_breaks_while_the_loss_is_finite_is_named():
    model = network(Calls(lambda x: x + (x - x).square().sum(1, keepdim=True).sqrt()))
    found = look(Training(model, LOSS, data()))
    assert (found.place, found.name) == ("gradient", "0.bias") or found.name == "0.weight"
    assert found.kind == "NaN"


def test_masks_of_infinities_and_missing_values_that_the_loss_leaves_out_are_none():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((5, 5), -math.inf).triu(1))
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            scores = (x.unsqueeze(2) * x.unsqueeze(1) + self.mask).softmax(-1)
            return self.layer((scores @ x.unsqueeze(-1)).squeeze(-1))

    assert look(Training(Masked(), LOSS, data())) is None
    batches = data()
    batches[0][0][0, 0] = math.nan

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0].nan_to_num()), batch[1])

    assert look(Training(network(), loss, batches)) is None


@pytest.mark.parametrize("between", [(), (nn.BatchNorm1d(8),), (nn.Dropout(0.5),), (nn.LayerNorm(8),)])
def test_nothing_is_found_where_all_is_finite(between):
    assert look(Training(network(*between), LOSS, data())) is None
