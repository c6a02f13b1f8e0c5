import copy

import pytest
import torch
from tests.measurements.test_steps import Counting
from tests.objective.fingerprint import unchanged
from torch import nn

from unstuck import Training, supervised
from unstuck.demos.digits import digits
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.model.letting import StraightThrough, letting_through
from unstuck.measurements.model.wiring import measure_wiring
from unstuck.measurements.optimizer.steps import next_step
from unstuck.objective import Objective, draw

LOSS = supervised(nn.functional.cross_entropy)


def data(examples=320, size=40):
    images, labels = digits()
    return list(zip(images[:examples].split(size), labels[:examples].split(size), strict=True))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


def look(training, dtype=None):
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    objective = Objective(training, drawn.batches, dtype=dtype)
    halves = Halves.of(len(drawn.batches), exhaustive=False)
    judge = Judge(objective, halves, objective.values(objective.theta))
    with unchanged(training):
        return measure_wiring(training, judge)


def reasons(wiring):
    return {group.reason: group.names for group in wiring.excluded}


def test_where_all_is_trained_nothing_is_excluded_and_one_batch_tells():
    model = network()
    training = Training(model, LOSS, data(), torch.optim.Adam(model.parameters()))
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    objective = Objective(training, drawn.batches)
    judge = Judge(objective, Halves.of(8, exhaustive=False), objective.values(objective.theta))
    spent = objective.ledger.gradients(40)
    assert measure_wiring(training, judge).excluded == ()
    assert objective.ledger.gradients(40) - spent == 1.0


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_frozen_parameters_are_named_and_their_gain_is_that_of_the_thawed_model(dtype):
    model = network()
    model[0].requires_grad_(requires_grad=False)
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)), dtype)
    assert reasons(found) == {"frozen": ("0.weight", "0.bias")}
    assert found.share == pytest.approx((64 * 16 + 16) / (64 * 16 + 16 + 16 * 10 + 10))
    assert found.gains_in == ("0.weight", "0.bias")
    other = network()
    other[2].requires_grad_(requires_grad=False)
    swapped = look(Training(other, LOSS, data()), dtype)
    assert found.excluded_gain.value == pytest.approx(swapped.trained_gain.value, rel=1e-4)
    assert found.trained_gain.value == pytest.approx(swapped.excluded_gain.value, rel=1e-4)
    assert found.extra.value == pytest.approx(found.excluded_gain.value - found.trained_gain.value, abs=1e-5)


class Cut(nn.Module):
    def __init__(self, cut):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.cut = nn.Linear(64, 16), nn.Linear(16, 10), cut

    def forward(self, x):
        return self.head(self.cut(self.body, x))


def without_grad(body, x):
    with torch.no_grad():
        return body(x).tanh()


@pytest.mark.parametrize(
    "cut",
    [
        lambda body, x: body(x).tanh().detach(),
        lambda body, x: body(x).data.tanh(),
        without_grad,
        lambda body, x: torch.no_grad()(body)(x).tanh(),
    ],
)
def test_what_is_detached_is_named_and_its_gain_is_that_of_the_attached_model(cut):
    model, whole = Cut(cut), Cut(lambda body, x: body(x).tanh())
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert reasons(found) == {"unreached": ("body.weight", "body.bias")}
    whole.body.requires_grad_(requires_grad=False)
    truth = look(Training(whole, LOSS, data()))
    assert found.excluded_gain.value == pytest.approx(truth.excluded_gain.value, rel=1e-4)


class Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, slope):
        return slope


@pytest.mark.parametrize("name", ["sign", "round", "floor", "round_"])
def test_what_is_behind_a_step_function_is_named_and_its_gain_is_that_of_gradients_let_through(name):
    model = Cut(lambda body, x: getattr(4.0 * body(x), name)())
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert reasons(found) == {"stepped": ("body.weight", "body.bias")}
    assert found.ends == (name.removesuffix("_"),)
    assert found.excluded_gain.value > 3.0 * found.excluded_gain.stderr


def test_gradients_let_through_are_what_a_straight_through_function_gives():
    model, whole = Cut(lambda body, x: torch.sign(body(x))), Cut(lambda body, x: Through.apply(body(x)))
    batch, loss = data()[0], letting_through(LOSS, StraightThrough)
    loss(model, batch).backward()
    LOSS(whole, batch).backward()
    assert torch.equal(loss(model, batch), LOSS(model, batch))
    assert torch.equal(model.body.weight.grad, whole.body.weight.grad)


