"""What a sample says of three steps, against what can be worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from unstuck.watching.samples import Sampler


def sample(optimizer, gradients, micro=()):
    """Step with given gradients; `micro` are the parts of the second."""
    parameter = optimizer.param_groups[0]["params"][0]
    sampler = Sampler(optimizer, nn.ParameterList([parameter]))
    found = None
    for number, gradient in enumerate(gradients):
        sampler.before()
        parts = micro if number == 1 and micro else [gradient]
        parameter.grad = torch.zeros_like(parameter)
        for part in parts:
            parameter.grad += part
            sampler.micro_batch()
        optimizer.step()
        found = sampler.after()
    return found


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def parameter(*values):
    return nn.Parameter(vector(*values))


def test_of_plain_steps_everything_follows_from_the_gradients():
    optimizer = torch.optim.SGD([parameter(3.0, 4.0)], lr=0.5)
    one, two, three = vector(1.0, 0.0), vector(0.0, 2.0), vector(0.0, -1.0)
    found = sample(optimizer, [one, two, three])
    assert found.gradient_norm == 2.0
    assert found.weight_norm == pytest.approx(math.hypot(2.5, 4.0))
    assert found.update_norm == 1.0
    assert found.gradient_cosine == 0.0
    assert found.descent_cosine == pytest.approx(1.0)
    assert found.signal == 0.0
    assert found.noise == pytest.approx((1.0 + 4.0) / 2.0)
    assert found.overshoot == pytest.approx(0.5)
    assert found.unchanged == 0.0
    assert found.sigma is None


@pytest.mark.parametrize("curvature", [0.1, 1.0, 1.9, 2.0])
def test_on_a_quadratic_the_overshoot_is_rate_times_curvature_less_one(curvature):
    weight = parameter(1.0)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    sampler, found = Sampler(optimizer), None
    for _ in range(3):
        sampler.before()
        weight.grad = curvature * weight.detach()
        optimizer.step()
        found = sampler.after()
    if found is not None and found.overshoot is not None:
        assert found.overshoot == pytest.approx(curvature - 1.0)
    else:
        assert curvature == 1.0  # at the bottom after one step: there is no slope any more


def test_from_micro_batches_signal_and_noise_are_unbiased():
    generator = torch.Generator().manual_seed(0)
    mean, spread, count = torch.ones(50, dtype=torch.float64), 2.0, 4
    signals, noises = [], []
    for _ in range(400):
        optimizer = torch.optim.SGD([parameter(*[0.0] * 50)], lr=0.1)
        parts = [
            (mean + spread * torch.randn(50, generator=generator, dtype=torch.float64)) / count
            for _ in range(count)
        ]
        found = sample(optimizer, [mean, mean, mean], micro=parts)
        signals.append(found.signal)
        noises.append(found.noise)
    assert sum(signals) / 400 == pytest.approx(50.0, abs=3 * torch.tensor(signals).std().item() / 20)
    assert sum(noises) / 400 == pytest.approx(
        50 * 4.0 / count, abs=3 * torch.tensor(noises).std().item() / 20
    )


def test_a_fused_step_under_a_scaler_is_sampled_as_any_other():
    def sampled(scale, *, fused):
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = torch.optim.SGD([weight], lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        sampler, samples = Sampler(optimizer, nn.ParameterList([weight])), []
        optimizer.register_step_pre_hook(lambda *_: sampler.before())
        optimizer.register_step_post_hook(lambda *_: samples.append(sampler.after()))
        for number in range(3):
            optimizer.zero_grad()
            for part in (torch.tensor([1.0, 0.5]), torch.tensor([0.5, float(number)])):
                sampler.before_micro_batch()
                scaler.scale(weight @ part).backward()
                sampler.micro_batch()
            scaler.step(optimizer)
            scaler.update()
        return samples[-1]

    plain = sampled(1.0, fused=False)
    assert plain.signal == pytest.approx(plain.gradient_norm**2 - plain.noise)
    assert sampled(1024.0, fused=True) == sampled(1024.0, fused=False) == plain


def test_sparse_gradients_are_sampled_as_dense_ones():
    def sampled(*, sparse):
        torch.manual_seed(0)
        table = nn.Embedding(6, 2, sparse=sparse)
        optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
        sampler, found = Sampler(optimizer, table), None
        for rows in ([0, 1, 1], [1, 2, 2], [3, 1, 0]):
            sampler.before()
            optimizer.zero_grad()
            table(torch.tensor(rows)).square().sum().backward()
            optimizer.step()
            found = sampler.after()
        return replace(found, descent_cosine=round(found.descent_cosine, 6))

    assert sampled(sparse=True) == sampled(sparse=False)


def test_what_rounding_swallows_is_counted():
    weight = nn.Parameter(torch.tensor([1.0, 1.0, 1.0, 0.0]).bfloat16())
    optimizer = torch.optim.SGD([weight], lr=1e-4)
    gradient = torch.tensor([1.0, 1.0, 0.0, 1.0]).bfloat16()
    found = sample(optimizer, [gradient] * 3)
    assert found.unchanged == pytest.approx(2 / 3)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_with_constant_gradients_sigma_is_their_root_mean_square(make):
    optimizer = make([parameter(1.0, 2.0)], lr=0.1)
    found = sample(optimizer, [vector(3.0, 4.0)] * 3)
    assert found.sigma == pytest.approx(math.sqrt(12.5))
    assert found.sigma_ratio == pytest.approx(1.0)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad])
def test_weight_decay_that_is_squared_with_the_gradient_does_not_make_sigma_look_stale(make):
    weights = parameter(3.0, -4.0, 5.0)
    optimizer = make([weights], lr=1e-6, weight_decay=10.0)
    found = sample(optimizer, [vector(0.1, 0.2, 0.1)] * 3000)
    assert found.sigma_ratio == pytest.approx(1.0, rel=1e-2)
    assert found.gradient_norm == pytest.approx(math.sqrt(0.06))


def test_what_weight_decay_leaves_of_the_gradient_is_nothing_where_the_optimizer_rests():
    weights = parameter(1.0, -2.0)
    found = sample(torch.optim.SGD([weights], lr=0.1, weight_decay=0.5), [vector(-0.5, 1.0)] * 3)
    assert found.unbalanced == pytest.approx(0.0, abs=1e-12)
    assert found.gradient_norm == pytest.approx(math.hypot(0.5, 1.0))
    assert sample(torch.optim.SGD([parameter(1.0)], lr=0.1), [vector(1.0)] * 3).unbalanced == 1.0


def test_layers_and_groups_add_up_to_the_whole():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    sampler, found = Sampler(optimizer, model), None
    for _ in range(3):
        sampler.before()
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        found = sampler.after()
    assert list(found.layers) == ["0", "2"]
    for parts in (found.layers.values(), found.groups):
        assert math.hypot(*(part.gradient_norm for part in parts)) == pytest.approx(found.gradient_norm)
        assert math.hypot(*(part.update_norm for part in parts)) == pytest.approx(found.update_norm)


def test_gradients_that_are_gone_after_the_step_give_no_sample_and_no_error():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.1)
    sampler = Sampler(optimizer)
    for _ in range(2):
        sampler.before()
        assert sampler.after() is None
    assert not sampler.close
    assert not sampler.erased


def test_gradients_that_the_step_itself_clears_are_not_called_erased():
    weight = parameter(1.0)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    sampler = Sampler(optimizer)
    for _ in range(4):
        weight.grad = vector(1.0)
        sampler.micro_batch()
        sampler.before()
        weight.grad = None
        sampler.after()
        assert not sampler.erased


@pytest.mark.parametrize("gone", [None, 0.0])
def test_gradients_that_come_within_the_step_are_not_called_erased_where_none_were_there_before(gone):
    weight = parameter(1.0)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    sampler = Sampler(optimizer)
    for _ in range(4):
        weight.grad = None if gone is None else vector(gone)  # as before a validation, by zero_grad()
        sampler.before()
        weight.grad = vector(1.0)  # by the closure
        sampler.micro_batch()
        sampler.after()
        assert not sampler.erased


def test_gradients_that_are_gone_when_the_optimizer_steps_are_called_erased():
    weight = parameter(1.0)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    sampler, seen = Sampler(optimizer), set()
    for _ in range(4):
        weight.grad = vector(1.0)
        sampler.micro_batch()
        weight.grad = None
        sampler.before()
        sampler.after()
        seen.add(sampler.erased)
    assert True in seen


@pytest.mark.parametrize("cleared", [True, False])
def test_of_gradients_that_pile_up_it_is_not_said_where_steps_lead(cleared):
    weight = parameter(1.0)
    optimizer = torch.optim.SGD([weight], lr=3.0)  # three times too long on this parabola
    sampler, found = Sampler(optimizer), None
    for _ in range(3):
        if cleared:
            optimizer.zero_grad()
        sampler.before_micro_batch()
        weight.square().sum().div(2.0).backward()
        sampler.micro_batch()
        sampler.before()
        optimizer.step()
        found = sampler.after()
    assert found.piled is not cleared
    compared = (found.overshoot, found.gradient_cosine, found.signal, found.noise)
    assert all((one is not None) is cleared for one in compared)


@pytest.mark.parametrize("cleared", ["outside", "inside", "in place"])
def test_gradients_pile_up_in_a_closure_that_leaves_those_of_its_last_point_and_not_where_it_adds_up_batches(
    cleared,
):
    weight = parameter(1.0, 2.0)
    optimizer = torch.optim.LBFGS([weight], lr=0.1, max_iter=3)
    sampler, found = Sampler(optimizer), None

    def closure():
        if cleared != "outside":
            optimizer.zero_grad(set_to_none=cleared == "inside")
        for part in (1.0, 3.0):  # two micro-batches
            sampler.before_micro_batch()
            loss = part * weight.pow(4).sum()
            loss.backward()
            sampler.micro_batch()
        return loss

    for _ in range(3):
        optimizer.zero_grad()
        sampler.before()
        optimizer.step(closure)
        found = sampler.after() or found
    assert found.piled is (cleared == "outside")


def test_parameters_that_no_gradient_comes_to_any_more_are_no_longer_reached():
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer = torch.optim.Adam(first.parameters())
    sampler = Sampler(optimizer, first)
    reached = []
    for model in (first, first, first, *8 * (second,)):  # whose optimizer this is not
        optimizer.zero_grad()
        model(torch.ones(3, 2)).sum().backward()
        sampler.micro_batch()
        sampler.before()
        optimizer.step()
        sampler.after()
        reached.append(bool(sampler.reached))
    assert reached[0]
    assert not reached[-1]
