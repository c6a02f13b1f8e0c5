"""A look at a live graph against the dense Hessian of the same loss."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck.errors import MeasurementError
from unstuck.watching.looking import Looking
from unstuck.watching.looks import JUDGES, MORE, Graph, Looker, differentiable


def training(decay=0.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
    batches = [(torch.randn(8, 4, dtype=torch.float64), torch.randint(0, 2, (8,))) for _ in range(20)]
    return model, optimizer, batches


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def dense(model, batch, decay=0.0):
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss_of(model, batch), parameters, create_graph=True)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    rows = [
        torch.cat([row.reshape(-1) for row in torch.autograd.grad(entry, parameters, retain_graph=True)])
        for entry in flat
    ]
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    return flat.detach() + decay * weights, torch.stack(rows) + decay * torch.eye(len(flat))


def look(products, decay=0.0):
    model, optimizer, batches = training(decay)
    looker = Looker(optimizer, 1, products)
    first = dense(model, batches[0], decay)
    judged = []
    for number, batch in enumerate(batches):
        loss = loss_of(model, batch)
        if not looker.found:
            looker.find(loss, 1.0, lambda: True)
        elif looker.wanting:
            judged.append(dense(model, batch, decay))
            looker.judge(loss, 1.0)
        optimizer.zero_grad()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        loss.backward()
        optimizer.step()
        if number == 0:
            after = model.parameters()
            step = torch.cat([(p.detach() - b).reshape(-1) for p, b in zip(after, before, strict=True)])
        looker.after()
    return looker.look(), first, step, judged


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_as_many_products_as_parameters_the_extremes_are_the_eigenvalues(decay):
    found, (gradient, matrix), _, _ = look(100, decay)
    values = torch.linalg.eigvalsh(matrix)
    assert found.lambda_min.value == pytest.approx(float(values[0]), abs=1e-8)
    assert found.lambda_max.value == pytest.approx(float(values[-1]), abs=1e-8)
    assert found.lambda_max.stderr < 1e-6
    assert found.gradient_norm == pytest.approx(float(gradient.norm()))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_step_is_judged_by_the_batches_that_follow(decay):
    found, _, step, judged = look(12, decay)
    assert found.judges == JUDGES == len(judged)
    slopes = [float(gradient @ step) for gradient, _ in judged]
    curvatures = [float(step @ matrix @ step) for _, matrix in judged]
    assert found.update.slope.value == pytest.approx(sum(slopes) / JUDGES, rel=1e-6)
    assert found.update.curvature.value == pytest.approx(sum(curvatures) / JUDGES, rel=1e-6)
    assert found.update.slope.stderr > 0.0


def test_weights_that_something_else_moves_between_steps_are_seen_meanwhile():
    for moved in (False, True):
        model, optimizer, batches = training()
        looker = Looker(optimizer, 1, 2)
        for number, batch in enumerate(batches[: JUDGES + 1]):
            loss = loss_of(model, batch)
            looker.judge(loss, 1.0) if looker.found else looker.find(loss, 1.0, lambda: True)
            optimizer.zero_grad()
            loss.backward()
            looker.before()
            optimizer.step()
            looker.after()
            with torch.no_grad():
                model[0].weight.mul_(0.5 if moved and number == 2 else 1.0)
        assert looker.look().shifted is moved


def test_however_little_time_there_is_a_way_down_from_zero_weights_is_found():
    model, optimizer, batches = training()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    for seed in range(10):
        looker = Looker(optimizer, 1, seed=seed)
        looker.find(loss_of(model, batches[0]), 1.0, lambda: False)
        assert looker.look().lambda_min.value < -0.01


def test_sparse_gradients_have_the_products_of_dense_ones():
    products = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 2, sparse=sparse), nn.Tanh(), nn.Linear(2, 1))
        loss = model(torch.tensor([0, 1, 1, 3])).square().mean()
        graph = Graph(loss, list(model.parameters()), 1.0)
        products.append(graph.product(torch.arange(13.0)))
    assert torch.allclose(*products)


def test_more_judges_go_on_with_a_lowest_direction_that_is_lower():
    model, optimizer, batches = training()
    looker = Looker(optimizer, 1)
    looks = []
    for round_ in range(6):
        for batch in batches:
            loss = loss_of(model, batch)
            if not looker.found:
                looker.find(loss, 1.0, lambda: True)
                looker.after()  # nothing moves: all rounds see the same mean
            elif looker.wanting:
                looker.judge(loss, 1.0)
        looks.append(looker.look())
        if round_ < 5:
            looker.ask_more()
    assert looks[-1].judges == JUDGES + 5 * MORE
    assert looks[-1].lowest.curvature.value < looks[0].lowest.curvature.value


def test_nothing_is_left_in_grad_and_the_loss_can_still_be_differentiated():
    model, optimizer, batches = training()
    loss = loss_of(model, batches[0])
    state = torch.get_rng_state()
    Looker(optimizer, 1).find(loss, 1.0, lambda: True)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    loss.backward()
    expected = dense(model, batches[0])[0]
    found = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])
    torch.testing.assert_close(found, expected)


def test_a_scaled_loss_gives_the_curvature_of_the_loss_itself():
    model, optimizer, batches = training()
    loss = loss_of(model, batches[0])
    graph = Graph(1024.0 * loss, differentiable(optimizer), 1.0 / 1024.0)
    gradient, matrix = dense(model, batches[0])
    torch.testing.assert_close(graph.gradient, gradient)
    vector = torch.ones(len(gradient), dtype=torch.float64)
    torch.testing.assert_close(graph.product(vector), matrix @ vector)


def test_a_loss_that_is_linear_in_the_parameters_cannot_be_looked_at():
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with pytest.raises(MeasurementError, match="does not depend on the parameters"):
        Looker(optimizer, 1).find((2.0 * weight).sum(), 1.0, lambda: True)


@dataclass
class Waiting:
    step: int = 100
    micro: int = 1
    wanted: bool = True

    def seconds_per_step(self) -> float:
        return 1.0


def test_while_there_is_no_time_for_a_look_what_the_graph_shows_by_itself_is_seen_and_nothing_is_changed():
    torch.manual_seed(0)
    model, inputs = nn.ModuleList([nn.LSTM(2, 8), nn.Linear(8, 1)]), torch.randn(80, 4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def gradients(looking=None):
        optimizer.zero_grad()
        loss = model[1](model[0](inputs)[0][-1]).square().mean()
        if looking is not None:
            looking.before_backward(loss, 1.0)
        loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    glimpsed, looked = [], []
    looking = Looking(0.5, lambda look, _: bool(looked.append(look)), glimpsed.append)
    plain = gradients()
    looking.consider(optimizer, model, Waiting(), now=20.0)
    assert looking.open
    assert all(map(torch.equal, plain, gradients(looking)))
    assert not looking.open
    assert looked == []
    (((name, times, sizes),),) = [one.unrolled for one in glimpsed]
    assert (name, times) == ("0", 80)
    assert sizes[0] < 1e-6 * sizes[-1]
    looking.consider(optimizer, model, Waiting(step=150), now=30.0)  # not again so soon
    assert not looking.open
