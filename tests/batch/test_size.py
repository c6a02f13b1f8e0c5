"""From a training to an answer, on trainings of every kind."""

import json
import math
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.batch.copied import Copied, borrowed
from unstuck.batch.pool import of
from unstuck.batch.records import Answer
from unstuck.errors import TrainingError, UnstuckError
from unstuck.objective import Objective, draw


def digits(*, rate=0.8, size=32, steps=60, optimizer=torch.optim.SGD):
    """A perceptron on the digits, part-way down."""
    torch.manual_seed(0)
    found = load_digits()
    x, y = torch.tensor(found.data / 16.0, dtype=torch.float32), torch.tensor(found.target)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    made = optimizer(model.parameters(), lr=rate)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for step in range(steps):
        rows = order[(step * size) % 1024 :][:size]

        def closure(rows=rows):
            made.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            return loss

        made.step(closure)
    train, rest = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])
    loader = DataLoader(train, batch_size=size, shuffle=True)
    loss = supervised(nn.CrossEntropyLoss())
    return Training(model, loss, loader, made, validation=DataLoader(rest, batch_size=100))


@pytest.fixture(scope="module")
def answered():
    return unstuck.batch_size(digits(), budget=15.0)


def test_near_the_right_rate_sizes_are_recommended(answered):
    decision = answered.sizing.decision
    assert decision.answer is Answer.RECOMMENDED
    assert answered.low == decision.low <= decision.best <= decision.high == answered.high
    assert decision.fit is not None
    # Of few examples a batch is noisy, of very many no better: there is a size beyond which updates hardly fall.
    by_size = {option.size: option.updates for option in decision.options if option.updates}
    assert by_size[max(by_size)].value < by_size[min(by_size)].value
    assert 4 <= decision.best <= 512


def test_what_was_measured_is_told_as_it_is(answered):
    sizing = answered.sizing
    assert sizing.present == 32
    assert sizing.examples == 1400
    assert sizing.rule == "linear"
    assert sizing.noise.separable
    assert sizing.noise.simple.estimate.value > 1.0
    assert sizing.order is not None
    assert not sizing.order.structure.suspicious
    assert all(option.validation is not None for option in sizing.decision.options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "rate", "said"),
    [
        (torch.optim.SGD, 0.025, "too small"),
        (torch.optim.Adam, 0.0005, "too small"),
        # The units are dead, and no rate brings the loss down from there.
        (torch.optim.SGD, 10.0, "too large: with weights made anew"),
        # The weights are thrown so far that half the rate is the best from there.
        (torch.optim.Adam, 0.3, "too large: with weights made anew"),
    ],
)
def test_a_rate_that_is_twenty_times_off_is_said_instead(optimizer, rate, said):
    made = unstuck.batch_size(digits(rate=rate, optimizer=optimizer, steps=30), budget=8.0)
    assert made.sizing.decision.answer is Answer.WRONG_RATE
    assert said in made.sizing.decision.reason
    assert made.low is None
    assert json.loads(made.to_json())["recommended"]["low"] is None
    assert "Mend the learning rate first" in str(made)


@pytest.mark.parametrize(("name", "make", "loss"), zoo.CASES, ids=[case[0] for case in zoo.CASES])
def test_no_training_is_changed_by_one_bit(name, make, loss):
    torch.manual_seed(0)
    training = zoo.training(make(), loss, None)
    with unchanged(training):
        answer = unstuck.batch_size(training, budget=0.5)
    assert answer.sizing.decision.answer in Answer
    assert json.loads(answer.to_json())["schema"] == 1
    assert str(answer)


