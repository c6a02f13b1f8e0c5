import math
from collections import OrderedDict

import pytest
import torch
from tests.objective.fingerprint import unchanged
from tests.objective.zoo import CASES, training
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from unstuck import Training, supervised
from unstuck.errors import MeasurementError
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.model.layers import measure_layers
from unstuck.objective import Objective, draw

functional = nn.functional
LOSS = supervised(functional.cross_entropy)


def data(batches=4, size=16, features=6, dtype=torch.float32):
    drawn = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, features, generator=drawn).to(dtype),
            torch.randint(3, (size,), generator=drawn),
        )
        for _ in range(batches)
    ]


def look(model, batches=None, loss=LOSS):
    training = Training(model, loss, data() if batches is None else batches)
    return look_at(training)


def look_at(training):
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    everything = Halves.of(len(objective.batches), exhaustive=True)
    judge = Judge(objective, everything, objective.values(objective.theta))
    mkldnn = torch.backends.mkldnn.enabled
    with unchanged(training):
        found = measure_layers(training, judge)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert _get_current_dispatch_mode() is None
    assert torch.backends.mkldnn.enabled == mkldnn
    return found


def test_where_little_is_affordable_a_few_batches_are_watched():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    training = Training(model, LOSS, data(batches=12))
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    judge = Judge(objective, Halves.of(12, exhaustive=True), objective.values(objective.theta))

    def watched(affordable):
        before = objective.ledger.examples
        found = measure_layers(training, judge, affordable=affordable)
        return found.whole, (objective.ledger.examples - before) / (2.0 * 16)

    assert watched(math.inf) == (True, 12)
    assert watched(1.5) == (False, 6)
    assert watched(0.0) == (False, 3)


class Calls(nn.Module):
    """A network that calls a function where others have a module."""

    def __init__(self, function, depth=2):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))
        self.head = nn.Linear(6, 3)
        self.function = function

    def forward(self, x):
        for layer in self.inner:
            x = self.function(layer(x))
        return self.head(x)


@pytest.mark.parametrize(
    "function",
    [
        functional.relu,
        functional.relu_,
        functional.relu6,
        functional.gelu,
        functional.silu,
        functional.elu,
        functional.selu,
        functional.hardswish,
        functional.mish,
        functional.softplus,
        functional.leaky_relu,
        functional.hardsigmoid,
        functional.hardtanh,
        torch.tanh,
        torch.Tensor.tanh_,
        torch.sigmoid,
        lambda x: x.clamp(min=0),
        lambda x: x.clamp(-1, 1),
        lambda x: functional.threshold(x, 0.0, 0.0),
    ],
)
def test_every_nonlinearity_is_seen_whatever_calls_it_and_its_slope_is_that_of_differences(function):
    model = Calls(function)
    found = look(model)
    assert [layer.name for layer in found.activations] == ["inner.0", "inner.1"]
    assert [place.name for place in found.depths] == ["inner.0", "inner.1", "head"]
    x = torch.cat([model.inner[0](batch[0]) for batch in data()]).detach().double()
    h = 1e-6
    slope = (function((x + h).clone()) - function((x - h).clone())) / (2 * h)
    first = found.activations[0]
    grid = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    largest = float((function((grid + h).clone()) - function((grid - h).clone())).max()) / (2 * h)
    assert (first.units, first.seen) == (6, 64)
    assert first.slope == pytest.approx(float(slope.abs().mean()) / largest, rel=0.01)
    assert first.flat == pytest.approx(float((slope.abs() < 0.0099 * largest).double().mean()), abs=0.01)


def test_what_passes_is_the_gradient_at_the_input_over_that_at_the_output():
    model = Calls(torch.tanh)
    with torch.no_grad():
        model.inner[0].weight.mul_(5.0)
    x = torch.cat([batch[0] for batch in data()])
    y = torch.cat([batch[1] for batch in data()])
    z = model.inner[0](x)
    a = z.tanh()
    loss = functional.cross_entropy(model.head(torch.tanh(model.inner[1](a))), y)
    at_input, at_output = torch.autograd.grad(loss, (z, a))
    a, z = a.detach(), z.detach()
    flat = 1.0 - a.square() < 0.01
    pull = flat & (at_output * z > 0.0)
    found = look(model)
    first = found.activations[0]
    assert 0.0 < first.flat < 1.0
    assert first.passed == pytest.approx(float(at_input.norm() / at_output.norm()), rel=1e-4)
    assert first.leverage == pytest.approx(
        float((at_input * z)[flat].abs().sum()) / float(loss.detach()), rel=1e-4
    )
    assert first.back == pytest.approx(
        float(at_output[pull].square().sum() / at_output.square().sum()), rel=1e-4
    )
    per_example = at_input.norm(dim=1).square().mean().sqrt() * len(x)
    assert found.depths[0].gradient == pytest.approx(float(per_example), rel=1e-4)


