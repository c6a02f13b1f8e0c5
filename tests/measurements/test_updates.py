import math

import pytest
import torch
from tests.measurements.test_steps import Counting
from tests.objective.fingerprint import unchanged
from torch import nn

from unstuck import Training, supervised
from unstuck.demos.digits import digits
from unstuck.errors import MeasurementError
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.optimizer.updates import measure_precision, measure_second_moment
from unstuck.objective import Objective, draw

LOSS = supervised(lambda outputs, labels: nn.functional.cross_entropy(outputs.float(), labels))

ADAPTIVE = {
    "Adagrad": torch.optim.Adagrad,
    "RMSprop": torch.optim.RMSprop,
    "RMSprop centred": lambda ps, lr: torch.optim.RMSprop(ps, lr=lr, centered=True),
    "Adadelta": torch.optim.Adadelta,
    "Adam": torch.optim.Adam,
    "Adam decayed": lambda ps, lr: torch.optim.Adam(ps, lr=lr, weight_decay=0.01),
    "AMSGrad": lambda ps, lr: torch.optim.Adam(ps, lr=lr, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
}


class Typed(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).to(dtype)

    def forward(self, x):
        return self.layers(x.to(self.layers[0].weight.dtype))


def data(examples=320, size=40):
    images, labels = digits()
    return list(zip(images[:examples].split(size), labels[:examples].split(size), strict=True))


def run(make, steps, dtype=torch.float32, *, scale=1.0):
    """A training with its optimizer some steps on, whose gradients came `scale` times larger."""
    model = Typed(dtype)
    optimizer = make(model.parameters())
    for number in range(steps):
        (scale * LOSS(model, data()[number % 8])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return Training(model, LOSS, data(), optimizer)


def judge_of(training, dtype=None):
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    objective = Objective(training, drawn.batches, dtype=dtype)
    halves = Halves.of(len(drawn.batches), exhaustive=False)
    return Judge(objective, halves, objective.values(objective.theta))


def measured(measure, training, dtype=None):
    judge = judge_of(training, dtype)
    with unchanged(training):
        return measure(training, judge)


@pytest.mark.parametrize(
    ("dtype", "rate", "least", "most"),
    [
        (torch.float32, 0.1, 0.0, 0.05),
        (torch.bfloat16, 0.5, 0.0, 0.6),
        (torch.bfloat16, 1e-6, 0.9, 1.0),
        (torch.float16, 1e-7, 0.9, 1.0),
        (torch.float32, 1e-10, 0.9, 1.0),
    ],
)
def test_the_share_of_an_update_that_rounding_swallows_grows_with_the_type_and_falls_with_the_rate(
    dtype, rate, least, most
):
    found = measured(measure_precision, run(lambda ps: torch.optim.SGD(ps, lr=rate), 0, dtype))
    assert found.dtype == str(dtype).removeprefix("torch.")
    assert least <= found.lost <= most
    assert (found.kept < 0.5) == (least > 0.5)


@pytest.mark.parametrize("rate", [0.01, 1e-3, 1e-4])
def test_the_share_is_what_one_step_of_the_real_optimizer_leaves_unchanged(rate):
    training = run(lambda ps: torch.optim.SGD(ps, lr=rate), 3, torch.bfloat16)
    found = measured(measure_precision, training)
    model, batch = training.model, training.data[0]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    LOSS(model, batch).backward()
    moved = [parameter.grad != 0 for parameter in model.parameters()]
    training.optimizer.step()
    stayed = [
        (now == then)[meant] for now, then, meant in zip(model.parameters(), before, moved, strict=True)
    ]
    assert found.lost == pytest.approx(float(torch.cat(stayed).float().mean()), abs=0.02)


def test_without_rounding_the_steps_gain_what_rounding_takes():
    found = measured(measure_precision, run(lambda ps: torch.optim.SGD(ps, lr=1e-3), 0, torch.bfloat16))
    assert found.steps == 8
    assert found.exact_gain.surely_above(0.0)
    assert found.extra.value == pytest.approx(found.exact_gain.value - found.rounded_gain.value)
    assert found.rounded_gain.value < 0.5 * found.exact_gain.value


def test_mixed_types_are_named_and_float64_is_not_asked():
    model = Typed()
    model.layers[2].to(torch.float64)
    model.layers[1] = type("Widen", (nn.Module,), {"forward": lambda self, x: x.double().tanh()})()
    training = Training(model, LOSS, data(), torch.optim.Adam(model.parameters()))
    assert measured(measure_precision, training).dtype == "float32+float64"
    assert measured(measure_precision, run(torch.optim.Adam, 2, torch.float64)) is None
    assert measured(measure_precision, Training(Typed(), LOSS, data())) is None


@pytest.mark.parametrize(
    "make", [*ADAPTIVE.values(), lambda ps, lr: torch.optim.LBFGS(ps, lr=lr, max_iter=3)]
)
def test_every_optimizer_can_be_taken_to_float64(make):
    def with_rate(ps):
        return make(ps, lr=0.01)

    model = Typed()
    optimizer = with_rate(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = LOSS(model, data()[0])
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    optimizer.zero_grad()
    found = measured(measure_precision, Training(model, LOSS, data(), optimizer))
    assert found.lost < 0.1
    assert found.kept == pytest.approx(1.0, abs=0.05)


class WithMaster(torch.optim.Optimizer):
    """Keeps float32 copies, moves those, and rounds them into the parameters."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["master"] = parameter.detach().float().clone()

    def step(self, closure=None):
        if closure:
            closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                master = self.state[parameter]["master"].sub_(parameter.grad, alpha=group["lr"])
                parameter.data.copy_(master)


def test_an_optimizer_that_keeps_wider_copies_loses_nothing():
    assert measured(measure_precision, run(lambda ps: WithMaster(ps, 1e-6), 2, torch.bfloat16)) is None


class Failing(Counting):
    def step(self, closure=None):
        msg = "not\nhere"
        raise ZeroDivisionError(msg)


def test_an_optimizer_that_fails_on_copies_gives_one_line():
    model = Typed()
    training = Training(model, LOSS, data(), Failing(model.parameters(), lr=0.1))
    with pytest.raises(
        MeasurementError, match="`optimizer` cannot take a step on copies: ZeroDivision"
    ) as raised:
        measured(measure_precision, training)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [None, torch.float64])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_sigma_is_as_many_times_too_large_as_the_gradients_were(name, dtype):
    # At a rate of next to nothing the gradients stay what they are, but for their scale.
    make = ADAPTIVE[name]
    honest = measured(measure_second_moment, run(lambda ps: make(ps, lr=1e-12), 40), dtype)
    assert abs(honest.ratio.value) < math.log(2.0)
    assert not honest.assumed
    stale = measured(measure_second_moment, run(lambda ps: make(ps, lr=1e-12), 40, scale=100.0), dtype)
    assert stale.ratio.value == pytest.approx(math.log(100.0), abs=math.log(2.0))
    assert stale.ratio.stderr < math.log(2.0)
    assert stale.ratio.degrees == 3.0
    low = measured(measure_second_moment, run(lambda ps: make(ps, lr=1e-12), 40, scale=0.01), dtype)
    assert low.ratio.value < -math.log(30.0)


@pytest.mark.parametrize("name", ["Adagrad", "RMSprop", "Adam", "AMSGrad", "Adamax", "NAdam"])
def test_refreshed_the_steps_are_those_of_an_honest_sigma(name):
    def stale(ps):
        return ADAPTIVE[name](ps, lr=1e-12)

    training = run(stale, 40, scale=1e4)
    training.optimizer.param_groups[0]["lr"] = 0.01
    for state in training.optimizer.state.values():  # momentum is not what is looked at
        if "exp_avg" in state:
            state["exp_avg"].zero_()
    found = measured(measure_second_moment, training)
    assert found.steps == 8
    assert found.fresh_gain.surely_above(0.0)
    assert found.fresh_gain.value > 10.0 * found.present_gain.value
    assert found.extra.value == pytest.approx(found.fresh_gain.value - found.present_gain.value)


def test_the_weighted_median_and_its_error_do_not_depend_on_where_the_parameters_are_cut(monkeypatch):
    training = run(lambda ps: torch.optim.Adam(ps, lr=1e-3), 20)
    whole = measured(measure_second_moment, training).ratio
    monkeypatch.setattr("unstuck.measurements.optimizer.moments._MOST", 600)
    part = measured(measure_second_moment, training).ratio
    assert part.value == pytest.approx(whole.value, abs=0.2)


@pytest.mark.parametrize(
    ("make", "setting", "large"),
    [
        (lambda ps: torch.optim.Adam(ps, lr=1e-6, eps=10.0), "eps", True),
        (lambda ps: torch.optim.Adam(ps, lr=1e-6), "eps", False),
        (lambda ps: torch.optim.RMSprop(ps, lr=1e-6, eps=10.0), "eps", True),
        (
            lambda ps: torch.optim.Adagrad(ps, initial_accumulator_value=1e4),
            "initial_accumulator_value",
            True,
        ),
        (torch.optim.Adagrad, "initial_accumulator_value", False),
    ],
)
def test_what_no_gradient_has_made_of_sigma_is_told_by_its_setting(make, setting, large):
    found = measured(measure_second_moment, run(make, 20))
    assert found.added == setting
    assert (found.added_share > 0.9) if large else (found.added_share < 0.01)


def reason(training):
    found = measured(measure_second_moment, training)
    assert found.ratio is None
    return found.reason


def test_where_there_is_no_sigma_the_reason_is_given():
    assert "has made no step" in reason(run(torch.optim.Adam, 0))
    assert "keeps no second moment" in reason(run(lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), 2))
    assert "keeps no second moment" in reason(run(torch.optim.Adafactor, 2))
    model, other = Typed(), Typed()
    assert "needs no state" in reason(Training(model, LOSS, data(), torch.optim.Adam(other.parameters())))
    assert measured(measure_second_moment, Training(model, LOSS, data())) is None


class Stranger(torch.optim.Optimizer):
    """RMSprop by another name."""

    def __init__(self, params, key):
        super().__init__(params, {"lr": 1e-12})
        self.key = key

    def step(self, closure=None):
        if closure:
            closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                square = state.setdefault(self.key, torch.zeros_like(parameter)).mul_(0.5)
                square.addcmul_(parameter.grad, parameter.grad, value=0.5)
                parameter.data.addcdiv_(parameter.grad, square.sqrt() + 1e-8, value=-group["lr"])


@pytest.mark.parametrize("key", ["exp_avg_sq", "square_avg", "v"])
def test_of_strangers_optimizers_the_second_moment_is_taken_by_its_name_and_told_to_be(key):
    found = measured(measure_second_moment, run(lambda ps: Stranger(ps, key), 20, scale=50.0))
    assert found.assumed
    assert found.ratio.value == pytest.approx(math.log(50.0), abs=math.log(2.0))
    assert "keeps no second" in reason(run(lambda ps: Stranger(ps, "own"), 3))


def test_one_batch_knows_no_error():
    training = run(lambda ps: torch.optim.Adam(ps, lr=1e-3), 5)
    alone = Training(training.model, LOSS, training.data[:1], training.optimizer)
    found = measured(measure_second_moment, alone)
    assert math.isinf(found.ratio.stderr)


def test_they_cost_little_where_all_is_well():
    training = run(lambda ps: torch.optim.Adam(ps, lr=1e-3), 20)
    judge = judge_of(training)
    ledger = judge.objective.ledger
    before = ledger.gradients(320)
    measure_precision(training, judge)
    assert ledger.gradients(320) - before == pytest.approx(2 / 8)
    before = ledger.gradients(320)
    measure_second_moment(training, judge)
    assert ledger.gradients(320) - before == pytest.approx(0.5)


def test_what_weight_decay_takes_is_no_part_of_what_a_fresh_sigma_gains():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 10.0)
    inputs = torch.full((8, 1), 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.006)
    optimizer.state[model.weight] = {
        "step": torch.tensor(1e6),
        "exp_avg": torch.zeros(1, 1),
        "exp_avg_sq": torch.ones(1, 1),
    }
    found = measured(
        measure_second_moment, Training(model, supervised(nn.MSELoss()), [(inputs, 12.0 * inputs)], optimizer)
    )
    assert found.fresh_gain.value > 0.0