def test_a_loss_that_means_its_own_model_is_not_trained_behind_its_back():
    model = nn.Linear(3, 1)
    data = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(8)]

    def loss(_model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    training = Training(model, loss, data, torch.optim.SGD(model.parameters(), lr=0.1))
    with unchanged(training):
        answer = unstuck.batch_size(training, budget=1.0)
    assert answer.low is None
    assert any("does not evaluate the model" in text for text in answer.sizing.omitted)


def test_without_an_optimizer_time_and_noise_are_measured_all_the_same():
    made = digits()
    answer = unstuck.batch_size(Training(made.model, made.loss, made.data), budget=1.0)
    assert answer.sizing.decision.answer is Answer.NOT_RESOLVED
    assert "optimizer" in answer.sizing.decision.reason
    assert answer.sizing.noise is not None


def test_one_batch_of_one_example_is_answered():
    model = nn.Linear(3, 1)
    data = [(torch.ones(1, 3), torch.ones(1, 1))]
    training = Training(model, supervised(nn.MSELoss()), data, torch.optim.SGD(model.parameters(), lr=0.1))
    answer = unstuck.batch_size(training, budget=1.0)
    assert answer.sizing.noise is None
    assert answer.sizing.omitted


def test_ctrl_c_gives_what_was_known_by_then():
    made = digits()
    comparing = False

    def told(stage, _share):
        nonlocal comparing
        comparing = stage == "continuing at several sizes"

    def loss(model, batch):
        if comparing:
            raise KeyboardInterrupt
        return made.loss(model, batch)

    training = Training(made.model, loss, made.data, made.optimizer)
    with unchanged(made):
        answer = unstuck.batch_size(training, budget=3.0, progress=told)
    assert answer.interrupted
    assert answer.sizing.clock is not None
    assert "interrupted" in answer.sizing.decision.reason


def test_ctrl_c_while_sizes_are_compared_keeps_what_was_compared_by_then():
    made = digits()
    shares = []

    def told(stage, share):
        # The time is not over, but about half of it.
        if stage == "continuing at several sizes" and share > 0.7:
            raise KeyboardInterrupt
        shares.append(share)

    with unchanged(made):
        answer = unstuck.batch_size(made, budget=8.0, progress=told)
    assert answer.interrupted
    assert len(answer.sizing.course.trials) >= 11
    assert answer.sizing.decision.rate is not None
    assert "it was interrupted" in answer.sizing.decision.reason
    assert json.loads(answer.to_json())["interrupted"]


def test_an_optimizer_that_holds_more_than_its_groups_is_copied_with_it():
    made = digits(steps=2, optimizer=torch.optim.LBFGS, size=200)
    pool = of(made, draw(made.data, seed=0, enough=lambda batches, _: batches >= 2))
    objective = Objective(made, pool.batches)
    copied = Copied(made, objective)
    before = [parameter.clone() for parameter in copied.model.parameters()]
    with unchanged(made), borrowed(objective):
        copied.step((pool.batches[0],))
    moved = zip(before, copied.model.parameters(), strict=True)
    assert not any(torch.equal(one, other) for one, other in moved)


def test_ctrl_c_ends_the_next_evaluation_of_a_copy():
    made = digits()
    pool = of(made, draw(made.data, seed=0, enough=lambda batches, _: batches >= 2))
    objective = Objective(made, pool.batches)
    copied = Copied(made, objective)

    def stepping():
        with borrowed(objective):
            signal.raise_signal(signal.SIGINT)  # held back here
            copied.step((pool.batches[0],))
            pytest.fail("it was not ended")

    with pytest.raises(KeyboardInterrupt):
        stepping()


def test_an_optimizer_that_leaves_a_closure_alone_is_given_gradients():
    class Plain(torch.optim.Optimizer):
        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                parameter.data -= 0.1 * parameter.grad

    made = digits()
    made = replace(made, optimizer=Plain(made.model.parameters(), {}))
    pool = of(made, draw(made.data, seed=0, enough=lambda batches, _: batches >= 2))
    objective = Objective(made, pool.batches)
    copied = Copied(made, objective)
    with unchanged(made), borrowed(objective):
        before = copied.loss(pool.batches[:1])
        copied.step((pool.batches[0],))
        assert copied.loss(pool.batches[:1]) < before


def test_batches_of_every_shape_are_taken_apart():
    model = nn.Linear(4, 2)
    rng = np.random.default_rng(0)
    data = [
        {
            "x": torch.tensor(rng.normal(size=(8, 4)), dtype=torch.float32),
            "y": torch.tensor(rng.integers(2, size=8)),
        }
        for _ in range(12)
    ]

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"])

    training = Training(model, loss, data, torch.optim.Adam(model.parameters(), lr=0.01))
    answer = unstuck.batch_size(training, budget=2.0)
    assert answer.sizing.present == 8
    assert answer.sizing.noise.piece == 1


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(UnstuckError, match="`budget` must be"):
        unstuck.batch_size(digits(steps=0), budget=budget)


def test_a_target_that_is_no_loss_is_refused():
    with pytest.raises(UnstuckError, match="`target` must be"):
        unstuck.batch_size(digits(steps=0), target=math.nan)


def test_a_training_that_cannot_be_evaluated_is_refused_with_one_line():
    model = nn.Linear(3, 1)
    data = [(torch.ones(4, 5), torch.ones(4, 1))] * 3
    training = Training(model, supervised(nn.MSELoss()), data, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TrainingError, match="`loss` failed on a batch"):
        unstuck.batch_size(training, budget=1.0)


def test_the_noise_takes_its_share_of_the_budget_and_no_more():
    made = digits()

    def loss(model, batch):
        value = made.loss(model, batch)
        if len(batch[0]) == 1:
            # A number that is asked for: so they are evaluated one by one.
            time.sleep(0.002 if value.item() > 0.0 else 0.0)
        return value

    answer = unstuck.batch_size(Training(made.model, loss, made.data, made.optimizer), budget=8.0)
    assert "item" in answer.sizing.noise.singly
    assert 64 <= answer.sizing.noise.examples < 1000
    assert answer.sizing.course is not None


class OnAGraph(nn.Module):
    """Two layers that mix neighbours: all nodes, or nothing."""

    def __init__(self, inputs, nodes):
        super().__init__()
        near = torch.eye(nodes) + torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(-1, 0)
        self.register_buffer("near", near / 3.0)
        self.first, self.second = nn.Linear(inputs, 16), nn.Linear(16, 10)

    def forward(self, features):
        return self.second(self.near @ torch.relu(self.first(self.near @ features)))


def test_where_the_loss_needs_all_of_a_batch_there_is_no_size_to_choose():
    torch.manual_seed(0)
    found = load_digits()
    nodes = [(torch.tensor(found.data[:200] / 16.0, dtype=torch.float32), torch.tensor(found.target[:200]))]
    model = OnAGraph(64, 200)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    training = Training(model, supervised(nn.CrossEntropyLoss()), nodes, optimizer)
    answer = unstuck.batch_size(training, budget=2.0)
    assert [timing.size for timing in answer.sizing.clock.timings] == [200]
    assert answer.low is None
    assert any("half of one" in left for left in answer.sizing.omitted)
    assert "no size to choose" in answer.sizing.decision.reason
