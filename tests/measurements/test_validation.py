import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.demos.digits import digits
from unstuck.errors import MeasurementError
from unstuck.measurements.data.validation import measure_validation
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Objective, draw

torch.set_num_threads(1)
LOSS = supervised(nn.functional.cross_entropy)


def everything(_batches, _examples):
    return False


def halves(count=100):
    images, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    held = order[count : count + 300]
    return (images[order[:count]], labels[order[:count]]), (images[held], labels[held])


def cut(tensors, size):
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


def network(*extra):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), *extra, nn.ReLU(), nn.Linear(32, 10))


def made(*extra, epochs=0, validation=None, rate=3e-3):
    trained, held = halves()
    model = network(*extra)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    data = cut(trained, 20)
    for _ in range(epochs):
        for batch in data:
            optimizer.zero_grad()
            LOSS(model, batch).backward()
            optimizer.step()
    optimizer.zero_grad()
    return Training(model, LOSS, data, optimizer, validation=validation or cut(held, 25))


def measured(training):
    objective = Objective(training, draw(training.data, seed=0, enough=everything).batches)
    judge = Judge(
        objective,
        Halves.of(len(objective.batches), exhaustive=True),
        objective.values(objective.theta),
    )
    return measure_validation(training, judge)


def by_hand(model, tensors):
    model.eval()
    with torch.no_grad():
        loss = float(LOSS(model, tensors))
    model.train()
    return loss


@pytest.mark.parametrize("extra", [(), (nn.Dropout(0.5),), (nn.BatchNorm1d(32),)])
def test_the_losses_are_those_of_the_model_in_eval_mode(extra):
    training = made(*extra, epochs=5)
    found = measured(training)
    trained, held = halves()
    assert found.validation.value == pytest.approx(by_hand(training.model, held), rel=1e-4)
    assert found.training.value == pytest.approx(by_hand(training.model, trained), rel=0.5)
    assert found.gap.value == pytest.approx(found.validation.value - found.training.value)
    assert found.examples == 300


def test_what_it_costs_is_asked_for_beforehand():
    training = made(epochs=1)
    objective = Objective(training, draw(training.data, seed=0, enough=everything).batches)
    halves = Halves.of(len(objective.batches), exhaustive=True)
    judge = Judge(objective, halves, objective.values(objective.theta))
    before, asked = objective.ledger.examples, []
    measure_validation(training, judge, claim=asked.append)
    spent = (objective.ledger.examples - before) / objective.examples
    assert asked == [pytest.approx(spent, rel=0.2)]


@pytest.mark.parametrize("extra", [(), (nn.BatchNorm1d(32),)])
def test_going_on_does_what_the_run_itself_does(extra):
    training = made(*extra, epochs=5, rate=1e-3)
    found = measured(training)
    held = halves()[1]
    before = by_hand(training.model, held)
    looks = []
    for taken in range(1, found.onward.steps + 1):
        training.optimizer.zero_grad()
        LOSS(training.model, training.data[(taken - 1) % len(training.data)]).backward()
        training.optimizer.step()
        if taken in {found.onward.steps - found.onward.steps // 2 * turn // 3 for turn in range(3)}:
            looks.append(by_hand(training.model, held))
    gain = before - sum(looks) / len(looks)
    assert found.onward.validation_gain.value == pytest.approx(gain, rel=1e-2, abs=1e-5)


def test_a_large_batch_is_split_so_that_its_loss_has_an_error():
    found = measured(made(epochs=5, validation=[halves()[1]]))
    assert 0.0 < found.validation.stderr < found.validation.value
    assert found.validation.value == pytest.approx(measured(made(epochs=5)).validation.value, rel=1e-5)


def one_graph(nodes, *, edges):
    """Nodes in a ring that hear their neighbours; a third of them are trained on."""
    inputs = torch.randn(nodes, 4, generator=torch.Generator().manual_seed(0))
    ring = torch.arange(nodes)
    near = torch.eye(nodes) + torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(-1, 0)
    known = ring % 3 == 0
    pairs = torch.stack([ring, ring.roll(1)])
    parts = (inputs, (inputs[:, 0] > 0).long(), pairs if edges else near)
    return (*parts, known), (*parts, ~known)


def of_nodes(model, batch):
    inputs, labels, links, chosen = batch
    pairs = len(links) == 2
    heard = inputs.index_add(0, links[0], inputs[links[1]]) if pairs else links @ inputs
    return nn.functional.cross_entropy(model(heard)[chosen], labels[chosen])


@pytest.mark.parametrize("edges", [False, True], ids=["matrix", "pairs"])
def test_what_cannot_be_split_is_looked_at_whole(edges):
    trained, held = one_graph(60, edges=edges)
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = measured(Training(model, of_nodes, [trained], optimizer, validation=[held]))

    assert found.undivided
    assert found.training.value == pytest.approx(of_nodes(model, trained).item(), rel=1e-5)
    assert found.validation.value == pytest.approx(of_nodes(model, held).item(), rel=1e-5)
    assert found.gap.stderr == 0.0
    assert math.isfinite(found.onward.validation_gain.stderr)


@pytest.mark.parametrize(("nodes", "graphs"), [(12, 1), (60, 2)], ids=["few nodes", "more graphs"])
def test_the_loss_of_few_nodes_or_of_one_graph_of_more_is_no_fact_about_the_data(nodes, graphs):
    trained, held = one_graph(nodes, edges=False)
    model = nn.Linear(4, 2)
    found = measured(Training(model, of_nodes, [trained] * graphs, validation=[held] * graphs))

    assert not found.undivided


def test_a_batch_that_can_be_split_is_no_whole():
    assert not measured(made(validation=[halves()[1]])).undivided


def test_an_output_that_ignores_inputs_costs_the_logarithm_of_the_classes():
    assert measured(made(epochs=30)).constant == pytest.approx(math.log(10), rel=0.05)


def test_the_constant_of_a_squared_loss_is_the_variance_of_its_targets():
    inputs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    targets = 2.0 * inputs[:, :1]
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 0.0, 0.0]]))
        model.bias.zero_()
    data = cut((inputs, targets), 100)
    found = measured(Training(model, supervised(nn.functional.mse_loss), data, validation=data))
    assert found.constant == pytest.approx(float(targets.var(correction=0)), rel=0.05)
    assert found.onward is None


def test_a_loss_that_goes_round_the_model_has_no_constant():
    def inner(model, batch):
        return nn.functional.cross_entropy(model[2](torch.relu(model[0](batch[0]))), batch[1])

    training = made()
    found = measured(
        Training(training.model, inner, training.data, training.optimizer, validation=training.validation)
    )
    assert found.constant is None


@pytest.mark.parametrize("extra", [(nn.Dropout(0.5),), (nn.BatchNorm1d(32),)])
def test_training_and_validation_loader_are_left_as_they_were(extra):
    generator = torch.Generator().manual_seed(7)
    loader = DataLoader(TensorDataset(*halves()[1]), batch_size=30, shuffle=True, generator=generator)
    training = made(*extra, epochs=1, validation=loader)
    training.model[0].eval()
    before = generator.get_state()
    with unchanged(training):
        measured(training)
    assert torch.equal(generator.get_state(), before)
    assert [module.training for module in training.model] == [False, *[True] * (len(training.model) - 1)]


def test_without_validation_data_nothing_is_said():
    training = made()
    with pytest.raises(MeasurementError, match="no validation data"):
        measured(Training(training.model, LOSS, training.data, training.optimizer))


def test_validation_data_that_fail_are_named():
    with pytest.raises(MeasurementError, match="validation"):
        measured(made(validation=[(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))]))