def test_the_scale_of_each_parameter_and_its_gradient_is_their_root_mean_square():
    model = Calls(torch.tanh)
    found = look(model)
    torch.stack([LOSS(model, batch) for batch in data()]).mean().backward()
    for scale, (name, parameter) in zip(found.parameters, model.named_parameters(), strict=True):
        assert scale.name == name
        assert scale.weight == pytest.approx(float(parameter.detach().square().mean().sqrt()), rel=1e-5)
        assert scale.gradient == pytest.approx(float(parameter.grad.square().mean().sqrt()), rel=1e-4)


def test_units_that_never_fire_are_dead_and_the_layer_is_silent_if_all_are():
    model = Calls(torch.relu)
    with torch.no_grad():
        model.inner[0].bias[:2] = -100.0
        model.inner[1].bias.fill_(-100.0)
    first, second = look(model).activations
    assert first.dead == pytest.approx(2 / 6)
    assert (second.dead, second.flat, second.slope, second.silent) == (1.0, 1.0, 0.0, 1.0)
    assert first.passed is None or first.passed == 0.0


def test_units_that_are_given_the_same_on_all_examples_are_not_dead_themselves():
    model = Calls(torch.relu)
    with torch.no_grad():
        model.inner[0].bias.fill_(-100.0)
        model.inner[1].bias.fill_(-1.0)
    assert [layer.dead for layer in look(model).activations] == [1.0, 0.0]
    nn.init.zeros_(model.inner[0].weight)
    assert [layer.dead for layer in look(model).activations] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("function", "bias"), [(functional.relu6, 100.0), (torch.tanh, -9.0), (torch.sigmoid, 9.0)]
)
def test_units_beyond_their_bounds_are_saturated_and_not_dead(function, bias):
    model = Calls(function)
    with torch.no_grad():
        model.inner[0].bias[:3] = bias
    first = look(model).activations[0]
    assert (first.saturated, first.dead) == (pytest.approx(0.5), 0.0)


@pytest.mark.parametrize("shut", [0, 2, 6], ids=["open", "partly", "shut"])
def test_what_arrives_at_a_layer_is_seen_whatever_lets_it_through(shut):
    def gate(h):
        return torch.where((h > -9.0) & (torch.arange(6) >= shut), h, 0.0)

    inputs = {each.name: each for each in look(Calls(gate)).inputs}

    assert {name: (each.source, each.features, each.silent) for name, each in inputs.items()} == {
        # Behind weights that nothing arrives at, only their biases are heard.
        "inner.1": ("inner.0", 6, pytest.approx(shut / 6)),
        "head": ("inner.1", 6, pytest.approx(shut / 6)),
    }


def test_what_is_zero_because_the_weights_before_are_is_not_kept_from_arriving():
    model = Calls(torch.tanh)
    with torch.no_grad():
        model.inner[0].weight[1:] = model.inner[0].bias[1:] = 0.0
        model.inner[1].weight[1:] = model.inner[1].bias[1:] = 0.0

    assert [(each.name, each.silent) for each in look(model).inputs] == [("inner.1", 0.0), ("head", 0.0)]


def test_a_layer_of_zeros_is_not_asked_what_arrives_at_it():
    """Its inputs may be silenced by a gate of zero, to which no gradient comes either: a saddle."""
    model = Calls(torch.zeros_like)
    with torch.no_grad():
        model.head.weight[:] = 0.0

    assert [each.name for each in look(model).inputs] == ["inner.1"]


