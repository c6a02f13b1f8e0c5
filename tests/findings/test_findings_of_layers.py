import math
from dataclasses import replace

import pytest
from handmade import arm, continued, measurements
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.findings import layers as checks
from unstuck.findings.point import classify
from unstuck.findings.records import Cause
from unstuck.measurements.records import Activation, Depth, Layers
from unstuck.measurements.records.layers import Inputs
from unstuck.measurements.records.outputs import Outputs

laws = settings(deadline=None, derandomize=True, max_examples=40)

RELU = Activation("0", "relu", "rectifier", 64, 768, 0.1, 0.0, 0.5, 0.5, 0.0, 0.7, 0.2, 0.0)
TANH = Activation("0", "tanh", "bounded", 64, 768, 0.0, 0.0, 0.1, 0.6, 0.0, 0.7, 0.1, 0.0)
FLAT = replace(TANH, flat=0.95, saturated=0.6, slope=0.02, passed=0.1, back=0.4)


def network(*activations, gradients=(0.5, 0.7, 0.9), steps=(), loss=2.3, blind=2.3):
    depths = tuple(Depth(str(place), place + 1, 1, gradient) for place, gradient in enumerate(gradients))
    if steps:
        depths += (Depth("cell", 1, len(steps), steps[-1], tuple(steps)),)
    named = tuple(replace(layer, name=str(place)) for place, layer in enumerate(activations))
    return Layers(768, named, depths, (), loss, blind)


def found(layers, **more):
    measured = measurements((), None, (), layers=layers, **more)
    point = classify(measured)
    return [finding for check in checks.CHECKS if (finding := check(point, measured))]


def causes(layers, **more):
    return [finding.cause for finding in found(layers, **more)]


def geometric(last, factor, places):
    return tuple(last * factor ** (places - 1 - place) for place in range(places))


@pytest.mark.parametrize(("factor", "places"), [(0.1, 5), (0.15, 7), (0.5, 12), (0.8, 64), (1e-9, 30)])
def test_a_gradient_that_wears_off_layer_by_layer_vanishes_and_so_it_does_step_by_step(factor, places):
    fading = geometric(1.0, factor, places)
    assert causes(network(TANH, gradients=fading)) == [Cause.VANISHING_GRADIENT]
    assert causes(network(TANH, steps=fading)) == [Cause.VANISHING_GRADIENT]


@pytest.mark.parametrize(
    "gradients",
    [
        geometric(1.0, 0.6, 8),  # a deep tanh network in good health
        geometric(1e-9, 0.8, 8),  # small everywhere, as at a minimum
        geometric(1.0, 10.0, 8),  # it explodes instead
        (1e-5, 1.1e-5, 1.2e-5, 1.0, 1.1),  # cut off at one place
        (0.0, 0.0, 0.0, 0.5, 0.9, 1.0),  # dead or detached
        (1.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0),  # a branch that needs little, beside a stem that gets all
        (1e-6, 1.0),  # too few to say
        (),
    ],
)
def test_other_gradients_do_not_vanish(gradients):
    assert causes(network(TANH, gradients=gradients)) == []


def test_a_gradient_that_underflows_has_vanished():
    gradients = (0.0, 0.0, *geometric(1.0, 1e-4, 11))
    assert causes(network(TANH, gradients=gradients)) == [Cause.VANISHING_GRADIENT]


def test_healthy_units_are_neither_dead_nor_saturated():
    layers = (replace(RELU, dead=0.35), replace(TANH, flat=0.35, saturated=0.1), replace(RELU, dead=0.1))
    assert causes(network(*layers)) == []


def test_one_dead_layer_is_enough_unless_the_gradient_has_another_way():
    layers = (RELU, replace(RELU, dead=1.0, silent=1.0, passed=0.0), RELU)
    blocked = network(*layers, gradients=(0.0, 0.0, 0.9))
    assert causes(blocked) == [Cause.DEAD_UNITS]
    assert "`1`" in found(blocked)[0].explanation
    assert causes(network(*layers, gradients=(0.5, 0.0, 0.9))) == []


