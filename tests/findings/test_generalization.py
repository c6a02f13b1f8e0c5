from dataclasses import replace

import pytest
from handmade import measurements
from hypothesis import given
from hypothesis import strategies as st

from unstuck.estimate import Estimate
from unstuck.findings.generalization import generalization_gap
from unstuck.findings.point import classify
from unstuck.findings.records import Cause
from unstuck.measurements.records import Onward, Validation

ONWARD = Onward(40, 2.0, Estimate(0.02, 0.001, 15.0), Estimate(-0.01, 0.002))


def validation(training, held, *, error=0.01, constant=2.3, onward=ONWARD):
    return Validation(
        500,
        Estimate(training, error, 15.0),
        Estimate(held, error, 15.0),
        Estimate(held - training, 1.4 * error, 15.0),
        constant,
        onward=onward,
    )


def found(measured_validation):
    measured = measurements((), None, (), validation=measured_validation)
    return generalization_gap(classify(measured), measured)


def test_training_that_improves_while_validation_rises_is_a_gap():
    finding = found(validation(0.2, 0.8))
    assert finding.cause is Cause.GENERALIZATION_GAP
    assert finding.evidence[0].value == pytest.approx(0.6)


def test_a_gap_between_wholes_without_an_error_is_named_and_not_beyond_doubt():
    """Two graphs: what each costs is a fact, and what a third would cost nothing tells."""
    one = validation(0.01, 3.0, error=0.0)
    assert found(one).confidence == pytest.approx(0.99)
    assert found(replace(one, undivided=True)).confidence == pytest.approx(0.8)


@pytest.mark.parametrize(
    "healthy",
    [
        validation(1.0, 1.3),  # a little above, as in every run
        validation(2.29, 2.31),  # early
        validation(1e-4, 0.02),  # knows nearly everything on both sides
        validation(0.2, 0.8, error=0.4),  # not sure
        validation(0.2, 0.8, onward=replace(ONWARD, validation_gain=Estimate(0.03, 0.002))),  # still falls
        validation(0.2, 0.8, onward=replace(ONWARD, validation_gain=Estimate(0.0, 0.1))),  # may still fall
        validation(0.3, 0.8, onward=replace(ONWARD, training_gain=Estimate(-0.1, 0.001))),  # bounces
        validation(0.5, 0.8, constant=None),  # no scale to compare with
        validation(0.2, 0.8, onward=None),  # not known what going on does
    ],
)
def test_a_run_without_a_great_and_lasting_gap_is_not_blamed(healthy):
    assert found(healthy) is None


def test_a_run_that_has_learnt_all_its_examples_need_not_improve():
    done = replace(ONWARD, training_gain=Estimate(0.0, 1e-4))
    assert found(validation(0.001, 0.8, error=0.001, onward=done)) is not None


def test_validation_worse_than_a_constant_may_be_of_another_kind():
    assert "prepared like the training data" in found(validation(0.2, 5.0)).advice
    assert "prepared" not in found(validation(0.2, 0.8)).advice


@given(st.floats(0.01, 10), st.floats(0.0, 1.0), st.floats(0, 1))
def test_validation_no_higher_than_training_is_never_a_gap(training, share, error):
    assert found(validation(training, share * training, error=error)) is None


@pytest.mark.parametrize(("held", "named"), [(2.8, True), (1.9, False)])
def test_what_is_fitted_and_does_harm_on_validation_is_a_gap_whichever_way_a_few_steps_move_it(held, named):
    falls = replace(ONWARD, validation_gain=Estimate(0.03, 0.002))
    assert (found(validation(0.01, held, onward=falls)) is not None) == named
