"""Steps are compared with what the steepest direction bears, in the metric of the optimizer that takes them."""

import copy
import math

import pytest
import torch
from quadratics import batch, bowl, judge_of, noisy_bowls, symmetric, vector
from sklearn.datasets import load_digits
from torch import nn

import unstuck
from unstuck import Training, supervised
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.vectors import Operator
from unstuck.demos import DEMOS
from unstuck.errors import MeasurementError
from unstuck.estimate import weighted_mean
from unstuck.measurements.optimizer.metric import metric_of
from unstuck.measurements.optimizer.stability import find_steepest, measure_stability, steepest_met
from unstuck.objective import Objective, draw

FROZEN = 1.0 - 1e-12  # a second moment that keeps to its value for a thousand steps
LATE = 1e14  # the step after which nothing is left of a bias
SIZES = (4, 3)
MATRIX = symmetric(torch.linspace(0.3, 2.0, sum(SIZES)))
SIGMA = 0.5 + vector(sum(SIZES), seed=5).abs()


class Blocks(nn.Module):
    """One vector, in two parameters."""

    def __init__(self, theta):
        super().__init__()
        parts = torch.as_tensor(theta, dtype=torch.float64).split(SIZES)
        self.first, self.second = (nn.Parameter(part.clone()) for part in parts)

    @property
    def theta(self):
        return torch.cat([self.first, self.second])