@pytest.mark.parametrize(("op", "said"), [("relu", "biases of zero"), ("clamp", "back into its range")])
def test_what_a_clamp_keeps_at_zero_is_brought_back_into_its_range(op, said):
    (finding,) = found(network(replace(RELU, op=op, dead=1.0, silent=1.0)))
    assert finding.cause is Cause.DEAD_UNITS
    assert said in finding.advice


@pytest.mark.parametrize(
    ("silent", "gradients", "said"),
    [
        (1.0, (0.0, 0.0, 0.9), [Cause.DEAD_UNITS]),
        (0.9, (0.0, 0.0, 0.9), []),
        (1.0, (0.5, 0.0, 0.9), []),  # beside it, there is another way
    ],
)
def test_a_layer_that_nothing_arrives_at_is_cut_off_whatever_stands_before_it(silent, gradients, said):
    layers = replace(network(gradients=gradients), inputs=(Inputs("2", "1", 64, silent),))
    assert causes(layers) == said
    assert causes(replace(layers, examples=8)) == []


def test_most_units_dead_is_enough_too_and_few_examples_are_not():
    layers = [replace(RELU, dead=0.7)] * 3
    assert causes(network(*layers)) == [Cause.DEAD_UNITS]
    assert causes(network(*[replace(layer, seen=8) for layer in layers])) == []


def test_of_examples_that_are_all_there_are_few_are_enough():
    layers = network(*[replace(RELU, dead=1.0, seen=4)] * 2, gradients=(0.0, 0.0, 0.9))
    assert causes(layers) == []
    assert causes(replace(layers, whole=True)) == [Cause.DEAD_UNITS]


def test_what_wears_off_on_its_way_forward_has_vanished_and_is_not_dead():
    silent = (0.0, 0.2, 0.6, 0.7, 0.9, 0.94, 1.0)
    arriving = tuple(Inputs(str(place + 1), str(place), 64, share) for place, share in enumerate(silent))
    layers = replace(network(*[RELU] * 8, gradients=(*[0.0] * 7, 0.9)), inputs=arriving)
    assert causes(layers) == [Cause.VANISHING_GRADIENT]
    assert "`3`" in found(layers)[0].explanation


def test_saturation_is_named_before_the_vanishing_that_it_brings():
    layers = [FLAT] * 6
    assert causes(network(*layers, gradients=geometric(1.0, 0.1, 6))) == [Cause.SATURATED_UNITS]


def test_gates_may_be_open_or_shut():
    assert causes(network(replace(FLAT, gate=True))) == []


@pytest.mark.parametrize(
    ("more", "blocked"),
    [
        ({"back": 0.99, "leverage": 0.001}, True),
        ({"back": 0.0, "leverage": 0.001}, False),  # right, and sure of it
        ({"back": 0.99, "leverage": 1.0}, False),  # wrong, but the loss reaches it: cross-entropy
        ({"back": None, "leverage": None}, False),
    ],
)
def test_outputs_are_saturated_where_they_are_wrong_and_cannot_answer(more, blocked):
    output = replace(FLAT, op="sigmoid", output=True, flat=0.99, **more)
    assert causes(network(RELU, output)) == ([Cause.SATURATED_UNITS] if blocked else [])


SICK = [
    network(TANH, gradients=geometric(1.0, 0.1, 8)),
    network(replace(RELU, dead=1.0)),
    network(FLAT),
]


@pytest.mark.parametrize("layers", SICK)
def test_nothing_is_found_in_a_model_that_has_learnt_and_less_the_more_it_has(layers):
    (nothing,), (half,) = found(layers), found(replace(layers, loss=1.15))
    assert half.confidence == pytest.approx(0.5 * nothing.confidence)
    assert found(replace(layers, loss=0.1)) == []
    (unknown,) = found(replace(layers, blind=None))
    assert half.confidence < unknown.confidence < nothing.confidence


