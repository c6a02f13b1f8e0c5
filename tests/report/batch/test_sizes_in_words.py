import dataclasses
import json
import math

import pytest

from batch.courses import by_law, course
from unstuck.batch.decision import decide
from unstuck.batch.records import Clock, Loading, Noise, Scale, Sizing, Timing, seconds_per_update
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.report.batch import words
from unstuck.report.batch.document import to_document, to_json
from unstuck.report.batch.figures import CAPTIONS, FIGURES, figure
from unstuck.report.batch.page import to_html
from unstuck.report.batch.terminal import to_text

SIZES = (8, 16, 32, 64, 128, 256, 512)


def sizing(made, *, critical=60.0):
    """What would be known of a run that follows the law."""
    timings = tuple(
        Timing(size, 0.001 + 1e-5 * size, 0.00099 + 1e-5 * size, 0.00102 + 1e-5 * size, 1000 * size, 20)
        for size in (1, *SIZES)
    )
    clock = Clock(timings, 128, "no more than 512 examples were read", 1, "cpu")
    loading = Loading(0.001, beside=False, example=1e-6, low=9e-7, high=1.1e-6)
    scale = Scale(Estimate(critical, 3.0, 31.0), critical - 6.0, critical + 6.0)
    one = Estimate(1.0, 0.1)
    noise = Noise(scale, scale, None, (), one, one, 400, 1, whole=True, separable=True)
    return Sizing(
        present=32,
        examples=512,
        rule="linear",
        optimizer="SGD",
        rates=(0.1,),
        clock=clock,
        loading=loading,
        noise=noise,
        course=made,
        decision=decide(made, seconds_per_update(timings, loading), noise, None, "there was no time"),
        order=None,
        omitted=("order: <script>alert(1)</script>",),
        gradients=100.0,
        seconds=12.0,
    )


@pytest.fixture
def known():
    return sizing(course(by_law(100.0, 60.0, SIZES, (0.97, 1.0, 1.03)), present=32))


def wrong():
    slow = {halves: 1000.0 * 2.0 ** (-0.5 * halves) for halves in range(-10, 11, 2)}
    return sizing(
        course(by_law(100.0, 50.0, SIZES, (1.0, 1.0, 1.0)) | {32: [1000.0] * 3}, present=32, rates=slow)
    )


def test_what_to_take_comes_first(known):
    head = words.headline(known)
    decision = known.decision
    assert head.title == f"Take {decision.low} to {decision.high} examples"
    assert str(decision.best) in head.meaning
    assert f"batch_size={decision.best}" in head.todo or decision.best == 32
    assert head.title in to_text(known)


def test_that_the_noise_is_compared_with_a_gradient_that_holds_weight_decay_is_said(known):
    assert "weight decay" not in to_text(known)
    decayed = dataclasses.replace(known, noise=dataclasses.replace(known.noise, decayed=True))
    assert any("weight decay is part of G" in fact.meaning for fact in words.facts(decayed))
    assert to_document(decayed)["noise"]["decayed"] is True


@pytest.mark.parametrize(
    ("updates", "said"), [(100.0, "are right for one another"), (8.0, "Nothing yet: within 8 updates")]
)
def test_size_and_rate_are_said_to_be_right_only_where_the_run_was_followed_for_long(known, updates, said):
    decision = known.decision
    followed = [dataclasses.replace(each, updates=Estimate(updates, 1.0)) for each in decision.options]
    decision = dataclasses.replace(decision, options=tuple(followed))
    assert said in words.headline(dataclasses.replace(known, present=decision.best, decision=decision)).todo


def test_a_size_that_is_not_surely_slower_is_not_to_be_changed_after_few_updates(known):
    few = [dataclasses.replace(each, updates=Estimate(2.0, 1.0)) for each in known.decision.options]
    decision = dataclasses.replace(known.decision, options=tuple(few))
    for present in (decision.low, decision.high):
        head = words.headline(dataclasses.replace(known, present=present, decision=decision))
        assert head.todo.startswith("Nothing yet")
    outside = words.headline(dataclasses.replace(known, present=4 * decision.high, decision=decision))
    assert f"batch_size={decision.best}" in outside.todo


def test_a_wrong_rate_comes_first_with_what_to_do():
    head = words.headline(wrong())
    assert head.title == "Mend the learning rate first"
    assert "lr=3.2" in head.todo


def test_where_nothing_is_resolved_that_is_the_headline():
    head = words.headline(sizing(None))
    assert head.title == "Not resolved"
    assert "order of magnitude" in head.meaning


def test_small_stands_against_large_in_every_respect(known):
    heads, rows = words.small_against_large(known)
    assert "32 (now)" in heads
    assert [row.label for row in rows] == [
        "update, one by one",
        "update, as a batch",
        "epoch",
        "signal in the gradient",
        "optimisation: updates",
        "optimisation: time",
    ]
    assert all(len(row.cells) == len(heads) for row in rows)
    by_label = {row.label: row.cells for row in rows}
    # One by one an update takes as many times longer as it has examples; as a batch hardly any longer.
    assert by_label["update, one by one"][0] == "8.08 ms"
    assert by_label["update, as a batch"][0] == "1.08 ms"


def test_the_document_has_the_fields_that_programs_rely_on(known):
    document = json.loads(to_json(known))
    assert document["schema"] == 1
    assert (
        document["recommended"]["low"] <= document["recommended"]["best"] <= document["recommended"]["high"]
    )
    assert [each["size"] for each in document["timing"]] == [1, *SIZES]
    assert document["noise"]["simple"]["value"] == 60.0
    assert document["noise"]["simple"]["stderr"] == 3.0
    assert {each["size"] for each in document["comparison"]["sizes"]} == set(SIZES)


def test_a_document_of_anything_is_finite_and_has_the_same_fields(known):
    every = [
        known,
        wrong(),
        sizing(None),
        dataclasses.replace(sizing(None), clock=None, noise=None, loading=None),
    ]
    for each in every:
        document = to_document(each)
        assert document.keys() == to_document(known).keys()
        assert "Infinity" not in json.dumps(document, allow_nan=False)
        assert to_text(each)
        assert "<script>alert" not in to_html(each)


def test_every_figure_has_a_caption_and_is_drawn_where_there_is_something_to_draw(known):
    assert CAPTIONS.keys() == FIGURES.keys()
    assert all(draw(known) is not None for name, draw in FIGURES.items() if name != "rates")
    assert FIGURES["rates"](wrong()) is not None
    with pytest.raises(MeasurementError, match="no figure 'colour'; there are: sizes, branches"):
        figure(known, "colour")


def test_a_scale_that_is_not_resolved_has_its_lower_end():
    assert words.scale(Scale(None, 40.0, math.inf)) == "not resolved: 40.0 or more"