def planted(optimizer, **entries):
    """Give each parameter a state whose tensors are pieces of flat ones."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        optimizer.state[parameter] = {
            key: value.split(SIZES)[number].clone() if value.ndim else value.clone()
            for key, value in entries.items()
        }
    return optimizer


ZERO = torch.zeros(sum(SIZES), dtype=torch.float64)
STEP = torch.tensor(LATE)


def groups(model, rates, **second):
    return [
        {"params": [model.first], "lr": rates[0]},
        {"params": [model.second], "lr": rates[1], **second},
    ]


def adam(kind, beta, key="exp_avg_sq", **more):
    def build(model, rates):
        optimizer = kind(groups(model, rates), betas=(beta, FROZEN), eps=0.1, **more)
        state = {"step": STEP, "exp_avg": ZERO, key: SIGMA if key == "exp_inf" else SIGMA.square()}
        if more.get("amsgrad"):
            state |= {"exp_avg_sq": ZERO, "max_exp_avg_sq": SIGMA.square()}
        if kind is torch.optim.NAdam:
            state["mu_product"] = torch.tensor(0.0)
        return planted(optimizer, **state)

    return build


def rmsprop(**more):
    def build(model, rates):
        optimizer = torch.optim.RMSprop(groups(model, rates), alpha=FROZEN, eps=0.1, **more)
        state = {"step": STEP, "square_avg": SIGMA.square(), "momentum_buffer": ZERO}
        if more.get("centered"):
            state |= {"square_avg": 1.25 * SIGMA.square(), "grad_avg": 0.5 * SIGMA}
        return planted(optimizer, **state)

    return build


def adagrad(model, rates):
    optimizer = torch.optim.Adagrad(groups(model, rates), eps=0.1, lr_decay=1e-14)
    return planted(optimizer, step=STEP, sum=SIGMA.square())


def adadelta(model, rates):
    optimizer = torch.optim.Adadelta(groups(model, rates), rho=FROZEN, eps=0.1)
    return planted(
        optimizer, step=STEP, square_avg=SIGMA.square() - 0.1, acc_delta=torch.full_like(ZERO, 0.9)
    )


def sgd(second=None, **more):
    return lambda model, rates: torch.optim.SGD(groups(model, rates, **(second or {})), **more)


# Each with its closed-form limit, and its scale.
PLAIN, DAMPED = torch.ones_like(SIGMA), SIGMA + 0.1
RULES = {
    "descent": (sgd(), 2.0, PLAIN),
    "heavy ball": (sgd(momentum=0.9), 3.8, PLAIN),
    "dampened": (sgd(momentum=0.9, dampening=0.5), 7.6, PLAIN),
    "Nesterov": (sgd(momentum=0.9, nesterov=True), 3.8 / 2.8, PLAIN),
    "ASGD": (lambda model, rates: torch.optim.ASGD(groups(model, rates), lambd=0.0), 2.0, PLAIN),
    "Adam": (adam(torch.optim.Adam, 0.9), 38.0, DAMPED),
    "Adam without momentum": (adam(torch.optim.Adam, 0.0), 2.0, DAMPED),
    "AMSGrad": (adam(torch.optim.Adam, 0.8, amsgrad=True), 18.0, DAMPED),
    "AdamW": (adam(torch.optim.AdamW, 0.9, weight_decay=0.0), 38.0, DAMPED),
    "NAdam": (adam(torch.optim.NAdam, 0.9), 3.8 / 0.28, DAMPED),
    "NAdam early": (
        adam(torch.optim.NAdam, 0.9, momentum_decay=0.0),
        2.0 / (0.55 + 0.45 * 0.1 / 1.9),
        DAMPED,
    ),
    "RAdam": (adam(torch.optim.RAdam, 0.9), 38.0, DAMPED),
    "Adamax": (adam(torch.optim.Adamax, 0.9, key="exp_inf"), 38.0, SIGMA),
    "RMSprop": (rmsprop(), 2.0, DAMPED),
    "RMSprop with momentum": (rmsprop(momentum=0.5), 3.0, DAMPED),
    "RMSprop centred": (rmsprop(centered=True), 2.0, DAMPED),
    "Adagrad": (adagrad, 2.0, 2.0 * DAMPED),
    "Adadelta": (adadelta, 2.0, SIGMA),
}
DATA = [batch(MATRIX, ZERO)]


def measured(training, *, exhaustive=True, close=0.0):
    objective = Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
    judge = judge_of(objective, exhaustive=exhaustive)
    metric = metric_of(training.optimizer, objective)
    with objective.products(objective.theta, judge.halves.finds) as products:
        gradient = objective.gradient(objective.theta, judge.halves.finds)
        found = find_steepest(metric, products, gradient, lambda: False, seed=0, close=close)
    return measure_stability(training.optimizer, judge, metric, found)


def training_of(build, rates, theta=None):
    model = Blocks(1e-6 * vector(sum(SIZES), seed=3) if theta is None else theta)
    return Training(model, bowl, DATA, optimizer=build(model, rates))


def growth(training, steps=400):
    """How many times longer the way from the minimum gets by real steps, until it is far off or at its end."""
    before = float(training.model.theta.detach().norm())
    for _ in range(steps):
        training.optimizer.zero_grad()
        bowl(training.model, DATA[0]).backward()
        training.optimizer.step()
        after = float(training.model.theta.detach().norm())
        if after > 100.0 * before:
            break
    return after / before


@pytest.mark.parametrize("name", RULES)
def test_sharpness_and_limit_are_those_of_the_closed_form(name):
    build, limit, sigma = RULES[name]
    rates = torch.cat([torch.full((size,), rate) for size, rate in zip(SIZES, (0.3, 0.02), strict=True)])
    half = (rates.double() / sigma).sqrt()
    expected = float(torch.linalg.eigvalsh(half[:, None] * MATRIX * half)[-1])
    training = training_of(build, (0.3, 0.02))
    stability = measured(training)
    rough = measured(training, close=0.1).sharpness
    assert abs(rough.value - expected) <= rough.stderr
    assert stability.limit == pytest.approx(limit, rel=1e-6)
    assert stability.sharpness.value == pytest.approx(expected, rel=1e-6)
    assert stability.ratio.value == pytest.approx(expected / limit, rel=1e-6)
    assert not stability.one_rate


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_real_steps_shrink_just_below_the_limit_and_grow_just_above(name, factor):
    build = RULES[name][0]
    ratio = measured(training_of(build, (1.0, 0.2))).ratio.value
    training = training_of(build, (factor / ratio, 0.2 * factor / ratio))
    assert measured(training).ratio.value == pytest.approx(factor, rel=1e-6)
    grown = growth(training)
    assert grown < 0.01 if factor < 1.0 else grown > 100.0


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_groups_with_limits_of_their_own_are_weighed_by_them(factor):
    build = sgd({"momentum": 0.9}, momentum=0.0)
    ratio = measured(training_of(build, (1.0, 2.0))).ratio.value
    training = training_of(build, (factor / ratio, 2.0 * factor / ratio))
    assert measured(training).limit == 2.0
    grown = growth(training)
    assert grown < 0.01 if factor < 1.0 else grown > 100.0


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_weight_decay_in_the_gradient_sharpens(factor):
    build = sgd(weight_decay=0.7, momentum=0.5)
    ratio = measured(training_of(build, (1.0, 1.0))).ratio.value
    assert ratio == pytest.approx(2.7 / 3.0)
    grown = growth(training_of(build, (factor / ratio, factor / ratio)))
    assert grown < 0.01 if factor < 1.0 else grown > 100.0


def test_decoupled_weight_decay_adds_nothing():
    plain, decayed = (
        measured(training_of(adam(torch.optim.AdamW, 0.9, weight_decay=decay), (0.3, 0.02)))
        for decay in (0.0, 0.5)
    )
    assert decayed.sharpness.value == pytest.approx(plain.sharpness.value)


def stepped(kind, **settings):
    """A training after seven steps, the displacement of the last one, and the gradient that it followed."""
    training = training_of(lambda model, rates: kind(groups(model, rates), **settings), (0.3, 0.02), ZERO + 1)
    for _ in range(7):
        before = training.model.theta.detach().clone()
        growth(training, steps=1)
    return training, training.model.theta.detach() - before, MATRIX @ before


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"amsgrad": True, "betas": (0.5, 0.9)}),
        (torch.optim.RAdam, {"betas": (0.9, 0.5)}),
        (torch.optim.RAdam, {}),
        (torch.optim.Adamax, {}),
    ],
)
def test_the_metric_times_the_momentum_is_the_last_step(kind, settings):
    training, moved, _ = stepped(kind, **settings)
    objective = Objective(training, draw(DATA, seed=0, enough=lambda *_: False).batches)
    momentum = torch.cat([training.optimizer.state[each]["exp_avg"] for each in training.model.parameters()])
    torch.testing.assert_close(metric_of(training.optimizer, objective).rates * momentum, -moved)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.ASGD, {"lambd": 0.0}),
        (torch.optim.Adagrad, {"lr_decay": 0.1}),
        (torch.optim.RMSprop, {}),
        (torch.optim.RMSprop, {"centered": True}),
    ],
)
def test_the_metric_times_the_gradient_is_the_last_step(kind, settings):
    training, moved, gradient = stepped(kind, **settings)
    objective = Objective(training, draw(DATA, seed=0, enough=lambda *_: False).batches)
    torch.testing.assert_close(metric_of(training.optimizer, objective).rates * gradient, -moved)


def test_what_is_found_on_one_half_is_judged_on_the_other():
    size = sum(SIZES)
    data = noisy_bowls(9, size)
    model = Blocks(vector(size))
    training = Training(model, bowl, data, optimizer=RULES["Adam"][0](model, (0.3, 0.02)))
    objective = Objective(training, draw(data, seed=0, enough=lambda *_: False).batches)
    judge = judge_of(objective, exhaustive=False)
    half = metric_of(training.optimizer, objective).rates.sqrt()
    matrices = [half[:, None] * objective.batches[i].content[1] * half for i in range(len(data))]
    finds = sum(objective.weights[i] * matrices[i] for i in judge.halves.finds)
    steepest = torch.linalg.eigh(finds)[1][:, -1]
    judged = weighted_mean(
        [float(steepest @ matrices[i] @ steepest) for i in judge.halves.judges],
        [objective.weights[i] for i in judge.halves.judges],
    )
    found = measured(training, exhaustive=False).sharpness
    assert found.value == pytest.approx(judged.value, rel=1e-4)
    assert found.stderr == pytest.approx(judged.stderr, rel=1e-3)
    assert found.degrees == judged.degrees


def test_few_products_state_an_error_that_covers_the_largest_eigenvalue():
    size = 400
    matrix = symmetric(torch.linspace(0.0, 1.0, size))
    operator = Operator(lambda v: matrix @ v, size, ZERO.new_zeros(size))
    for seed in range(20):
        run = Lanczos(operator, vector(size, seed=seed))
        for _ in range(10):
            run.step()
        met = steepest_met(run, 3.0)
        assert met.value <= 3.0 <= met.value + met.error
        torch.testing.assert_close(float(met.direction.norm()), math.sqrt(3.0))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda model, _: torch.optim.Rprop(model.parameters()), "Rprop can bear is not known"),
        (lambda model, _: torch.optim.LBFGS(model.parameters()), "LBFGS can bear is not known"),
        (
            lambda model, _: type("Mine", (torch.optim.SGD,), {})(model.parameters()),
            "Mine can bear is not known",
        ),
        (lambda model, _: torch.optim.Adam(model.parameters()), "Adam has made no step"),
        (lambda model, _: torch.optim.Adagrad(model.parameters()), "Adagrad has made no step"),
        (lambda model, _: torch.optim.SGD(model.parameters(), maximize=True), "maximises"),
    ],
)
def test_a_rule_that_is_not_known_is_refused_with_the_reason(build, reason):
    with pytest.raises(MeasurementError, match=reason):
        measured(training_of(build, (1.0, 1.0)))


def test_parameters_that_the_optimizer_does_not_move_do_not_count():
    model = Blocks(ZERO + 1)
    training = Training(model, bowl, DATA, optimizer=torch.optim.SGD([model.second], lr=0.5))
    block = MATRIX[SIZES[0] :, SIZES[0] :]
    expected = 0.5 * float(torch.linalg.eigvalsh(block)[-1])
    assert measured(training).sharpness.value == pytest.approx(expected)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_parameters_whose_scale_never_met_a_gradient_do_not_count(amsgrad):
    training = training_of(adam(torch.optim.Adam, 0.9, amsgrad=amsgrad), (0.3, 0.3))
    state = training.optimizer.state[training.model.first]
    state["max_exp_avg_sq" if amsgrad else "exp_avg_sq"].zero_()
    half = (0.3 / DAMPED[SIZES[0] :]).sqrt()
    block = half[:, None] * MATRIX[SIZES[0] :, SIZES[0] :] * half
    expected = float(torch.linalg.eigvalsh(block)[-1])
    assert measured(training).sharpness.value == pytest.approx(expected)


def test_measuring_leaves_the_training_as_it_was():
    training = training_of(RULES["AMSGrad"][0], (0.3, 0.02))
    before = copy.deepcopy((training.model.state_dict(), training.optimizer.state_dict()))
    measured(training)
    after = (training.model.state_dict(), training.optimizer.state_dict())
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.0)
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_a_diagnosis_tells_why_the_stability_was_left_out():
    training = training_of(lambda model, _: torch.optim.Rprop(model.parameters()), (1.0, 1.0), ZERO)
    found = unstuck.diagnose(training, budget=5.0, trials=False).verdict.measured
    assert found.stability is None
    assert any(each.name == "stability" and "Rprop" in each.reason for each in found.omitted)


def test_a_run_that_bounces_shows_it_and_a_healthy_one_pays_nothing():
    bounce = unstuck.diagnose(DEMOS["bounce"].setup(), trials=False)
    assert bounce.cause == unstuck.Cause.STEP_TOO_LARGE
    shown = {each.name: each for each in bounce.findings[0].evidence}
    stability = bounce.verdict.measured.stability
    assert shown["sharpness_over_limit"].value == stability.ratio.value
    healthy = unstuck.diagnose(DEMOS["healthy"].setup())
    assert healthy.cause == unstuck.Cause.HEALTHY
    assert healthy.verdict.measured.stability is None


def digits_network(make):
    data = load_digits()
    inputs = torch.tensor(data.data / 16.0, dtype=torch.float32)
    targets = nn.functional.one_hot(torch.tensor(data.target)).float()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    return Training(
        model, supervised(nn.functional.mse_loss), [(inputs, targets)], optimizer=make(model.parameters())
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=1.0), 1500),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.3, momentum=0.9, nesterov=True), 1500),
        (lambda parameters: torch.optim.Adam(parameters, lr=3e-3), 1500),
        (lambda parameters: torch.optim.NAdam(parameters, lr=3e-3), 1000),
        (lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3), 500),
        (lambda parameters: torch.optim.Adagrad(parameters, lr=0.03), 500),
    ],
    ids=["descent", "Nesterov", "Adam", "NAdam", "RMSprop", "Adagrad"],
)
def test_full_batch_training_settles_at_the_edge_of_stability(make, steps):
    """Cohen et al., 2021 (arXiv:2103.00065) and 2022 (arXiv:2207.14484)."""
    training = digits_network(make)
    for _ in range(steps):
        training.optimizer.zero_grad()
        training.loss(training.model, training.data[0]).backward()
        training.optimizer.step()
    assert 0.8 < measured(training).ratio.value < 1.3