@pytest.mark.parametrize(
    "cut",
    [
        lambda body, x: (body(x) > 0.0).float(),
        lambda body, x: nn.functional.one_hot(body(x).argmax(dim=1), 16).float(),
        lambda body, x: torch.from_numpy(body(x).detach().numpy().clip(-1.0, 1.0)),
        lambda body, x: (body(x) > 0.0).float() + 0.0 * body(x),
    ],
)
def test_what_no_gradient_can_come_to_is_told_by_the_loss_that_depends_on_it(cut):
    model = Cut(cut)
    model.spare = nn.Linear(16, 3)
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert reasons(found) == {
        "severed": ("body.weight", "body.bias"),
        "unused": ("spare.weight", "spare.bias"),
    }
    assert found.excluded_gain is None
    assert found.sway.value > 0.0


def test_zeros_dead_units_and_functions_that_let_gradients_through_are_no_cut():
    zeros, dead = Cut(lambda body, x: body(x).tanh()), Cut(lambda body, x: body(x).relu())
    nn.init.zeros_(zeros.head.weight)
    nn.init.constant_(dead.body.bias, -30.0)
    saturated, beyond = Cut(lambda body, x: body(x).tanh()), Cut(lambda body, x: body(1e6 * x).tanh())
    nn.init.normal_(saturated.body.weight, std=1e6)
    for model in (zeros, dead, saturated, beyond, Cut(lambda body, x: Through.apply(body(x)))):
        found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
        assert found.excluded == ()


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_clamp_that_all_examples_are_beyond_is_no_cut_on_whichever_side_of_zero_it_lets_through(low):
    model = Cut(lambda body, x: body(1e-3 * x)[:, :1].expand(-1, 16).clamp(low, low + 1.0))
    nn.init.constant_(model.body.bias, 30.0)
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert found.excluded == ()


def test_what_no_output_depends_on_is_unused_and_nothing_is_left_out():
    model = Cut(lambda body, x: body(x).tanh())
    model.spare = nn.Linear(16, 3)
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert reasons(found) == {"unused": ("spare.weight", "spare.bias")}
    assert found.left_out == ()
    assert found.excluded_gain is None


def test_a_layer_that_was_replaced_after_the_optimizer_was_made_is_not_in_it():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model[2] = nn.Linear(16, 10)
    found = look(Training(model, LOSS, data(), optimizer))
    assert reasons(found) == {"unlisted": ("2.weight", "2.bias")}
    assert found.excluded_gain.surely_above(0.0, sigmas=2.0)


class Listed(nn.Module):
    def __init__(self, *, hidden=False):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.head = [nn.Linear(64, 16), nn.Tanh()], nn.Linear(16, 10)
        self.scale, self.teacher = torch.ones(16, requires_grad=True), [nn.Linear(64, 10)]
        self.layers[0].requires_grad_(not hidden)
        self.scale.requires_grad_(not hidden)

    def forward(self, x):
        with torch.no_grad():
            self.teacher[0](x)
        return self.head(self.layers[1](self.layers[0](x)) * self.scale)


def test_layers_in_a_list_are_named_unless_they_are_hidden_on_purpose():
    model = Listed()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = look(Training(model, LOSS, data(), optimizer))
    assert reasons(found) == {"unregistered": ("layers.0.weight", "layers.0.bias", "scale")}
    assert found.share == pytest.approx((64 * 16 + 2 * 16) / (64 * 16 + 2 * 16 + 16 * 10 + 10))
    assert found.excluded_gain.surely_above(0.0, sigmas=2.0)
    optimizer.add_param_group({"params": [model.scale, *model.layers[0].parameters()]})
    assert reasons(look(Training(model, LOSS, data(), optimizer))) == {}
    assert reasons(look(Training(Listed(hidden=True), LOSS, data()))) == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda ps: torch.optim.AdamW(ps, lr=0.1),
        torch.optim.LBFGS,
        torch.optim.Adagrad,
    ],
)
def test_an_optimizer_of_another_model_moves_nothing_and_is_told(make):
    model, other = network(), network()
    optimizer = make(other.parameters())
    training = Training(model, LOSS, data(), optimizer)
    found = look(training)
    assert reasons(found) == {"unlisted": ("0.weight", "0.bias", "2.weight", "2.bias")}
    assert found.nothing
    assert found.share == 1.0
    assert found.excluded_gain.surely_above(0.0, sigmas=2.0)
    assert found.trained_gain.value == 0.0
    before = copy.deepcopy(other.state_dict())
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    assert objective.decay is None
    assert float(next_step(objective, optimizer, [0]).norm()) == 0.0
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_groups_without_a_rate_are_named_and_whether_a_schedule_did_it():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    found = look(Training(model, LOSS, data(), torch.optim.SGD(groups, lr=0.1)))
    assert reasons(found) == {"rate": ("0.weight", "0.bias")}
    assert not found.scheduled
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=3)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    ended = look(Training(model, LOSS, data(), optimizer, scheduler))
    assert (ended.scheduled, ended.begun, ended.nothing, ended.rate_share) == (True, True, True, 0.0)


