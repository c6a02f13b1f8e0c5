import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from unstuck import Training, supervised
from unstuck.measurements.optimizer.steps import Twin, next_step
from unstuck.objective import Objective, draw

OPTIMIZERS = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "SGD momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.01),
    "Adam amsgrad": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01),
    "Adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.05),
    "RMSprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, momentum=0.5, centered=True),
    "Adadelta": lambda groups: torch.optim.Adadelta(groups, lr=1.0),
    "Adamax": lambda groups: torch.optim.Adamax(groups, lr=0.01),
    "NAdam": lambda groups: torch.optim.NAdam(groups, lr=0.01),
    "RAdam": lambda groups: torch.optim.RAdam(groups, lr=0.01),
    "ASGD": lambda groups: torch.optim.ASGD(groups, lr=0.05),
    "Rprop": lambda groups: torch.optim.Rprop(groups, lr=0.01),
    "Adafactor": lambda groups: torch.optim.Adafactor(groups, lr=0.01),
}
# These take one group only, or matrices only.
PLAIN = {
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, lr=0.5, max_iter=5, history_size=4),
    "LBFGS Wolfe": lambda parameters: torch.optim.LBFGS(
        parameters, max_iter=5, line_search_fn="strong_wolfe"
    ),
}
if hasattr(torch.optim, "Muon"):
    PLAIN["Muon"] = lambda parameters: torch.optim.Muon(parameters, lr=0.02)
DECAYED = {"SGD momentum", "Adam", "AdamW", "Adagrad", "RMSprop", "NAdam", "Adadelta", "ASGD"}
LOSS = supervised(nn.functional.cross_entropy)


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 4, generator=generator)
    labels = torch.randint(0, 3, (24,), generator=generator)
    return [(inputs[i : i + 6], labels[i : i + 6]) for i in range(0, 24, 6)]


def step(training, batches):
    """One step of the real thing: the loss of the batches together."""

    def closure():
        training.optimizer.zero_grad()
        loss = torch.stack([training.loss(training.model, batch) for batch in batches]).mean()
        loss.backward()
        return loss

    training.optimizer.step(closure)


def run(name, *, scheduled=False):
    """The same training at each call: some steps into its run, so that the optimizer has a state."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False))
    if name in PLAIN:
        optimizer = PLAIN[name](model.parameters())
    else:
        first, second = model[0].weight, model[2].weight
        decay = {"weight_decay": 0.1} if name in DECAYED else {}
        optimizer = OPTIMIZERS[name]([{"params": [first], **decay}, {"params": [second], "lr": 0.003}])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5) if scheduled else None
    training = Training(model, LOSS, data(), optimizer, scheduler)
    for batch in training.data[:3]:
        step(training, [batch])
        if scheduler:
            scheduler.step()
    optimizer.zero_grad()
    return training


def objective_of(training):
    return Objective(training, draw(training.data, seed=0, enough=lambda *_: False).batches)


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def flat(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", [*OPTIMIZERS, *PLAIN])
def test_the_next_step_is_the_one_the_optimizer_really_takes(name, scheduled):
    training, real = run(name, scheduled=scheduled), run(name, scheduled=scheduled)
    displacement = next_step(objective_of(training), training.optimizer, [1])
    before = flat(real.model)
    step(real, [real.data[1]])
    assert float(displacement.norm()) > 0.0
    torch.testing.assert_close(displacement, flat(real.model) - before, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *PLAIN])
def test_steps_in_a_row_carry_the_state_on(name):
    training, real = run(name), run(name)
    twin, before = Twin(objective_of(training), training.optimizer), flat(real.model)
    for index in (0, 2, 1):
        displacement = twin.step([index])
        step(real, [real.data[index]])
        torch.testing.assert_close(displacement, flat(real.model) - before, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("clip", [1e-3, 0.1, 100.0])
@pytest.mark.parametrize("name", ["SGD momentum", "Adam"])
def test_gradients_are_clipped_as_the_run_does(name, clip):
    training, real = run(name), run(name)
    training, before = replace(training, clip=clip), flat(real.model)
    twin = Twin(objective_of(training), training.optimizer)
    for index in (0, 2):
        displacement = twin.step([index])
        real.optimizer.zero_grad()
        real.loss(real.model, real.data[index]).backward()
        nn.utils.clip_grad_norm_(real.model.parameters(), clip)
        real.optimizer.step()
        torch.testing.assert_close(displacement, flat(real.model) - before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD momentum", "Adam"])
def test_the_step_on_the_whole_sample_is_that_on_its_mean_gradient(name):
    training, real = run(name), run(name)
    displacement = next_step(objective_of(training), training.optimizer, range(4))
    before = flat(real.model)
    step(real, real.data)
    torch.testing.assert_close(displacement, flat(real.model) - before, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *PLAIN])
def test_the_optimizer_and_its_parameters_stay_as_they_are(name):
    training = run(name, scheduled=True)
    parameters, state = flat(training.model).clone(), copy.deepcopy(training.optimizer.state_dict())
    counted = training.scheduler.state_dict()
    objective = objective_of(training)
    next_step(objective, training.optimizer, [0])
    Twin(objective, training.optimizer).walk([0, 1, 2])
    assert torch.equal(flat(training.model), parameters)
    assert all(parameter.grad is None for parameter in training.model.parameters())
    assert training.scheduler.state_dict() == counted
    assert training.optimizer.state_dict().keys() == state.keys()
    for now, then in zip(leaves(training.optimizer.state_dict()), leaves(state), strict=True):
        assert torch.equal(now, then) if isinstance(now, torch.Tensor) else now == then


class Counting(torch.optim.SGD):
    """A stranger's optimizer, with a field of its own that its step needs and one that no copy can be made of."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.log = (line for line in ())
        self.made = [0]

    def step(self, closure=None):
        self.made[0] += 1
        return super().step(closure)


