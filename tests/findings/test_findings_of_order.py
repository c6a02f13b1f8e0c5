from dataclasses import replace

import pytest
from handmade import continued, measurements
from hypothesis import given
from hypothesis import strategies as st

from unstuck.estimate import Estimate
from unstuck.findings.health import UNTRIED
from unstuck.findings.order import unshuffled_data
from unstuck.findings.point import classify
from unstuck.findings.records import Cause
from unstuck.findings.verdict import conclude
from unstuck.measurements.records import (
    Activation,
    Arm,
    Continuations,
    Cost,
    Depth,
    Layers,
    Order,
    Reordered,
    Structure,
)

COST = Cost(1.0, 0, 1.0, 1, "")
STRUCTURE = Structure("targets", 40.0, 1e-90, 0.9, purity=0.95, expected_purity=0.2)
HARM = Reordered(
    steps=40,
    epochs=2.0,
    loss=2.0,
    given_loss=2.0,
    given_gain=Estimate(0.0, 0.02, 7.0),
    shuffled_gain=Estimate(1.5, 0.02, 7.0),
    trend=Estimate(0.0, 0.02, 7.0),
    extra=Estimate(1.5, 0.02, 7.0),
    marks=(30, 40),
    given=(2.1, 1.9),
    shuffled=(0.5, 0.5),
)
ORDER = Order(600, 20, whole=True, source="sequential", repeated=True, structure=STRUCTURE, reordered=HARM)


def found(order, **more):
    measured = measurements((), None, (), order=order, **more)
    return unshuffled_data(classify(measured), measured)


def swinging(losses):
    nothing = Estimate(0.0, 1e-3, 7.0)
    arm = Arm("going on", 1.0, 40, nothing, nothing, nothing, tuple(range(len(losses))), losses)
    return Continuations((arm,), 2.0)


def test_sorted_batches_that_do_harm_are_named_with_what_shuffling_gains():
    finding = found(ORDER)
    assert finding.cause is Cause.UNSHUFFLED_DATA
    assert finding.confidence > 0.9
    assert finding.evidence[0].value == pytest.approx(0.75)
    assert "shuffle=True" in finding.advice


@pytest.mark.parametrize(
    "reordered",
    [
        replace(HARM, extra=Estimate(0.05, 0.001, 7.0)),  # little
        replace(HARM, extra=Estimate(1.5, 0.9, 7.0)),  # not sure
        replace(HARM, shuffled_gain=Estimate(-0.5, 0.02, 7.0)),  # shuffling leads up too
    ],
)
def test_order_without_sure_and_great_harm_is_no_cause(reordered):
    assert found(replace(ORDER, reordered=reordered)) is None


def test_a_run_that_falls_in_the_order_as_given_is_left_alone_unless_shuffling_outdoes_it_by_far():
    mixed = replace(ORDER, structure=replace(STRUCTURE, purity=None))
    faster = replace(HARM, trend=Estimate(1.0, 0.02, 7.0), extra=Estimate(0.4, 0.02, 7.0))
    on_its_way = replace(mixed, reordered=faster)
    assert found(on_its_way, continuations=continued(0.5)) is None
    assert found(on_its_way, continuations=continued(0.0)) is not None
    assert found(replace(mixed, reordered=HARM), continuations=continued(0.5)) is not None
    # Little is enough where the run stands still on batches of one class.
    little = replace(HARM, extra=Estimate(0.06, 0.01, 7.0))
    assert found(replace(ORDER, reordered=little), continuations=continued(0.0)) is not None
    assert found(replace(ORDER, reordered=little), continuations=continued(0.5)) is None
    assert found(replace(mixed, reordered=little), continuations=continued(0.0)) is None
    # Batches of one class are never meant.
    assert found(replace(ORDER, reordered=faster), continuations=continued(0.5)) is not None


@given(st.floats(0, 100), st.floats(0, 1))
def test_batches_that_may_be_random_are_never_blamed(excess, probability):
    structure = replace(STRUCTURE, excess=excess, probability=max(probability, 1e-8))
    assert found(replace(ORDER, structure=structure)) is None


def test_where_shuffling_could_not_be_tried_pure_batches_and_a_swinging_loss_are_likely_the_cause():
    untried = replace(ORDER, reordered=None, reason="the batches have different keys")
    finding = found(untried, continuations=swinging((1.0, 2.0, 0.9, 2.1)))
    assert finding is not None
    assert finding.confidence < 0.9
    assert found(untried, continuations=swinging((1.0, 1.01, 0.99, 1.0))) is None
    assert found(untried) is None


@pytest.mark.parametrize(
    ("dead", "purity", "named"), [(1.0, 0.95, True), (0.1, 0.95, False), (1.0, 0.3, False)]
)
def test_where_units_are_dead_batches_of_one_class_are_named_though_shuffling_revives_nothing(
    dead, purity, named
):
    relu = Activation("0", "relu", "rectifier", 64, 768, dead, 0.0, 0.5, 0.5, 0.0, 0.7, 0.2, 0.0)
    layers = Layers(768, (relu,), (Depth("0", 1, 1, 0.5),), (), 2.3, 2.3)
    nothing = replace(HARM, extra=Estimate(0.0, 0.01, 7.0))
    order = replace(ORDER, reordered=nothing, structure=replace(STRUCTURE, purity=purity))
    finding = found(order, layers=layers, continuations=continued(0.0))
    assert (finding is not None) is named


def test_batches_of_one_class_are_a_note_where_shuffling_is_not_seen_to_help():
    harmless = replace(HARM, extra=Estimate(0.0, 0.02, 7.0), shuffled_gain=Estimate(0.0, 0.02, 7.0))
    measured = measurements((), None, (), order=replace(ORDER, reordered=harmless))

    def notes(**more):
        verdict = conclude(replace(measured, order=replace(measured.order, **more)), COST)
        return [note for note in verdict.notes if "could not have been drawn at random" in note]

    (note,) = notes()
    assert "95 % of a batch are of one class" in note
    assert "shuffle=True" in note
    assert len(notes(reordered=None)) == 1
    assert notes(reordered=HARM) == []
    assert notes(structure=replace(STRUCTURE, purity=0.3)) == []


@pytest.mark.parametrize(
    ("extra", "purity", "said"),
    [(0.08, 0.95, "end 4 % lower"), (0.0, 0.95, "gains little"), (0.08, 0.3, "")],
    ids=["shuffling gains", "shuffling gains nothing", "of all classes"],
)
def test_a_run_that_falls_on_batches_of_one_class_is_not_surely_healthy_if_shuffling_gains(
    extra, purity, said
):
    little = replace(HARM, extra=Estimate(extra, 0.01, 7.0), shuffled_gain=Estimate(0.2, 0.01, 7.0))
    order = replace(ORDER, reordered=little, structure=replace(STRUCTURE, purity=purity))
    verdict = conclude(measurements((), None, (), order=order, continuations=continued(0.3)), COST)

    assert verdict.cause is Cause.HEALTHY
    assert (verdict.confidence == pytest.approx(UNTRIED)) is (said == "end 4 % lower")
    assert said in " ".join(note for note in verdict.notes if "drawn at random" in note)
