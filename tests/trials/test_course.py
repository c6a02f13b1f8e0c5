"""A continuation on copies is the very training that a plain loop in PyTorch would do."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.demos.digits import digits
from unstuck.measurements.optimizer.schedule import updates_per_schedule_step
from unstuck.measurements.records import Sample
from unstuck.objective import Objective, draw
from unstuck.remedies.run import Run
from unstuck.trials.course import Course, Held
from unstuck.trials.orders import Orders

LOSS = supervised(nn.functional.cross_entropy)
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5),
}


def training(make=OPTIMIZERS["momentum"], schedule=None, data=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 10))
    optimizer = make(model.parameters())
    scheduler = None if schedule is None else schedule(optimizer)
    images, labels = digits()
    batches = list(zip(images[:320].split(32), labels[:320].split(32), strict=True))
    made = Training(model, LOSS, batches if data is None else data, optimizer, scheduler)
    plain(made, batches[:5])  # so that there is a state to go on from
    return made


def plain(made, batches):
    for batch in batches:
        made.optimizer.zero_grad()
        made.loss(made.model, batch).backward()
        made.optimizer.step()
        if made.scheduler is not None:
            made.scheduler.step()


def objective(made):
    return Objective(made, draw(made.data, seed=0, enough=lambda *_: False).batches)


def course(made, batches, horizon=None, change=None):
    sample = objective(made)
    run = Run(made, sample)
    if change is not None:
        change(run)
    held = Held(tuple(range(len(sample.batches))), sample.weights)
    return Course(run, batches, horizon or float(sum(batch.examples for batch in batches)), held)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("scheduled", [False, True])
def test_it_makes_the_steps_of_a_plain_loop(name, scheduled):
    schedule = (lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)) if scheduled else None
    made = training(OPTIMIZERS[name], schedule)
    batches = objective(made).batches
    with unchanged(made):
        gone = course(made, batches)
        gone.advance(1.0, lambda: False)
    reference = copy.deepcopy(made)
    counted = updates_per_schedule_step(made)
    if scheduled and counted is None:  # plain momentum counts no steps: the rate then stays as it is
        reference = Training(reference.model, LOSS, reference.data, reference.optimizer)
    plain(reference, made.data)
    expected = torch.cat([parameter.detach().flatten() for parameter in reference.model.parameters()])
    torch.testing.assert_close(gone.theta(), expected, rtol=1e-5, atol=1e-6)


def test_the_cost_never_exceeds_the_horizon():
    made = training()
    gone = course(made, objective(made).batches, horizon=100.0)
    gone.advance(1.0, lambda: False)
    assert gone.spent == 96.0


def test_larger_batches_and_smaller_ones_cost_what_they_evaluate():
    made = training()
    batches = objective(made).batches
    gone = course(
        made, batches, change=lambda run: setattr(run, "regroup", lambda all_: [tuple(all_[:4])] * 9)
    )
    gone.advance(1.0, lambda: False)
    assert gone.spent == 2 * 4 * 32


def test_time_that_is_over_ends_it_at_once():
    made = training()
    gone = course(made, objective(made).batches)
    gone.advance(1.0, lambda: True)
    assert gone.spent == 0.0


def test_a_run_that_is_thrown_out_ends_infinitely_high():
    made = training(lambda p: torch.optim.SGD(p, lr=0.1))
    gone = course(made, objective(made).batches, change=lambda run: run.scale_rate(1e38))
    gone.advance(1.0, lambda: False)
    assert gone.end() == math.inf


def test_the_mean_of_the_parameters_is_looked_at_where_the_remedy_says_so():
    made = training()
    batches = objective(made).batches

    def averaged(run):
        run.average_from = 0.0

    seen = []
    mean, last = course(made, batches, change=averaged), course(made, batches)
    for share in (0.25, 0.5, 0.75, 1.0):
        mean.advance(share, lambda: False)
        last.advance(share, lambda: False)
        seen.append(last.theta())
    assert (mean.theta() - last.theta()).norm() > 0.1 * (seen[0] - seen[-1]).norm()
    assert torch.equal(mean.run.theta(), last.run.theta())


def sample_of(made, *, whole=True):
    drawn = objective(made)
    return Sample(drawn.examples, len(drawn.batches), exhaustive=whole, stochastic=False, whole=whole)


def test_a_fixed_order_is_kept_and_begins_elsewhere():
    made = training()
    orders = Orders(made, sample_of(made), batches=10, seed=0)
    labels = [[batch.content[1].tolist() for batch in orders(number)] for number in range(3)]
    given = [batch[1].tolist() for batch in made.data]
    for order in labels:
        start = given.index(order[0])
        assert order == given[start:] + given[:start]
    assert labels[0] != labels[1] != labels[2]


def test_shuffled_data_are_drawn_anew_each_order_and_each_pass_holds_every_example_once():
    images, labels = digits()
    numbered = TensorDataset(images[:96], torch.arange(96))
    made = training(data=DataLoader(TensorDataset(images[:96], labels[:96]), batch_size=32, shuffle=True))
    made = Training(made.model, LOSS, DataLoader(numbered, batch_size=32, shuffle=True), made.optimizer)
    orders = Orders(made, Sample(96, 3, exhaustive=True, stochastic=False, whole=True), batches=6, seed=0)
    first, second = ([batch.content[1].tolist() for batch in orders(number)] for number in (0, 1))
    assert first != second
    for order in (first, second):
        for start in (0, 3):
            assert sorted(n for batch in order[start : start + 3] for n in batch) == list(range(96))
    assert [batch.content[1].tolist() for batch in orders(0)] == first


def test_a_loader_with_a_generator_of_its_own_is_drawn_anew_too_and_keeps_its_state():
    images, _ = digits()
    numbered = TensorDataset(images[:96], torch.arange(96))
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    loader = DataLoader(numbered, batch_size=32, shuffle=True, generator=generator)
    made = training()
    made = Training(made.model, LOSS, loader, made.optimizer)
    orders = Orders(made, Sample(96, 3, exhaustive=True, stochastic=False, whole=True), batches=3, seed=0)
    first, second = ([batch.content[1].tolist() for batch in orders(number)] for number in (0, 1))
    assert first != second
    assert torch.equal(generator.get_state(), state)


def test_every_step_of_every_order_has_a_dropout_of_its_own():
    made = training()
    orders = Orders(made, sample_of(made), batches=25, seed=0)
    seeds = [batch.seed for number in range(5) for batch in orders(number)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("every", "expected"), [(1, 1), (10, 10)])
def test_how_often_a_scheduler_steps_is_told_from_the_counts(every, expected):
    made = training(OPTIMIZERS["adam"])
    scheduler = torch.optim.lr_scheduler.ExponentialLR(made.optimizer, 0.9)
    made = Training(made.model, LOSS, made.data, made.optimizer, scheduler)
    for parameter in made.model.parameters():
        made.optimizer.state[parameter]["step"] = torch.tensor(0.0)
    for number in range(20):
        plain(Training(made.model, LOSS, made.data, made.optimizer), made.data[number % 10 : number % 10 + 1])
        if (number + 1) % every == 0:
            scheduler.step()
    assert updates_per_schedule_step(made) == expected


def test_a_schedule_that_was_left_behind_is_not_taken_up_again():
    made = training(OPTIMIZERS["adam"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(made.optimizer, 10)
    made = Training(made.model, LOSS, made.data, made.optimizer, scheduler)
    plain(made, made.data[:5])
    plain(Training(made.model, LOSS, made.data, made.optimizer), made.data)
    assert updates_per_schedule_step(made) is None


def test_where_no_count_tells_the_rate_is_left_alone():
    made = training(schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    assert updates_per_schedule_step(made) is None
