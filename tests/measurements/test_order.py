from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.demos.digits import digits
from unstuck.errors import MeasurementError
from unstuck.measurements.data.collating import pooled
from unstuck.measurements.data.exchangeability import most_structured
from unstuck.measurements.data.order import measure_order
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Objective, draw

torch.set_num_threads(1)
LOSS = supervised(nn.functional.cross_entropy)


def everything(_batches, _examples):
    return False


def by_class(count=600):
    images, labels = digits()
    order = torch.argsort(labels[:count], stable=True)
    return images[:count][order], labels[:count][order]


def mixed(count=600):
    images, labels = digits()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    return images[order], labels[order]


def cut(*tensors, size=30):
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


def training_on(data, *, rate=0.1, loss=LOSS, model=None):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    return Training(model, loss, data, torch.optim.SGD(model.parameters(), lr=rate))


def judge_of(training):
    objective = Objective(training, draw(training.data, seed=0, enough=everything).batches)
    halves = Halves.of(len(objective.batches), exhaustive=True)
    return Judge(objective, halves, objective.values(objective.theta))


def order_of(training):
    return measure_order(training, judge_of(training))


@cache
def sorted_order(rate):
    return order_of(training_on(cut(*by_class()), rate=rate))


def test_batches_sorted_by_class_are_known_by_their_targets():
    structure = sorted_order(0.1).structure
    assert structure.part == "targets"
    assert structure.suspicious
    assert structure.purity > 0.8
    assert structure.expected_purity < 0.4
    assert structure.correlation > 0.5


def test_shuffling_gains_where_classes_come_one_after_the_other():
    reordered = sorted_order(0.1).reordered
    assert reordered.extra.surely_above(0.1 * reordered.given_loss)
    assert reordered.shuffled_gain.value > reordered.given_gain.value


def test_with_tiny_steps_the_order_does_not_matter():
    reordered = sorted_order(1e-4).reordered
    assert abs(reordered.extra.value) < 1e-3 * reordered.given_loss


def test_random_batches_are_not_suspicious_and_cost_nothing():
    judge = judge_of(training_on(cut(*mixed())))
    spent = judge.objective.ledger.examples
    order = measure_order(training_on(cut(*mixed())), judge)
    assert not order.structure.suspicious
    assert order.reordered is None
    assert judge.objective.ledger.examples == spent


def test_trying_the_order_costs_about_six_gradients_over_the_sample():
    training = training_on(cut(*by_class(1797), size=50))
    judge = judge_of(training)
    before = judge.objective.ledger.examples
    assert measure_order(training, judge).reordered is not None
    assert judge.objective.ledger.examples - before < 7 * judge.objective.examples


@pytest.mark.parametrize("taken", [None, 6])
def test_what_trying_the_order_costs_is_asked_for_beforehand(taken):
    training = training_on(cut(*by_class(1797), size=50)[:taken])
    judge = judge_of(training)
    before, asked = judge.objective.ledger.examples, []
    assert measure_order(training, judge, claim=asked.append).reordered is not None
    spent = (judge.objective.ledger.examples - before) / judge.objective.examples
    assert asked == [pytest.approx(spent, rel=0.1)]


def test_without_time_to_try_the_order_its_structure_is_told_all_the_same():
    training = training_on(cut(*by_class(600)))
    judge = judge_of(training)
    before = judge.objective.ledger.examples
    order = measure_order(training, judge, claim=refused)
    assert order.structure.suspicious
    assert (order.reordered, order.reason) == (None, "there was no time for it")
    assert judge.objective.ledger.examples == before


def refused(_gradients):
    msg = "there was no time for it"
    raise MeasurementError(msg)


