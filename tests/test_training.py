import dataclasses

import accelerate
import lightning
import pytest
import torch
from torch import nn

from objective import zoo
from unstuck import Training, supervised


def test_supervised_applies_the_criterion_to_what_the_model_makes_of_the_inputs():
    model, (inputs, targets) = zoo.perceptron(), zoo.batches(5)[0]
    loss = supervised(nn.CrossEntropyLoss())
    for batch in ((inputs, targets), [inputs, targets]):
        assert torch.equal(loss(model, batch), nn.functional.cross_entropy(model(inputs), targets))


def test_a_training_keeps_what_it_was_given_and_cannot_be_changed():
    model, data = zoo.perceptron(), zoo.batches(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training = Training(model, supervised(nn.functional.cross_entropy), data, optimizer, validation=data)
    assert (training.model, training.data, training.optimizer) == (model, data, optimizer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        training.model = nn.Linear(1, 1)  # type: ignore[misc]


def test_an_optimizer_of_some_of_the_parameters_is_accepted():
    model = zoo.perceptron()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    assert Training(model, print, zoo.batches(5), optimizer).optimizer is optimizer


def momentum_and_schedule():
    model = zoo.perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def test_what_accelerate_wraps_around_optimizer_and_scheduler_is_taken_off():
    model, optimizer, scheduler = momentum_and_schedule()
    wrapped = accelerate.Accelerator(cpu=True).prepare(optimizer, scheduler)
    assert wrapped[0] is not optimizer
    training = Training(model, print, zoo.batches(5), *wrapped)
    assert training.optimizer is optimizer
    assert training.scheduler is scheduler


def test_what_lightning_wraps_around_an_optimizer_is_taken_off():
    model, optimizer, _ = momentum_and_schedule()
    wrapped = lightning.pytorch.core.optimizer.LightningOptimizer(optimizer)
    assert Training(model, print, zoo.batches(5), wrapped).optimizer is optimizer
    _, wrapped = lightning.Fabric(accelerator="cpu", devices=1).setup(model, optimizer)
    assert wrapped is not optimizer
    assert Training(model, print, zoo.batches(5), wrapped).optimizer is optimizer


def test_an_optimizer_with_a_rule_of_its_own_around_another_is_left():
    class Ahead(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer
            super().__init__(optimizer.param_groups, {})

        def step(self, closure=None):
            return self.optimizer.step(closure)

    model, optimizer, _ = momentum_and_schedule()
    ahead = Ahead(optimizer)
    assert Training(model, print, zoo.batches(5), ahead).optimizer is ahead


def test_making_a_training_reads_no_data():
    class Watched(list):
        def __iter__(self):
            pytest.fail("was read")

    Training(zoo.perceptron(), print, Watched(zoo.batches(5)))
