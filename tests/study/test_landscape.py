import pytest
import torch
from torch import nn

from unstuck import optim
from unstuck.demos.digits import CLASSES, projections
from unstuck.demos.networks import initialised, perceptron
from unstuck.study.landscape import CRITICAL, eigen, minimised, square, squares, whole
from unstuck.study.padding import padded, split
from unstuck.study.problems import batched, shuffled, toy
from unstuck.study.searching import METHODS, End, following, searched, told
from unstuck.study.walking import walk


def small(units, *, decay=1e-2, loss=None, seed=0):
    features, labels = projections()
    model = initialised(perceptron(16, units, CLASSES), seed=seed)
    targets = labels[:200] if loss is None else nn.functional.one_hot(labels[:200], CLASSES).double()
    more = {} if loss is None else {"loss": loss}
    return whole(model, features[:200], targets, decay=decay, **more)


def bowl(place):
    """Minimum, saddles and maximum: cos x + cos y."""
    return place.cos().sum()


def test_eigenvalues_are_those_of_the_dense_hessian():
    objective = toy(bowl, [0.3, 2.0])
    values, vectors = eigen(objective, objective.theta)
    theirs = torch.autograd.functional.hessian(bowl, objective.theta)
    assert torch.allclose(vectors @ values.diag() @ vectors.T, theirs)


def test_a_minimum_is_critical_and_curves_up():
    objective = small(2)
    theta = minimised(objective)
    assert square(objective.gradient(theta)) < CRITICAL
    assert eigen(objective, theta)[0][0] > 0.0


def test_a_padded_minimum_computes_the_same_and_is_a_saddle():
    narrow, wide = small(2), small(4)
    theta = minimised(narrow)
    there = padded(theta, (16, 2, CLASSES), (16, 4, CLASSES))
    assert wide.value(there) == pytest.approx(narrow.value(theta), rel=1e-14)
    assert square(wide.gradient(there)) < CRITICAL
    assert eigen(wide, there)[0][0] < -1e-6


def test_a_split_unit_computes_the_same_and_stays_critical():
    narrow, wide = small(1, decay=0.0, loss=squares, seed=3), small(2, decay=0.0, loss=squares)
    theta = minimised(narrow)
    there = split(theta, (16, 1, CLASSES), 1.6)
    assert wide.value(there) == pytest.approx(narrow.value(theta), rel=1e-12)
    assert square(wide.gradient(there)) <= 10 * square(narrow.gradient(theta)) + CRITICAL


@pytest.mark.parametrize(("index", "kind"), [(0, [1.0, 1.0]), (1, [-1.0, 1.0]), (2, [-1.0, -1.0])])
def test_eigenvector_following_finds_a_critical_point_of_the_index_it_is_told(index, kind):
    objective = toy(bowl, [1.0, 2.0])
    theta = searched(objective, objective.theta, lambda _: following(index), 1.0)
    values, vectors = eigen(objective, theta)
    assert values.sign().tolist() == kind
    assert told(objective.gradient(theta), values, vectors)[0] is End.CRITICAL


def test_every_method_arrives_from_nearby():
    objective = toy(bowl, [3.0, 3.3])
    for method in METHODS.values():
        theta = searched(objective, objective.theta, method, 0.0)
        assert theta.tolist() == pytest.approx([torch.pi, torch.pi])


def test_a_gradient_where_the_hessian_is_flat_is_called_so():
    values, vectors = torch.tensor([1e-6, 1.0], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    assert told(torch.tensor([1e-2, 1e-4], dtype=torch.float64), values, vectors)[0] is End.FLAT
    assert told(torch.tensor([1e-4, 1e-2], dtype=torch.float64), values, vectors)[0] is End.UNFINISHED


def test_a_walk_is_that_of_the_optimizer_and_leaves_the_objective_as_it_was():
    objective = small(2)
    before = objective.theta.clone()
    done = walk(objective, optim.momentum(), 0.1, 5)
    parameter = nn.Parameter(before.clone())
    theirs = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, foreach=False)
    for _ in range(5):
        parameter.grad = objective.gradient(parameter.detach())
        theirs.step()
    assert torch.equal(done.theta, parameter.detach())
    assert torch.equal(objective.theta, before)
    assert len(done.losses) == 6


def test_a_walk_that_diverges_ends_in_infinity():
    done = walk(toy(lambda place: place.square().sum(), [1.0]), optim.gradient_descent(), 10.0, 100)
    assert done.diverged
    assert len(done.losses) == 101


def test_batches_come_once_an_epoch_in_an_order_drawn_anew():
    objective = batched(0, 600, 2)
    drawn = shuffled(objective, 1)
    seen = [drawn(step)[0] for step in range(30)]
    epochs = [tuple(seen[start : start + 3]) for start in range(0, 30, 3)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs)
    assert len(set(epochs)) > 1
