"""An optimizer composed of parts is measured as PyTorch's of the same rule."""

import copy
from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import unstuck
from unstuck import Training, optim, supervised
from unstuck.errors import MeasurementError
from unstuck.measurements.optimizer.metric import metric_of
from unstuck.measurements.optimizer.moments import Moments
from unstuck.measurements.optimizer.second_moments import known_key
from unstuck.objective import Objective, draw
from unstuck.watching.samples import Sampler

SGD, Adagrad, RMSprop, Adam, AdamW = (
    torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW
)  # fmt: skip

# The rule, PyTorch's of the same, and a rate.
PAIRS = {
    "gradient descent": (optim.gradient_descent(weight_decay=0.01), partial(SGD, weight_decay=0.01), 0.05),
    "momentum": (optim.momentum(0.8, dampening=0.1), partial(SGD, momentum=0.8, dampening=0.1), 0.05),
    "nesterov": (optim.nesterov(), partial(SGD, momentum=0.9, nesterov=True), 0.02),
    "adagrad": (optim.adagrad(weight_decay=0.01), partial(Adagrad, weight_decay=0.01), 0.01),
    "rmsprop": (optim.rmsprop(decay=0.5), partial(RMSprop, momentum=0.5), 0.001),
    "centred": (optim.rmsprop(centred=True), partial(RMSprop, centered=True), 0.001),
    "adam": (optim.adam(weight_decay=0.01), partial(Adam, weight_decay=0.01), 0.001),
    "adamw": (optim.adamw(weight_decay=0.1), partial(AdamW, weight_decay=0.1), 0.001),
    "amsgrad": (optim.amsgrad(), partial(Adam, amsgrad=True), 0.001),
    "nadam": (optim.nadam(), torch.optim.NAdam, 0.001),
    "radam": (optim.radam(), torch.optim.RAdam, 0.001),
}
DIAGNOSED = ("momentum", "adam", "adagrad", "rmsprop", "adamw")


def trained(make, steps=25):
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:480], dtype=torch.float32) / 16.0, torch.tensor(labels[:480])
    data = list(zip(x.split(48), y.split(48), strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    optimizer = make(model.parameters())
    training = Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer)
    for step in range(steps):
        optimizer.zero_grad()
        training.loss(model, data[step % len(data)]).backward()
        optimizer.step()
    return training


def pair(name, steps=25):
    rule, theirs, lr = PAIRS[name]
    ours = trained(lambda params: optim.Optimizer(params, rule, lr=lr), steps)
    reference = trained(lambda params: theirs(params, lr=lr, foreach=False), steps)
    for mine, same in zip(ours.model.parameters(), reference.model.parameters(), strict=True):
        assert torch.equal(mine, same)
    return ours, reference


def objective(training):
    return Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)


@pytest.mark.parametrize("name", PAIRS)
def test_the_metric_is_that_of_pytorchs_optimizer(name):
    mine, same = (metric_of(training.optimizer, objective(training)) for training in pair(name))
    torch.testing.assert_close(mine.rates, same.rates, rtol=1e-5, atol=0.0)
    assert mine.limit == pytest.approx(same.limit, rel=1e-6)  # NAdam's product is in single precision
    assert mine.uniform == same.uniform
    assert (mine.decay is None) == (same.decay is None)
    if mine.decay is not None:
        torch.testing.assert_close(mine.decay, same.decay, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("name", PAIRS)
def test_the_weight_decay_in_the_loss_is_that_of_pytorchs_optimizer(name):
    mine, same = (objective(training).decay for training in pair(name))
    assert (mine is None) == (same is None)
    if mine is not None:
        torch.testing.assert_close(mine, same, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("name", [name for name in PAIRS if name in DIAGNOSED or name == "radam"])
def test_the_second_moment_is_compared_and_renewed_as_pytorchs(name):
    found = []
    for training in pair(name):
        engine, optimizer = objective(training), training.optimizer
        slots = [slot.parameter for slot in engine.parameters.slots]
        key, assumed = known_key(optimizer, slots)
        if key is None:
            found.append(None)
            continue
        moments = Moments(engine, optimizer, key)
        groups = moments.present(range(10))
        states = [copy.deepcopy(optimizer.state[slot]) for slot in slots]
        moments.refresh(states, groups)
        found.append((assumed, moments.ratio(groups), torch.cat([state[key].flatten() for state in states])))
    assert (found[0] is None) == (found[1] is None)
    if found[0] is not None:
        (assumed, ratio, fresh), (theirs_assumed, theirs, theirs_fresh) = found
        assert assumed is theirs_assumed is False
        assert (ratio.value, ratio.stderr) == pytest.approx((theirs.value, theirs.stderr), rel=1e-5)
        torch.testing.assert_close(fresh, theirs_fresh, rtol=1e-5, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIAGNOSED)
def test_the_verdict_and_its_evidence_are_those_of_pytorchs_optimizer(unchecked, name):
    mine, same = (unstuck.diagnose(training, trials=False, budget=600.0) for training in pair(name))
    assert mine.cause == same.cause
    assert [finding.cause for finding in mine.findings] == [finding.cause for finding in same.findings]
    for one, other in zip(mine.findings, same.findings, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)
        assert [item.name for item in one.evidence] == [item.name for item in other.evidence]
        for item, reference in zip(one.evidence, other.evidence, strict=True):
            assert item.value == pytest.approx(reference.value, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_a_live_runs_sample_is_that_of_pytorchs_optimizer(name):
    samples = []
    for training in pair(name):
        sampler = Sampler(training.optimizer, training.model)
        sample = None
        for batch in training.data[:4]:
            training.optimizer.zero_grad()
            training.loss(training.model, batch).backward()
            sampler.before()
            training.optimizer.step()
            sample = sampler.after() or sample
        samples.append(sample)
    mine, same = samples
    assert mine is not None
    assert (mine.sigma is None) == (same.sigma is None)
    if mine.sigma is not None:
        assert (mine.sigma, mine.sigma_ratio) == pytest.approx((same.sigma, same.sigma_ratio), rel=1e-6)
    assert mine.update_norm == same.update_norm


def test_a_scale_put_in_while_running_is_measured_by_its_own_age():
    training = trained(lambda params: optim.Optimizer(params, optim.momentum(), lr=0.01))
    training.optimizer.replace(scale=optim.AverageOfSquares(0.9, eps=1e-8))
    first = next(training.model.parameters())
    squares = torch.zeros_like(first)
    for batch in training.data[:3]:
        training.optimizer.zero_grad()
        training.loss(training.model, batch).backward()
        squares = 0.9 * squares + 0.1 * first.grad.square()
        training.optimizer.step()
    expected = 0.01 / ((squares / (1.0 - 0.9**3)).sqrt() + 1e-8)
    rates = metric_of(training.optimizer, objective(training)).rates[: first.numel()].view_as(first)
    met = squares > 0.0
    torch.testing.assert_close(rates[met], expected[met], rtol=1e-4, atol=0.0)
    assert not rates[~met].any()


def test_layer_wise_rates_are_not_claimed_to_be_known():
    training = trained(lambda params: optim.Optimizer(params, optim.lars(), lr=0.1))
    with pytest.raises(MeasurementError, match=r"the step that chain\(LayerwiseRate.*is not known"):
        metric_of(training.optimizer, objective(training))
