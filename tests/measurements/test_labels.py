from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from sklearn import datasets
from tests.objective.fingerprint import unchanged
from torch import nn
from torch.nn import functional

from unstuck import Training, supervised
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.findings.data import uninformative
from unstuck.measurements.data.dependence import Dependence, dependence, normal_scores
from unstuck.measurements.data.examples import columns, distinct, features, names
from unstuck.measurements.data.labels import _settled, measure_labels
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Objective, draw

CROSS_ENTROPY = supervised(nn.CrossEntropyLoss())


class Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze(-1)


def table(name):
    bunch = getattr(datasets, f"load_{name}")()
    x = torch.tensor(bunch.data, dtype=torch.float32)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    target = torch.tensor(bunch.target)[order][:600]
    x = ((x - x.mean(0)) / (x.std(0) + 1e-6))[order][:600]
    return x, target if name != "diabetes" else ((target - target.mean()) / target.std()).float()


def permuted(target):
    return target[torch.randperm(len(target), generator=torch.Generator().manual_seed(5))]


def network(x, outputs, *ends, hidden=32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(x.shape[1], hidden), nn.Tanh(), nn.Linear(hidden, outputs), *ends)


def batches(x, y, size=64):
    return list(zip(x.split(size), y.split(size), strict=True))


def look(model, loss, data, epochs=0, validation=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in data * epochs:
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    training = Training(model, loss, data, optimizer, validation=validation)
    drawn = draw(data, seed=0, enough=lambda *_: False).batches
    objective = Objective(training, drawn)
    judge = Judge(objective, Halves.of(len(drawn), exhaustive=True), objective.values(objective.theta))
    spent = objective.ledger.examples
    with unchanged(training):
        labels = measure_labels(training, judge, seed=0)
    return labels, (objective.ledger.examples - spent) / objective.examples


TABLES = {
    "digits": (10, (), CROSS_ENTROPY),
    "wine": (3, (), CROSS_ENTROPY),
    "breast_cancer": (2, (), CROSS_ENTROPY),
    "diabetes": (1, (Squeeze(),), supervised(nn.MSELoss())),
}


@pytest.mark.parametrize("name", TABLES)
def test_labels_of_real_tables_are_informative_at_no_cost(name):
    x, y = table(name)
    outputs, ends, loss = TABLES[name]
    labels, cost = look(network(x, outputs, *ends), loss, batches(x, y))
    assert labels.tests == ("inputs",)
    assert labels.p_value < 1e-4
    assert cost < 0.5
    assert uninformative(labels) is None


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
@pytest.mark.parametrize("epochs", [0, 60])
def test_permuted_labels_are_found_out_at_chance_and_once_they_are_memorised(name, epochs):
    x, y = table(name)
    outputs, ends, loss = TABLES[name]
    labels, cost = look(network(x, outputs, *ends, hidden=200), loss, batches(x, permuted(y)), epochs)
    finding = uninformative(labels)
    assert finding is not None
    assert cost < 10.0
    assert abs(labels.dependence.value) < labels.detectable
    if labels.memorised:
        assert "by heart" in finding.explanation


def test_without_time_to_ask_the_model_permuted_labels_are_not_told_from_hard_ones():
    x, y = table("digits")
    training = Training(network(x, 10), CROSS_ENTROPY, batches(x, permuted(y)))
    drawn = draw(training.data, seed=0, enough=lambda _batches, _examples: False).batches
    objective = Objective(training, drawn)
    judge = Judge(objective, Halves.of(len(drawn), exhaustive=True), objective.values(objective.theta))

    def refused(_gradients):
        msg = "there was no time for it"
        raise MeasurementError(msg)

    with pytest.raises(MeasurementError, match="no time"):
        measure_labels(training, judge, claim=refused)


def test_noisy_labels_are_informative_also_once_they_are_memorised():
    x, y = table("digits")
    drawn = torch.Generator().manual_seed(1)
    noisy = torch.where(torch.rand(len(y), generator=drawn) < 0.6, permuted(y), y)
    labels, _ = look(network(x, 10, hidden=200), CROSS_ENTROPY, batches(x, noisy), epochs=20)
    assert labels.p_value < 0.01
    assert uninformative(labels) is None


def test_too_few_examples_prove_nothing():
    bunch = datasets.load_linnerud()
    x, y = (torch.tensor(part, dtype=torch.float32) for part in (bunch.data, bunch.target))
    with pytest.raises(MeasurementError, match="20 different"):
        look(network(x, 3), supervised(nn.MSELoss()), batches(x, y))
    x, y = table("wine")
    labels, _ = look(network(x, 3), CROSS_ENTROPY, batches(x[:60], permuted(y)[:60]))
    assert uninformative(labels) is None


class Graph(nn.Module):
    """Gives what a layer makes of fixed features of the nodes that are asked for."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.register_buffer("nodes", torch.randn(100, 2, generator=torch.Generator().manual_seed(1)))

    def forward(self, places):
        return self.layer(self.nodes)[places, 0]


def test_what_has_a_parameter_of_its_own_for_each_example_is_not_asked_about_others():
    targets = torch.randn(100, generator=torch.Generator().manual_seed(0))
    table, places = nn.Sequential(nn.Embedding(100, 1), Squeeze()), [(torch.arange(100), targets)]
    with pytest.raises(MeasurementError, match="where in a table"):
        look(table, supervised(nn.MSELoss()), places)
    assert look(Graph(), supervised(nn.MSELoss()), places)[0].tests[-1] == "trained copy"
    pairs = torch.stack([torch.arange(100) // 10, torch.arange(100) % 10], 1)
    assert not names([pairs])
    assert not names([torch.randn(100, 2)])


@pytest.mark.parametrize("alike", [True, False])
def test_inputs_that_are_all_the_same_tell_no_labels_apart(alike):
    x, y = table("wine")
    nothing = torch.zeros_like(x)
    nothing[0] += 0.0 if alike else 1.0
    if alike:
        found = uninformative(look(network(x, 3), CROSS_ENTROPY, batches(nothing, y))[0])
        assert found is not None
        assert "the same" in found.explanation
    else:
        with pytest.raises(MeasurementError, match="2 different examples"):
            look(network(x, 3), CROSS_ENTROPY, batches(nothing, torch.zeros_like(y)))


def test_repeated_examples_do_not_predict_themselves():
    x, y = table("digits")
    data = batches(x[:300], permuted(y)[:300])
    labels, _ = look(network(x, 10), CROSS_ENTROPY, data * 2)
    assert labels.examples == 300
    assert labels.p_value > 0.01


def test_validation_is_asked_when_there_is_some():
    x, y = table("digits")
    wrong = permuted(y)
    labels, _ = look(
        network(x, 10), CROSS_ENTROPY, batches(x[:400], wrong[:400]), validation=batches(x[400:], wrong[400:])
    )
    assert "validation" in labels.tests
    assert uninformative(labels) is not None


def test_labels_are_found_in_dictionaries_and_by_criteria_of_ones_own():
    x, y = table("digits")
    named = [{"x": part, "labels": wanted} for part, wanted in batches(x, y)]
    labels, _ = look(
        network(x, 10),
        lambda model, batch: functional.cross_entropy(model(batch["x"]), batch["labels"]),
        named,
    )
    assert labels.p_value < 0.01

    def own(model, batch):
        p = model(batch[0]).sigmoid()
        return -(batch[1] * torch.log(p + 1e-7) + (1 - batch[1]) * torch.log(1 - p + 1e-7)).mean()

    labels, _ = look(network(x, 1, Squeeze()), own, batches(x, (y > 4).float()))
    assert labels.p_value < 0.01


@dataclass(frozen=True, slots=True)
class Rows:
    x: torch.Tensor
    y: torch.Tensor


@pytest.mark.parametrize("form", [namedtuple("Pair", "x y"), Rows])
def test_labels_are_found_in_batches_that_are_objects_with_names_for_their_parts(form):
    x, y = table("digits")
    data = [form(*batch) for batch in batches(x, permuted(y))]
    labels, _ = look(
        network(x, 10), lambda model, batch: functional.cross_entropy(model(batch.x), batch.y), data
    )
    assert "trained copy" in labels.tests
    assert uninformative(labels) is not None


@pytest.mark.parametrize(("p_value", "asked"), [(0.0001, False), (0.01, True), (0.3, False)])
def test_where_a_test_leaves_a_doubt_one_on_other_examples_decides(p_value, asked):
    first, second = (Dependence(p, Estimate(0.1, 0.02), 0.1) for p in (p_value, 0.6))
    assert _settled(first, lambda: second) is (second if asked else first)
    assert _settled(first, lambda: None) is first


def test_labels_made_of_inputs_are_left_out():
    x, _ = table("digits")
    for data in (batches(x, x), [(part,) for part in x.split(64)]):
        with pytest.raises(MeasurementError, match="from the inputs"):
            look(network(x, 64), lambda m, batch: functional.mse_loss(m(batch[0]), batch[-1]), data)


def test_actions_that_rewards_weigh_need_not_follow_from_the_inputs_and_those_that_a_mask_leaves_out_must():
    x, _ = table("digits")
    drawn = torch.Generator().manual_seed(3)
    actions, rewards = torch.randint(4, (len(x),), generator=drawn), torch.randn(len(x), generator=drawn)

    def loss(model, batch):
        inputs, action, weight = batch
        chosen = model(inputs).log_softmax(1).gather(1, action[:, None])[:, 0]
        return -(chosen * weight).mean()

    weighed = list(zip(x.split(64), actions.split(64), rewards.split(64), strict=True))
    with pytest.raises(MeasurementError, match="rewards"):
        look(network(x, 4), loss, weighed)
    kept = [(inputs, action, (weight > 0).float()) for inputs, action, weight in weighed]
    assert uninformative(look(network(x, 4), loss, kept)[0]) is not None


@pytest.mark.parametrize("kind", ["exclusive or", "scatter", "tokens"])
def test_dependence_that_no_straight_line_shows_is_found(kind):
    drawn = torch.Generator().manual_seed(2)
    x = torch.randn(600, 4, generator=drawn)
    loss, model = CROSS_ENTROPY, network(x, 2)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
    if kind == "scatter":
        y = x[:, :1].abs() * torch.randn(600, 1, generator=drawn)
        loss, model = supervised(nn.MSELoss()), network(x, 1)
    if kind == "tokens":
        x = torch.randint(50, (600, 12), generator=drawn)
        y = (x == 7).any(1).long()
        model = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(96, 2))
    labels, _ = look(model, loss, batches(x, y))
    assert labels.p_value < 0.05
    assert uninformative(labels) is None


def marked(count, *, told):
    """Sets of vectors of which one is marked; what is told of it is the label, or not."""
    drawn = torch.Generator().manual_seed(5)
    x = torch.randn(count, 12, 64, generator=drawn)
    place = torch.randint(0, 12, (count,), generator=drawn)
    x[torch.arange(count), place, 0] += 3.0
    y = x[torch.arange(count), place, 1:3]
    return x, y if told else y.roll(1, 0)


class Chosen(nn.Module):
    """Attention that does not know yet whom to attend to."""

    def __init__(self):
        super().__init__()
        self.query, self.value = nn.Linear(64, 1), nn.Linear(64, 2)

    def forward(self, x):
        return (self.query(x).mul(9.0).softmax(1) * self.value(x)).sum(1)


@pytest.mark.parametrize("told", [True, False])
def test_what_one_member_of_a_set_tells_is_found_in_their_sum(told):
    torch.manual_seed(0)
    labels, _ = look(Chosen(), supervised(nn.MSELoss()), batches(*marked(600, told=told)))
    assert (labels.p_value < 0.05) is told
    assert 55.0 < labels.directions < 75.0


def test_where_inputs_differ_in_more_directions_than_there_are_examples_nothing_is_ruled_out():
    drawn = torch.Generator().manual_seed(3)
    y = torch.randn(400, 1, generator=drawn)
    few, many = (torch.randn(400, width, generator=drawn) for width in (12, 3000))
    found = {len(x.T): look(network(x, 1), supervised(nn.MSELoss()), batches(x, y))[0] for x in (few, many)}
    assert found[12].directions == pytest.approx(12, rel=0.1)
    assert found[3000].directions == pytest.approx(3000, rel=0.1)
    assert uninformative(found[12]) is not None
    assert uninformative(found[3000]) is None


@pytest.mark.parametrize("told", [True, False])
def test_words_of_a_text_are_looked_at_by_how_often_they_come_wherever_they_stand(told):
    drawn = torch.Generator().manual_seed(6)
    words = torch.randint(120, (800, 16), generator=drawn)
    often = (words < 30).sum(1)
    labels = (often > often.median()).long()
    labels = labels if told else permuted(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(120, 8), nn.ReLU(), nn.Linear(8, 2))
    found, _ = look(model, CROSS_ENTROPY, batches(words, labels, 50))
    assert (found.p_value < 0.001) is told
    assert (uninformative(found) is None) is told


def test_the_p_value_is_uniform_under_independence():
    drawn = torch.Generator().manual_seed(0)
    values = [
        dependence(
            [torch.randn(60, 3, generator=drawn)], torch.randn(60, 1, generator=drawn), seed=seed
        ).p_value
        for seed in range(60)
    ]
    assert sum(value < 0.1 for value in values) <= 14
    assert 0.3 < sum(values) / len(values) < 0.7


def test_normal_scores_keep_order_and_ties_and_forget_outliers():
    scores = normal_scores(torch.tensor([[1.0], [2.0], [2.0], [1e9]]))[:, 0]
    assert scores[0] < scores[1] == scores[2] < scores[3] < 3.0


def test_examples_of_any_shape_become_columns():
    images, texts = torch.rand(40, 3, 64, 64), torch.randint(99, (40, 7))
    examples = distinct(
        [[images[:20], texts[:20]], [images[20:], texts[20:]]], [torch.arange(20), torch.arange(20)], 99
    )
    found, counts = features(examples.inputs)
    assert len(found) == len(counts) == len(examples.targets) == 40
    assert bool((counts.sum(1) == 7).all())
    assert len(features([images])) == 1
    assert columns(torch.tensor([3, 5, 3])).tolist() == [[1, 0], [0, 1], [1, 0]]


def test_a_copy_that_gets_no_gradient_says_nothing_of_the_labels():
    """Squares of projections, by an estimate that stands at zero, where it has none."""

    class Projections(nn.Module):
        def __init__(self):
            super().__init__()
            self.signal = nn.Parameter(torch.zeros(12))

        def forward(self, x):
            return (x @ self.signal).square()

    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(400, 12, generator=drawn)
    y = (x @ torch.randn(12, generator=drawn)).square() + torch.randn(400, generator=drawn) * 30.0
    labels, _ = look(Projections(), supervised(nn.MSELoss()), batches(x, y))
    assert "trained copy" not in labels.tests
    assert uninformative(labels) is None
