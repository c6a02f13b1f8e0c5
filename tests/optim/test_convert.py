import copy
import itertools
from functools import partial

import pytest
import torch
from problem import batches, network
from torch import nn

from unstuck.optim import AverageOfSquares, Optimizer, OptimizerError, convert

SGD, Adagrad, RMSprop = torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop
Adam, AdamW = torch.optim.Adam, torch.optim.AdamW
KINDS = {
    "gradient descent": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "dampened": partial(SGD, momentum=0.9, dampening=0.5, weight_decay=0.1),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "adagrad": partial(Adagrad, initial_accumulator_value=0.1),
    "rmsprop": RMSprop,
    "centred rmsprop": partial(RMSprop, centered=True, momentum=0.9, weight_decay=0.1),
    "adam": partial(Adam, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "amsgrad": partial(Adam, amsgrad=True),
    "decoupled": partial(Adam, decoupled_weight_decay=True, weight_decay=0.1),
    "adamw": AdamW,
    "adamw amsgrad": partial(AdamW, amsgrad=True, maximize=True),
}
FUSED = {"momentum": partial(SGD, momentum=0.9), "adam": Adam, "adamw": AdamW, "adagrad": Adagrad}


def train(model, optimizer, steps, begin=0):
    for inputs, labels in itertools.islice(batches(torch.float32), begin, begin + steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def groups(model):
    first, *others = model.named_parameters()
    return [{"params": [first], "lr": 0.002, "weight_decay": 0.05, "initial_lr": 0.003}, {"params": others}]


@pytest.mark.parametrize("before", [0, 20])
@pytest.mark.parametrize("name", KINDS)
def test_the_next_fifty_steps_are_the_originals_to_the_bit(name, before):
    model = network(torch.float32)
    original = KINDS[name](groups(model), lr=0.003, foreach=False)
    train(model, original, before)
    twin, taken = copy.deepcopy((model, original))
    converted = convert(taken)
    train(model, original, 50, begin=before)
    train(twin, converted, 50, begin=before)
    assert same(model, twin)
    assert converted.param_groups[0]["initial_lr"] == 0.003
    assert converted.param_groups[1]["param_names"] == original.param_groups[1]["param_names"]


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_original_is_gone_on_with_fused(name):
    model = network(torch.float32)
    original = FUSED[name](model.parameters(), lr=0.003, fused=True)
    train(model, original, 20)
    twin, taken = copy.deepcopy((model, original))
    train(model, original, 50, begin=20)
    train(twin, convert(taken), 50, begin=20)
    assert same(model, twin)


def test_complex_states_are_taken_over():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.ones(3, dtype=torch.complex128, requires_grad=True) for _ in range(2))
    original, taken = (Adam([theta], lr=0.01, foreach=False) for theta in (one, other))
    for step in range(20):
        if step == 10:
            taken = convert(taken)
        one.grad = torch.randn(3, dtype=torch.complex128, generator=generator)
        other.grad = one.grad.clone()
        original.step()
        taken.step()
    assert torch.allclose(one, other, rtol=1e-14, atol=0.0)


def test_a_stuck_run_changes_one_part_and_keeps_the_other():
    model = network(torch.float32)
    original = Adam(model.parameters(), lr=0.003)
    train(model, original, 30)
    momentum = original.state[model[0].weight]["exp_avg"].clone()
    converted = convert(original)
    converted.replace(scale=AverageOfSquares(0.9))
    assert torch.equal(converted.state[model[0].weight]["exp_avg"], momentum)
    train(model, converted, 10, begin=30)
    assert all(param.isfinite().all() for param in model.parameters())


class Own(torch.optim.Adam):
    """Someone's own Adam, which may step otherwise."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (torch.optim.NAdam, "takes over SGD, Adagrad, RMSprop, Adam, AdamW of torch.optim, not NAdam"),
        (Own, "not Own"),
        (partial(Adagrad, lr_decay=0.1), "lr_decay=0.1: decay the rate by a schedule"),
        (partial(Adam, capturable=True), "capturable=True: leave it out"),
        (lambda params: Optimizer(params, AverageOfSquares(), lr=0.1), "not Optimizer"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_in_one_line(make, words):
    with pytest.raises(OptimizerError, match=words) as error:
        convert(make([torch.ones(1, requires_grad=True)]))
    assert "\n" not in str(error.value)
