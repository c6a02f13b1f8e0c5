"""All measures of a point together: against the dense Hessian, and under changes that leave the function as it is."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from objective.fingerprint import unchanged
from unstuck import Training, supervised
from unstuck.landscape.survey import Limits, Surveyor
from unstuck.measurements.records import Sample
from unstuck.objective import Objective, draw

BOXES = ("keskar", "keskar_5e-4", "keskar_subspace", "keskar_subspace_5e-4")


def limits(seconds=600.0, seed=0):
    return Limits(left=lambda: seconds, memory=1e9, seed=seed)


def data_of(batches=4, size=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(batches):
        inputs = torch.randn(size, 6, generator=generator)
        made.append((inputs, (inputs[:, 0] * inputs[:, 1] + 0.3 * inputs[:, 2] > 0).long()))
    return made


def trained(*hidden, steps=150, **more):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), *(layer() for layer in hidden), nn.Linear(10, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    data = data_of()
    for step in range(steps):
        inputs, targets = data[step % len(data)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer, **more)


def surveyed(training, *, exhaustive=True, seconds=600.0):
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive, stochastic=False, whole=exhaustive)
    surveyor = Surveyor(training, drawn, sample, limits(seconds))
    surveyor.run(lambda *_: None)
    return surveyor.survey()


def hessian_of(training):
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    objective = Objective(replace(training, optimizer=None), batches, dtype=torch.float64)
    with objective.products(objective.theta) as products:
        return objective, products.block(torch.eye(objective.size, dtype=torch.float64))


def rescaled(training, factor):
    """The same function: a layer before a ReLU times the factor, the next divided by it (Dinh et al., 2017)."""
    model = copy.deepcopy(training.model)
    with torch.no_grad():
        model[0].weight *= factor
        model[0].bias *= factor
        model[-1].weight /= factor
    return replace(training, model=model, optimizer=None)


def test_the_largest_eigenvalue_and_the_trace_are_those_of_the_dense_hessian():
    training = trained(nn.Tanh)
    _, hessian = hessian_of(training)
    survey = surveyed(training)
    largest, trace = survey.measure("lambda_max").value, survey.measure("trace").value
    values = torch.linalg.eigvalsh(hessian)
    assert abs(largest.value - float(values[-1])) <= 3.0 * largest.stderr + 1e-9 * float(values[-1])
    assert abs(trace.value - float(values.sum())) <= 4.0 * trace.stderr + 1e-9 * float(values.sum())
    assert largest.stderr < 0.02 * largest.value
    top, second = (next(p for p in survey.profiles if p.name == name) for name in ("top", "second"))
    assert top.curvature.value == pytest.approx(float(values[-1]), rel=0.01)
    assert second.curvature.value == pytest.approx(float(values[-2]), rel=0.03)


def test_weight_decay_has_no_part_in_any_measure_and_its_gradient_stands_beside():
    plain = trained(nn.Tanh)
    decayed = replace(plain, optimizer=torch.optim.SGD(plain.model.parameters(), lr=0.1, weight_decay=0.05))
    one, other = surveyed(plain), surveyed(decayed)
    assert [m.value for m in one.measures] == [m.value for m in other.measures]
    assert one.gradient.decayed is None
    objective, _ = hessian_of(plain)
    expected = objective.gradient(objective.theta) + 0.05 * objective.theta
    assert other.gradient.decayed == pytest.approx(float(expected.norm()), rel=1e-6)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_of_all_measures_only_asam_is_blind_to_the_scale_of_relu_layers(factor):
    training = trained(nn.ReLU)
    one, other = surveyed(training), surveyed(rescaled(training, factor))
    assert other.loss.value == pytest.approx(one.loss.value, rel=1e-6)
    for name in ("asam", "asam_steps"):
        assert other.measure(name).value.value == pytest.approx(one.measure(name).value.value, rel=1e-4), name
    for name in ("lambda_max", "trace", "sam", "sam_steps", *BOXES):
        ratio = other.measure(name).value.value / one.measure(name).value.value
        assert abs(math.log(ratio)) > 0.1, name


def test_the_trace_under_rescaling_is_what_the_chain_rule_says():
    training = trained(nn.ReLU)
    scaled = rescaled(training, 4.0)
    objective, hessian = hessian_of(training)
    shrunk = [1 / 4.0, 1 / 4.0, 4.0, 1.0]  # dL/dw of each piece changes by one over its own factor
    sizes = [slot.parameter.numel() for slot in objective.parameters.slots]
    factors = torch.cat(
        [torch.full((n,), f, dtype=torch.float64) for n, f in zip(sizes, shrunk, strict=True)]
    )
    trace = surveyed(scaled).measure("trace").value
    assert abs(trace.value - float((factors**2 * hessian.diagonal()).sum())) <= 4.0 * trace.stderr + 1e-6


def test_weights_before_a_batch_norm_can_be_scaled_without_asam_noticing():
    training = trained(lambda: nn.BatchNorm1d(10), nn.ReLU)
    model = copy.deepcopy(training.model)
    with torch.no_grad():
        model[0].weight *= 3.0
        model[0].bias *= 3.0
        model[1].eps *= 9.0
    one, other = surveyed(training), surveyed(replace(training, model=model, optimizer=None))
    assert other.measure("asam").value.value == pytest.approx(one.measure("asam").value.value, rel=1e-3)
    assert other.measure("sam").value.value < 0.9 * one.measure("sam").value.value


def test_every_measure_is_made_and_has_an_error_and_a_price():
    training = replace(trained(nn.ReLU), validation=data_of(seed=9))
    survey = surveyed(training, exhaustive=False)
    names = [measure.name for measure in survey.measures]
    assert names == ["sam", "asam", "lambda_max", "trace", "sam_steps", "asam_steps", *BOXES]
    for measure in survey.measures:
        assert 0.0 < measure.value.stderr < math.inf, measure
        assert measure.gradients > 0.0, measure
    assert [profile.name for profile in survey.profiles] == ["random", "filters", "top", "second"]
    for profile in survey.profiles:
        assert len(profile.validation) == len(profile.training) == len(profile.distances)
        assert list(profile.distances) == sorted(profile.distances)
        here = profile.distances.index(0.0)
        assert profile.validation[here] == pytest.approx(survey.validation.value)
    assert survey.omitted == ()
    assert sum(measure.gradients for measure in survey.measures) < 2 * survey.cost.gradients


def test_the_rise_at_a_place_found_on_half_of_the_batches_is_judged_on_the_other_half():
    survey = surveyed(trained(nn.ReLU), exhaustive=False)
    for name in ("sam", "asam", "keskar"):
        measure = survey.measure(name)
        assert abs(measure.value.value - measure.found) > measure.value.stderr / 100, name


def test_the_width_of_a_profile_is_where_its_training_loss_has_risen():
    survey = surveyed(trained(nn.Tanh))
    top = next(profile for profile in survey.profiles if profile.name == "top")
    assert top.width is not None
    level = survey.loss.value + survey.rise
    inside = [y for x, y in zip(top.distances, top.training, strict=True) if abs(x) < top.width * 0.99]
    assert all(y < level for y in inside)
    beyond = [y for x, y in zip(top.distances, top.training, strict=True) if abs(x) > 1.5 * top.width]
    assert any(y > level for y in beyond)


def test_without_time_everything_is_left_out_with_its_reason():
    survey = surveyed(trained(nn.Tanh), seconds=0.0)
    assert survey.measures == ()
    assert {omission.reason for omission in survey.omitted} == {"the time was over"}
    assert survey.loss.value > 0.0


def test_nothing_of_the_training_is_changed():
    training = replace(trained(lambda: nn.BatchNorm1d(10), nn.ReLU), validation=data_of(seed=9))
    with unchanged(training):
        surveyed(training, exhaustive=False)