def test_channels_are_the_units_of_convolutions_and_features_those_of_sequences():
    torch.manual_seed(0)
    conv = nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)
    )
    sequence = nn.Sequential(
        nn.Unflatten(1, (3, 2)), nn.Linear(2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 3)
    )
    for model, positions in ((conv, 4), (sequence, 3)):
        (layer,) = look(model).activations
        assert (layer.units, layer.seen) == (5, 64 * positions)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.cell = kind(1, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.cell(x.unsqueeze(2))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_time_steps_are_told_apart_and_gates_are_known(kind):
    found = look(Recurrent(kind))
    (recurrent,) = (place for place in found.depths if place.steps)
    assert (recurrent.name, recurrent.calls, len(recurrent.steps)) == ("cell", 6, 6)
    assert recurrent.steps[0] < recurrent.steps[-1]
    sigmoids = [layer for layer in found.activations if layer.op == "sigmoid"]
    assert bool(sigmoids) == (kind is not nn.RNN)
    assert all(layer.gate for layer in sigmoids)


def test_the_gradient_of_each_time_step_is_that_of_autograd():
    model = Recurrent(nn.RNN)
    (batch,) = batches = data(1)
    h, products = torch.zeros(16, 5), []
    for step in range(6):
        x = batch[0][:, step : step + 1] @ model.cell.weight_ih_l0.T + model.cell.bias_ih_l0
        products.append(h @ model.cell.weight_hh_l0.T + model.cell.bias_hh_l0)
        h = (x + products[-1]).tanh()
    loss = functional.cross_entropy(model.head(h), batch[1])
    expected = [
        16 * float(slope.norm(dim=1).square().mean().sqrt()) for slope in torch.autograd.grad(loss, products)
    ]
    (recurrent,) = (place for place in look(model, batches).depths if place.steps)
    assert list(recurrent.steps) == pytest.approx(expected, rel=1e-4)


def test_weights_that_are_used_side_by_side_are_no_time_steps():
    model = Calls(torch.tanh)
    twins = lambda given, batch: (LOSS(given, batch) + LOSS(given, (-batch[0], batch[1]))) / 2  # noqa: E731
    found = look(model, loss=twins)
    assert all(place.calls == 2 and not place.steps for place in found.depths)
    assert found.blind is None


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("inside", [True, False])
def test_outputs_are_told_from_hidden_layers_even_if_the_loss_makes_them(kind, inside):
    squash = torch.sigmoid if kind == "sigmoid" else (lambda z: z.softmax(-1))
    model = Calls(torch.relu)
    squared = lambda outputs, y: functional.mse_loss(outputs, functional.one_hot(y, 3).float())  # noqa: E731
    if inside:
        found = look(model, loss=lambda given, batch: squared(squash(given(batch[0])), batch[1]))
    else:
        found = look(
            nn.Sequential(model, nn.Sigmoid() if kind == "sigmoid" else nn.Softmax(-1)),
            loss=supervised(squared),
        )
    assert [(layer.op, layer.output) for layer in found.activations] == [
        ("relu", False),
        ("relu", False),
        (kind, True),
    ]


def test_attention_is_no_saturated_output():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(2, 1, 4, batch_first=True)
    model = nn.Sequential(nn.Unflatten(1, (3, 2)), layer, nn.Flatten(), nn.Linear(6, 3))
    assert [layer.op for layer in look(model).activations] == ["relu"]


def test_outputs_that_are_wrong_and_cannot_answer_are_told_from_right_ones_and_from_a_loss_that_reaches_them():
    targets = torch.eye(3)
    batches = [(10.0 * targets.repeat(8, 1), torch.arange(3).repeat(8))] * 2
    model = nn.Linear(3, 3, bias=False)
    mse = lambda given, batch: functional.mse_loss(given(batch[0]).sigmoid(), targets[batch[1]])  # noqa: E731
    bce = lambda given, batch: functional.binary_cross_entropy(given(batch[0]).sigmoid(), targets[batch[1]])  # noqa: E731
    with torch.no_grad():
        model.weight.copy_(1.2 * (torch.ones(3, 3) - 2.0 * targets))
    wrong, heard = (look(model, batches, loss).activations[0] for loss in (mse, bce))
    assert wrong.flat == heard.flat == 1.0
    assert wrong.back > 0.99
    assert wrong.leverage < 0.01
    assert heard.leverage > 0.5
    with torch.no_grad():
        model.weight.neg_()
    right = look(model, batches, mse).activations[0]
    assert right.flat == 1.0
    assert right.back == 0.0


def test_a_blind_model_is_one_that_answers_with_its_mean_or_its_median():
    model = Calls(torch.tanh)
    outputs = torch.stack([model(batch[0]).detach() for batch in data()])
    targets = torch.cat([batch[1] for batch in data()])
    middles = outputs.mean((0, 1)), outputs.median(1).values.mean(0)
    losses = [float(functional.cross_entropy(middle.expand(len(targets), -1), targets)) for middle in middles]
    found = look(model)
    assert found.blind == pytest.approx(min(losses), rel=1e-5)
    assert found.learned == pytest.approx(1.0 - found.loss / found.blind)


def test_outputs_that_have_run_wild_on_a_few_examples_have_not_learnt_what_their_mean_costs():
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=drawn)
    inputs[0] = 1e3
    targets = torch.randint(2, (64, 1), generator=drawn).float()
    targets[0] = 0.0
    model = nn.Linear(6, 1)
    with torch.no_grad():
        model.weight.fill_(-1.0), model.bias.zero_()

    def loss(model, batch):
        # Of all inputs but one the model makes nothing.
        outputs = model(batch[0] * (batch[0].abs() > 100.0))
        return functional.binary_cross_entropy_with_logits(outputs, batch[1])

    assert look(model, [(inputs, targets)], loss).learned < 0.5


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.1])
def test_units_that_started_alike_and_learnt_alike_are_copies(noise):
    model = Calls(torch.tanh, depth=1)
    with torch.no_grad():
        model.inner[0].weight.fill_(0.3).add_(noise * torch.randn(6, 6))
        model.inner[0].bias.zero_()
        model.head.weight.copy_(torch.randn(3, 1).expand(3, 6))
    expected = 0.0 if noise > 1e-4 else 1.0

    layers = look(model)

    assert {scale.name: scale.copies for scale in layers.parameters if scale.copies} == (
        {"inner.0.weight": expected} if expected else {}
    )
    assert len(layers.alike) == expected