def test_a_warm_up_that_is_about_to_begin_is_told_from_a_schedule_at_its_end():
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
    assert not look(Training(model, LOSS, data(), optimizer, scheduler)).begun
    LOSS(model, data()[0]).backward()
    optimizer.step()
    optimizer.zero_grad()
    assert look(Training(model, LOSS, data(), optimizer, scheduler)).begun


class Ratefree(Counting):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            del group["lr"]


@pytest.mark.parametrize("rate", ["none", "missing", "tensor"])
def test_optimizers_without_a_rate_of_their_own_exclude_nothing(rate):
    model = network()
    optimizer = (Ratefree if rate == "missing" else Counting)(model.parameters(), lr=0.1)
    if rate != "missing":
        optimizer.param_groups[0]["lr"] = {"none": None, "tensor": torch.tensor(0.1)}[rate]
    assert look(Training(model, LOSS, data(), optimizer)).excluded == ()


def test_tied_weights_are_one_parameter():
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD([model[0].weight, model[0].bias], lr=0.1)
    found = look(Training(model, LOSS, data(), optimizer))
    assert reasons(found) == {"unlisted": ("2.bias",)}
    assert found.scalars == 64 * 64 + 2 * 64


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_are_looked_at_as_others():
    inner = network()
    inner[0].requires_grad_(requires_grad=False)
    model = torch.compile(inner, backend="eager")
    LOSS(model, data()[0])
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert reasons(found) == {"frozen": ("_orig_mod.0.weight", "_orig_mod.0.bias")}
    assert found.excluded_gain.value > 0.0


def test_a_model_that_does_not_bear_gradients_of_what_is_frozen_is_told_without_gains():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(64, 16).requires_grad_(requires_grad=False)
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            if self.body.weight.requires_grad:
                msg = "frozen\nmeans frozen"
                raise ValueError(msg)
            return self.head(self.body(x))

    model = Strict()
    found = look(Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1)))
    assert reasons(found) == {"frozen": ("body.weight", "body.bias")}
    assert found.excluded_gain is None
    assert "ValueError" in found.reason
    assert "\n" not in found.reason


class Proportional(torch.optim.SGD):
    """Steps in proportion to the weights, as those of LARS."""

    def step(self, closure=None):
        del closure
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.sub_(0.1 * parameter.norm() * parameter.grad / (parameter.grad.norm() + 1e-12))


class Patient(torch.optim.SGD):
    """Gathers the gradients of three calls for each step."""

    calls = 0

    def step(self, closure=None):
        self.calls += 1
        return super().step(closure) if self.calls % 3 == 0 else None


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (Proportional, {"unmoved": ("2.weight", "2.bias")}),
        (Patient, {}),
        (lambda parameters, lr: torch.optim.SGD(parameters, lr=1e-9 * lr), {}),  # lost to rounding alone
    ],
)
def test_what_the_optimizers_own_steps_never_move_is_named_unless_it_waits_or_rounding_did_it(make, left):
    model = network()
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.zero_()
        model[0].bias.fill_(1.0)
    assert reasons(look(Training(model, LOSS, data(), make(model.parameters(), lr=0.1)))) == left


def test_what_rounding_leaves_of_a_gradient_that_has_vanished_is_not_said_to_be_unmoved():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.phase = nn.Parameter(torch.tensor([0.2, 1.5, -0.4], dtype=torch.float64) + torch.pi)

        def forward(self, t):
            return torch.sin(t + self.phase).sum(-1)

    model = Turned()
    t = torch.arange(256, dtype=torch.float64)[:, None] * torch.pi / 128 * torch.tensor([1.0, 2.0, 3.0])
    batches, loss = [(t, -model(t).detach())], supervised(nn.functional.mse_loss)
    assert torch.autograd.grad(loss(model, batches[0]), model.phase)[0].any()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert reasons(look(Training(model, loss, batches, optimizer))) == {}


@pytest.mark.parametrize(("given", "share"), [({}, 0.01), ({"lr": 0.1}, None)])
def test_how_far_a_plateau_schedule_has_come_down_is_told_by_what_the_only_group_began_with(given, share):
    model = network()
    groups = [{"params": model[0].parameters(), **given}, {"params": model[2].parameters()}]
    optimizer = torch.optim.SGD(groups if given else model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for _ in range(3):
        scheduler.step(1.0)
    found = look(Training(model, LOSS, data(), optimizer, scheduler))
    assert found.rate_share == (None if share is None else pytest.approx(share))
