import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.findings.handmade import continued, measurements, planted

from unstuck.estimate import Estimate
from unstuck.findings.data import mismatch, mismatched_loss, uninformative, uninformative_labels
from unstuck.findings.point import classify
from unstuck.findings.records import Cause
from unstuck.findings.verdict import NAMED
from unstuck.measurements.records.labels import Labels
from unstuck.measurements.records.outputs import Outputs
from unstuck.measurements.records.updates import SecondMoment

SOFTMAX_TWICE = Outputs("cross_entropy", ("softmax",), 1.55, built=1.461, free=0.0, misfit="probabilities")
INDEPENDENT = Labels(800, 0.6, Estimate(0.01, 0.03), 0.1, ("inputs", "trained copy"), 2.3, 2.3, passes=12)


def test_what_was_not_measured_is_no_finding():
    measured = planted("not critical")
    assert mismatched_loss(classify(measured), measured) is None
    assert uninformative_labels(classify(measured), measured) is None


def test_measurements_of_both_kinds_lead_to_their_causes():
    measured = dataclasses.replace(planted("not critical"), outputs=SOFTMAX_TWICE, labels=INDEPENDENT)
    point = classify(measured)
    assert mismatched_loss(point, measured).cause is Cause.MISMATCHED_LOSS
    assert uninformative_labels(point, measured).cause is Cause.UNINFORMATIVE_LABELS


def test_the_explanation_of_a_softmax_too_many_says_the_floor():
    finding = mismatch(SOFTMAX_TWICE)
    assert "1.461" in finding.explanation
    assert "softmax" in finding.explanation
    assert "logits" in finding.advice


@given(st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 1))
def test_a_floor_that_is_little_of_the_loss_is_never_blamed(loss, low, high):
    free, built = sorted((low * loss, high * loss))
    outputs = Outputs("mse_loss", ("tanh",), loss, built=built, free=free)
    finding = mismatch(outputs)
    assert (finding is not None) == (outputs.share >= 0.5)
    assert 0.0 <= outputs.share <= 1.0
    assert finding is None or 0.5 <= finding.confidence < 1.0


@given(
    st.floats(0, 1),
    st.floats(-1, 1),
    st.one_of(st.floats(0, 1), st.just(math.inf)),
    st.one_of(st.floats(0, 1), st.just(math.inf)),
)
def test_labels_are_only_blamed_where_a_dependence_would_have_been_noticed(p, correlation, error, detectable):
    labels = dataclasses.replace(
        INDEPENDENT, p_value=p, dependence=Estimate(correlation, error), detectable=detectable
    )
    if uninformative(labels) is not None:
        assert p >= 0.05
        assert abs(correlation) + 3.0 * error < 0.3
        assert detectable < 0.3


def test_inputs_alone_do_not_prove_independence():
    assert uninformative(dataclasses.replace(INDEPENDENT, tests=("inputs", "random features"))) is None


@pytest.mark.parametrize("discrete", [True, False])
def test_a_rule_that_shows_once_it_is_learnt_is_not_denied_where_the_optimizer_learns_nothing(discrete):
    labels = dataclasses.replace(INDEPENDENT, discrete=discrete)
    sigma = SecondMoment(
        "RMSprop",
        Estimate(math.log(1e3), 0.1),
        "",
        16,
        Estimate(0.0, 1e-4),
        Estimate(0.1, 1e-4),
        Estimate(0.1, 1e-4),
    )
    moving = dataclasses.replace(planted("not critical"), labels=labels)
    held = dataclasses.replace(moving, second_moment=sigma)
    free, bound = (uninformative_labels(classify(measured), measured) for measured in (moving, held))
    assert free.confidence >= NAMED
    assert (bound.confidence >= NAMED) is not discrete


@pytest.mark.parametrize(
    ("change", "less"),
    [({"discrete": True}, True), ({"loss": 0.1}, True), ({"tests": ("inputs", "validation")}, False)],
)
def test_confidence_follows_from_what_was_asked(change, less):
    changed = uninformative(dataclasses.replace(INDEPENDENT, **change))
    assert (changed.confidence < uninformative(INDEPENDENT).confidence) is less


@pytest.mark.parametrize(("gain", "named"), [(0.3, False), (0.0, True)])
def test_a_temperature_that_binds_scores_is_blamed_once_the_run_stands_at_its_floor(gain, named):
    bound = Outputs("cross_entropy", (), 1.39, built=1.37, free=0.0, misfit="cosines")
    measured = measurements((), None, (), outputs=bound, continuations=continued(gain))
    finding = mismatched_loss(classify(measured), measured)
    assert (finding is not None) == named
    assert not named or "temperature" in finding.advice
    above = dataclasses.replace(measured, outputs=dataclasses.replace(bound, loss=2.0))
    assert mismatched_loss(classify(above), above) is None