@pytest.mark.parametrize("zero", [("first", "second"), ("first",), ("second",), ()])
def test_two_factors_at_zero_wait_for_each_other_for_ever_and_one_does_not(zero):
    model = nn.Sequential(OrderedDict(first=nn.Linear(6, 6), act=nn.Tanh(), second=nn.Linear(6, 3)))
    for name in zero:
        nn.init.zeros_(model.get_submodule(name).weight), nn.init.zeros_(model.get_submodule(name).bias)

    waiting = {scale.name for scale in look(model).alike if scale.weight == 0.0}

    assert waiting == ({"first.weight", "second.weight"} if len(zero) == 2 else set())


def test_rows_that_are_equal_and_get_different_gradients_or_none_are_no_copies():
    model = Calls(torch.relu, depth=1)
    nn.init.zeros_(model.head.weight), nn.init.zeros_(model.head.bias)

    assert look(model).alike == ()


def test_one_example_alone_is_no_mean_to_hide_behind():
    found = look(Calls(torch.relu), data(1, 1))
    assert found.blind is None
    assert found.learned is None
    assert found.activations[0].seen == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_measured_alike(dtype):
    found, other = look(Calls(torch.tanh)), look(Calls(torch.tanh).to(dtype), data(dtype=dtype))
    assert [place.name for place in found.depths] == [place.name for place in other.depths]
    for single, this in zip(found.depths, other.depths, strict=True):
        assert this.gradient == pytest.approx(single.gradient, rel=0.1)


def test_frozen_layers_are_seen_forwards_and_get_no_gradient():
    model = Calls(torch.relu)
    model.inner[0].requires_grad_(requires_grad=False)
    found = look(model)
    assert [layer.name for layer in found.activations] == ["inner.0", "inner.1"]
    assert [place.name for place in found.depths] == ["inner.1", "head"]
    assert found.activations[0].passed is None


@pytest.mark.parametrize(("name", "make", "loss"), CASES, ids=[case[0] for case in CASES])
def test_nothing_is_changed_and_nothing_remains(name, make, loss):
    torch.manual_seed(0)
    found = look_at(training(make(), loss))
    assert found.depths or found.activations
    assert all(math.isfinite(place.gradient) for place in found.depths)


def test_a_model_without_weights_or_nonlinearities_says_so():
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x[:, :3] + self.shift

    with pytest.raises(MeasurementError, match="no weight and no nonlinearity"):
        look(Shift())