def test_an_optimizer_that_takes_sparse_gradients_alone_is_given_such():
    torch.manual_seed(0)
    model = nn.EmbeddingBag(9, 3, sparse=True)
    tokens, labels = torch.tensor([[0, 1], [2, 3]]), torch.tensor([0, 2])
    training = Training(
        model, LOSS, [(tokens, labels)], torch.optim.SparseAdam(list(model.parameters()), lr=0.1)
    )
    before = flat(model)
    moved = Twin(objective_of(training), training.optimizer).walk([0, 0])
    for _ in range(2):
        step(training, training.data)
    torch.testing.assert_close(moved, flat(model) - before)


def test_a_strangers_optimizer_keeps_what_its_step_needs_to_itself():
    model = nn.Linear(4, 3)
    optimizer = Counting(model.parameters(), lr=0.1)
    training = Training(model, LOSS, data(), optimizer)
    displacement = next_step(objective_of(training), optimizer, [0])
    assert float(displacement.norm()) > 0.0
    assert optimizer.made == [0]


class Sharp(torch.optim.SGD):
    """SAM: the gradient of where the loss is higher, a little uphill, for which it evaluates the loss twice."""

    @torch.no_grad()
    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
        closure()
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm()
        uphill = [0.05 * parameter.grad / norm for parameter in parameters]
        for parameter, each in zip(parameters, uphill, strict=True):
            parameter.add_(each)
        closure()
        for parameter, each in zip(parameters, uphill, strict=True):
            parameter.sub_(each)
        return super().step()


def test_steps_that_evaluate_the_loss_twice_are_those_that_such_an_optimizer_takes():
    model = nn.Linear(4, 3)
    training = Training(model, LOSS, data(), Sharp(model.parameters(), lr=0.1, momentum=0.9))
    before = flat(model)
    moved = Twin(objective_of(training), training.optimizer).walk([0, 1])
    for batch in training.data[:2]:
        step(training, [batch])
    torch.testing.assert_close(moved, flat(model) - before, rtol=1e-4, atol=1e-6)


def test_hooks_of_the_user_do_not_run():
    training = run("Adam")
    heard = []
    training.optimizer.register_step_pre_hook(lambda *_: heard.append("before"))
    training.optimizer.register_step_post_hook(lambda *_: heard.append("after"))
    next_step(objective_of(training), training.optimizer, [0])
    assert heard == []


def test_where_each_parameter_keeps_the_length_of_its_step_another_rate_is_another_length():
    training = run("Rprop")
    objective = objective_of(training)
    present, longer = Twin(objective, training.optimizer), Twin(objective, training.optimizer)
    with longer.scaled(0.5):
        assert torch.allclose(longer.step([0]), 0.5 * present.step([0]), rtol=1e-3, atol=1e-7)


def test_bounds_that_the_length_of_a_step_is_kept_within_are_lengths_too():
    training = run("Rprop")
    for group in training.optimizer.param_groups:
        group["step_sizes"] = (1e-7, 1e-5)
    objective = objective_of(training)
    present, longer = Twin(objective, training.optimizer), Twin(objective, training.optimizer)
    with longer.scaled(1e3):
        assert torch.allclose(longer.step([0]), 1e3 * present.step([0]), rtol=0.02, atol=1e-5)
    assert longer.optimizer.param_groups[0]["step_sizes"] == pytest.approx((1e-7, 1e-5))
    assert training.optimizer.param_groups[0]["step_sizes"] == (1e-7, 1e-5)


def test_a_rate_that_decays_by_itself_is_another_one_at_the_steps_that_follow_too():
    training = run("ASGD")
    for group in training.optimizer.param_groups:
        group |= {"lambd": 5.0, "alpha": 3.0}
    twin, longer = (Twin(objective_of(training), training.optimizer) for _ in range(2))
    for _ in range(3):
        twin.step([0])
        with longer.scaled(4.0):
            longer.step([0])
            lengths = [[float(state["eta"]) for state in each.states()] for each in (twin, longer)]
        assert lengths[1] == pytest.approx([4.0 * length for length in lengths[0]])