@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from(["classes", "numbers", "heavy tails"]))
def test_a_random_order_is_never_called_structured(seed, size, kind):
    generator = np.random.default_rng(seed)
    values = {
        "classes": generator.integers(0, 4, 400),
        "numbers": generator.normal(size=400),
        "heavy tails": generator.standard_cauchy(400),
    }[kind]
    contents = torch.tensor(values).split(size)
    assert not most_structured(contents, [len(content) for content in contents]).suspicious


def test_the_excess_of_pure_batches_is_about_the_batch_size():
    labels = torch.arange(10).repeat_interleave(40)
    contents = labels.split(20)
    assert most_structured(contents, [20] * 20).excess == pytest.approx(20, rel=0.15)


def test_sorted_targets_of_a_regression_are_structure_too():
    values = torch.linspace(-1, 1, 400)
    contents = [{"x": torch.randn(20, 3), "y": part} for part in values.split(20)]
    structure = most_structured(contents, [20] * 20)
    assert structure.suspicious
    assert structure.part == "y"
    assert structure.purity is None


def test_single_examples_are_judged_in_blocks():
    images, labels = by_class(200)
    structure = most_structured(cut(images, labels, size=1), [1] * 200)
    assert structure.suspicious


def test_balanced_batches_are_no_structure_though_each_is_sorted_within():
    labels = torch.arange(10).repeat(40)
    contents = [part.sort().values for part in labels.split(20)]
    assert not most_structured(contents, [20] * 20).suspicious


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*by_class(), strict=True)


@pytest.mark.parametrize(
    ("data", "source", "repeated"),
    [
        (cut(*by_class()), "list", True),
        (DataLoader(TensorDataset(*by_class()), batch_size=30), "sequential", True),
        (DataLoader(TensorDataset(*by_class()), batch_size=30, shuffle=True), "shuffled", False),
        (
            DataLoader(TensorDataset(*by_class()), batch_size=30, shuffle=True, generator=torch.Generator()),
            "shuffled",
            False,
        ),
        (DataLoader(Stream(), batch_size=30), "other", True),
    ],
)
def test_it_is_known_where_batches_come_from_and_whether_they_come_again(data, source, repeated):
    training = training_on(data)
    with unchanged(training):
        order = order_of(training)
    assert (order.source, order.repeated, order.whole) == (source, repeated, True)


def test_the_loaders_own_generator_is_left_as_it_was():
    generator = torch.Generator().manual_seed(5)
    data = DataLoader(TensorDataset(*by_class()), batch_size=30, shuffle=True, generator=generator)
    before = generator.get_state()
    order_of(training_on(data))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([by_class(200)], "one batch"),
        (cut(*by_class(12), size=3), "too few"),
        (cut(torch.ones(64, 64), torch.ones(64, dtype=torch.int64), size=8), "vary"),
    ],
)
def test_where_there_is_no_order_it_is_said_why(data, reason):
    with pytest.raises(MeasurementError, match=reason):
        order_of(training_on(data))


def test_what_cannot_be_collated_anew_is_left_out_with_a_reason():
    def loss(model, batch):
        inputs, targets, _ = batch
        return nn.functional.cross_entropy(model(inputs), targets)

    data = [(*pair, torch.randn(number + 1, 2)) for number, pair in enumerate(cut(*by_class()))]
    order = order_of(training_on(data, loss=loss))
    assert order.structure.suspicious
    assert order.reordered is None
    assert "one row for each example" in order.reason


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_pooled_examples_come_back_together(sizes, random):
    numbers = torch.arange(sum(sizes)).split(sizes)
    contents = [
        {"a": part, "b": (part.double() * 2, [f"n{int(n)}" for n in part]), "same": 7} for part in numbers
    ]
    rows = list(range(sum(sizes)))
    random.shuffle(rows)
    taken = pooled(contents, sizes)(torch.tensor(rows))
    assert taken["a"].tolist() == rows
    assert taken["b"][0].tolist() == [2.0 * row for row in rows]
    assert taken["b"][1] == [f"n{row}" for row in rows]
    assert taken["same"] == 7