@pytest.mark.parametrize("layers", SICK)
def test_a_confident_finding_speaks_in_whole_sentences(layers):
    (finding,) = found(layers)
    assert 0.5 < finding.confidence <= 0.99
    assert finding.explanation.endswith(".")
    assert finding.advice.endswith(".")
    assert all(math.isfinite(item.value) for item in finding.evidence)


def test_without_layers_nothing_is_found():
    assert causes(None) == []


size = st.one_of(st.floats(0.0, 1e3), st.just(0.0), st.floats(1e-40, 1e-20))
share = st.floats(0.0, 1.0)
activations = st.builds(
    Activation,
    st.sampled_from("0123"),
    st.sampled_from(["relu", "tanh", "sigmoid"]),
    st.sampled_from(["rectifier", "bounded", "leaky"]),
    st.integers(1, 100),
    st.integers(1, 1000),
    share,
    share,
    share,
    share,
    share,
    st.one_of(st.none(), share),
    st.one_of(st.none(), share),
    st.one_of(st.none(), size),
    st.booleans(),
    st.booleans(),
)
depths = st.builds(Depth, st.sampled_from("0123"), st.integers(1, 9), st.integers(1, 9), size, st.just(()))
anything = st.builds(
    Layers,
    st.integers(1, 1000),
    st.lists(activations, max_size=4).map(tuple),
    st.lists(depths, max_size=6).map(tuple),
    st.just(()),
    st.floats(-1e3, 1e3),
    st.one_of(st.none(), st.floats(-1e3, 1e3)),
)


@laws
@given(anything)
def test_whatever_was_measured_a_finding_is_a_probability_with_finite_evidence(layers):
    for finding in found(layers):
        assert 0.0 <= finding.confidence <= 0.99
        assert all(math.isfinite(item.value) for item in finding.evidence)


@pytest.mark.parametrize("layers", [SICK[0], network(replace(RELU, dead=0.97)), SICK[2]])
def test_a_run_that_gets_on_has_no_such_cause(layers):
    assert found(layers, continuations=continued(0.3)) == []


def test_behind_a_layer_that_is_dead_as_a_whole_only_constants_are_learnt_however_fast():
    blocked = network(replace(RELU, dead=1.0))
    assert causes(blocked, continuations=continued(0.3)) == [Cause.DEAD_UNITS]
    rounded = replace(blocked, loss=blocked.loss * (1.0 + 1e-8))
    assert causes(rounded, continuations=continued(0.3)) == [Cause.DEAD_UNITS]
    for layers in (replace(blocked, loss=1.5), replace(blocked, blind=None)):
        assert causes(layers, continuations=continued(0.3)) == []


def test_what_other_steps_gain_where_all_units_are_dead_is_what_is_left_beside_them():
    faster = continued(0.01, arm("rate", 0.4, factor=10.0))
    dead, living = replace(RELU, dead=1.0), replace(RELU, dead=0.1)
    assert causes(network(dead, dead, loss=2.0), continuations=faster) == [Cause.DEAD_UNITS]
    assert causes(network(dead, living, loss=2.0), continuations=faster) == []
    assert causes(network(dead, dead, loss=2.0), continuations=continued(0.3)) == []
    assert causes(network(dead, dead, loss=0.1), continuations=faster) == []


@pytest.mark.parametrize(("constant", "told"), [(0.3, [Cause.DEAD_UNITS]), (0.9, []), (2.0, []), (None, [])])
def test_steps_that_lead_no_lower_than_one_output_for_all_acquit_no_layer(constant, told):
    dead, living = replace(RELU, dead=0.97), replace(RELU, dead=0.1)
    faster = continued(0.0, arm("rate", 0.7, factor=10.0))
    outputs = Outputs("mse_loss", (), 1.0, blind=constant)
    assert causes(network(living, dead), continuations=faster, outputs=outputs) == told


@laws
@given(anything, share)
def test_more_learnt_is_never_surer(layers, more):
    if layers.learned is None:
        return
    better = replace(layers, loss=layers.loss * (1.0 - more))
    before = {finding.cause: finding.confidence for finding in found(layers)}
    for finding in found(better):
        assert finding.confidence <= before[finding.cause] + 1e-12
