"""Real trainings on digits, each stuck for a reason of its own, and their verdicts, made once."""

import itertools
import math
from functools import cache

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unstuck
from unstuck.demos import DEMOS
from unstuck.demos.digits import batches, digits, projections, raw_digits
from unstuck.demos.moving import moments

LOSS = unstuck.supervised(nn.CrossEntropyLoss())


def network(*activations, width=32, seed=0):
    torch.manual_seed(seed)
    layers, inputs = [], 64
    for activation in activations:
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def trained(model, data, optimizer, epochs=1, loss=LOSS, **more):
    for _ in range(epochs):
        for batch in data:
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    return unstuck.Training(model=model, loss=loss, data=data, optimizer=optimizer, **more)


def sgd(model, rate):
    return torch.optim.SGD(model.parameters(), lr=rate)


def rate_too_large():
    model = nn.Linear(16, 10)
    return trained(model, [projections()], sgd(model, 20.0), epochs=300)


def rate_too_small():
    model = network(nn.ReLU)
    return trained(model, batches(*digits()), sgd(model, 3e-4))


def softmax_twice():
    model = network(nn.ReLU).append(nn.Softmax(dim=1))
    return trained(model, batches(*digits()), torch.optim.Adam(model.parameters(), lr=3e-3), epochs=20)


def dead_units():
    model = network(nn.ReLU, nn.ReLU)
    with torch.no_grad():
        model[2].bias.fill_(-30.0)
    return trained(model, batches(*digits()), sgd(model, 0.1))


def saturated_units():
    """Moments of up to ten thousand, not scaled, into tanh."""
    images, labels = raw_digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 10))
    return trained(model, batches(moments(images), labels), sgd(model, 0.1), epochs=30)


def vanishing_gradient():
    model = network(*[nn.Sigmoid] * 8)
    return trained(model, batches(*digits()), sgd(model, 0.1))


def missing_value():
    images, labels = digits()
    images[40, 3] = math.nan
    model = network(nn.ReLU)
    data = [(images[:100], labels[:100])]
    return unstuck.Training(model=model, loss=LOSS, data=data, optimizer=sgd(model, 0.1))


def frozen_body():
    model = network(nn.ReLU)
    with torch.no_grad():
        model[0].weight.mul_(0.01)
    model[0].requires_grad_(requires_grad=False)
    return trained(model, batches(*digits()), torch.optim.Adam(model[2].parameters(), lr=0.01), epochs=20)


def lost_in_rounding():
    images, labels = digits()
    model = network(nn.ReLU).bfloat16()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    data = batches(images.bfloat16(), labels)
    return trained(model, data, torch.optim.Adam(model.parameters(), lr=2e-4))


def stale_scale():
    model = network(nn.ReLU)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    training = trained(model, batches(*digits()), optimizer)
    for state in optimizer.state.values():
        state["sum"].mul_(1e6)
    return training


def sorted_classes():
    features, labels = projections()
    order = labels.argsort()
    data = DataLoader(TensorDataset(features[order], labels[order]), batch_size=45)
    model = nn.Linear(16, 10)
    return trained(model, data, sgd(model, 2.0), epochs=5)


def shuffled_labels():
    images, labels = digits()
    mixed = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    model = network(nn.ReLU)
    return trained(
        model, batches(images + 1e-3 * torch.randn_like(images), mixed), sgd(model, 0.02), epochs=3
    )


def learnt_by_heart():
    features, labels = projections()
    noise = torch.randint(10, labels.shape, generator=torch.Generator().manual_seed(0))
    labels = torch.where(torch.arange(len(labels)) % 3 == 0, noise, labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 10))
    data = [(features[i : i + 30], labels[i : i + 30]) for i in range(0, 300, 30)]
    validation = [(features[i : i + 100], labels[i : i + 100]) for i in range(300, 1500, 100)]
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    return trained(model, data, adam, epochs=40, validation=validation)


def optimizer_that_cannot_be_copied():
    images, labels = digits()
    model = network(nn.ReLU)

    class Fussy(torch.optim.SGD):
        def __deepcopy__(self, memo):
            message = "This optimizer holds a connection and cannot be copied."
            raise RuntimeError(message)

    optimizer = Fussy(model.parameters(), lr=0.1)
    return unstuck.Training(model=model, loss=LOSS, data=batches(images, labels), optimizer=optimizer)


RUNS = {
    "rate too large": rate_too_large,
    "rate too small": rate_too_small,
    "softmax twice": softmax_twice,
    "dead units": dead_units,
    "saturated units": saturated_units,
    "plateau": DEMOS["plateau"].setup,
    "vanishing gradient": vanishing_gradient,
    "missing value": missing_value,
    "frozen body": frozen_body,
    "lost in rounding": lost_in_rounding,
    "stale scale": stale_scale,
    "sorted classes": sorted_classes,
    "shuffled labels": shuffled_labels,
    "learnt by heart": learnt_by_heart,
    "much left out": optimizer_that_cannot_be_copied,
    "noise": DEMOS["noise"].setup,
    "healthy": DEMOS["healthy"].setup,
    "valley": DEMOS["valley"].setup,
    "saddle": DEMOS["saddle"].setup,
}


def recorded(training, steps=400):
    """Go on for some steps and write down what a careful loop would."""
    losses, norms = [], []
    for _, batch in zip(range(steps), itertools.cycle(training.data), strict=False):
        training.optimizer.zero_grad()
        loss = training.loss(training.model, batch)
        loss.backward()
        losses.append(loss.item())
        norms.append(float(nn.utils.get_total_norm([p.grad for p in training.model.parameters()])))
        training.optimizer.step()
    return unstuck.History(losses, gradient_norm=norms)


WITH_A_RECORD = ("rate too large",)


@cache
def verdict_of(name):
    """Diagnose it, once in a session, with time enough for all the data however slow the machine is."""
    torch.manual_seed(0)
    training = RUNS[name]()
    history = recorded(training) if name in WITH_A_RECORD else None
    return unstuck.diagnose(training, history=history, budget=120.0, trials=False).verdict
