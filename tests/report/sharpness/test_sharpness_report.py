"""The sharpness of a small network in every form: text, JSON, figures, and the page in a real browser."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from unstuck import Training, sharpness, supervised
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.landscape.records import Gradient, Measure
from unstuck.report.sharpness import facts
from unstuck.report.sharpness.document import to_document, to_json
from unstuck.report.sharpness.figures import FIGURES
from unstuck.report.sharpness.page import to_html
from unstuck.report.sharpness.terminal import to_text
from unstuck.report.sharpness.words import MEASURES, READING

HOSTILE = "</script><script>alert(1)</script>\x1b[31m[bold]"


@pytest.fixture(scope="module")
def survey():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2))
    batches = [(torch.randn(10, 6), torch.randint(2, (10,))) for _ in range(12)]
    training = Training(
        model, supervised(nn.CrossEntropyLoss()), batches[:8], torch.optim.SGD(model.parameters(), lr=0.1),
        validation=batches[8:],
    )  # fmt: skip
    return sharpness(training, budget=60.0).survey


def test_the_document_holds_every_measure_with_its_error_and_only_finite_numbers(survey):
    document = json.loads(to_json(survey), parse_constant=pytest.fail)
    assert document["schema"] == 1
    assert set(document["measures"]) == set(MEASURES)
    assert {"lambda_max", "trace", "keskar", "sam", "asam"} <= set(document["measures"])
    for measure in document["measures"].values():
        assert {"value", "stderr", "degrees", "found", "slope", "gradients", "scale_invariant"} == set(
            measure
        )
    assert document["measures"]["sam"]["value"] == survey.measure("sam").value.value
    assert [name for name, each in document["measures"].items() if each["scale_invariant"]] == [
        "asam",
        "asam_steps",
    ]
    assert document["weight_decay_counts"] is False
    assert document["complete"] is True


def test_a_loss_that_overflows_becomes_null(survey):
    infinite = Measure("keskar", Estimate(math.inf, math.nan), math.inf, math.nan, 3.0)
    document = json.loads(to_json(replace(survey, measures=(infinite,))))
    assert document["measures"]["keskar"]["value"] is None
    assert "infinite" in to_text(replace(survey, measures=(infinite,)))


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_text_has_every_measure_and_both_sentences_and_fits(survey, width):
    text = to_text(survey, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.replace("\u2502", " ").split())
    for sentence in READING:
        assert sentence in words
    if width >= 100:
        for measure in MEASURES.values():
            assert measure.label in words


def test_there_are_two_sentences_on_how_to_read_it():
    assert len(READING) == 2
    assert all(sentence.replace("et al.", "et al").count(". ") == 0 for sentence in READING)


def rise(name, value, slope):
    return Measure(name, Estimate(value, 0.0), value, slope, 1.0)


def test_a_slope_is_never_passed_off_as_a_minimum(survey):
    sloping = replace(survey, measures=(rise("sam_steps", 0.1, 0.09),))
    assert facts.slope_share(sloping) == pytest.approx(0.9)
    assert "no minimum" in facts.standing(sloping)
    held = replace(sloping, gradient=Gradient(1.0, 0.0, 1e-6))
    assert "Weight decay" in facts.standing(held)
    assert "Weight decay" not in facts.standing(sloping)
    curved = replace(survey, measures=(rise("sam_steps", 0.1, 0.01),))
    assert "no minimum" not in facts.standing(curved)
    nothing = replace(survey, measures=(Measure("sam_steps", Estimate(0.1, 0.09), 0.1, 0.0, 1.0),))
    assert "not resolved" in facts.standing(nothing)


def test_what_there_was_time_for_is_told_where_the_rest_is_not_known(survey):
    first = replace(survey, measures=(rise("lambda_max", 30.0, None), rise("sam", 0.1, 0.09)))
    assert "can raise the loss" in facts.headline(first)
    assert facts.slope_share(first) == pytest.approx(0.9)
    bent = replace(survey, measures=(rise("lambda_max", 30.0, None),))
    assert "it bends by 30.0" in facts.headline(bent)
    assert "was not measured" in facts.standing(bent)


def test_every_figure_shows_training_and_validation_along_every_direction(survey):
    panels = FIGURES["profiles"](survey)
    names = [trace.name for trace in panels.data]
    assert names.count("training") == names.count("validation") == len(survey.profiles) == 4
    assert len({tuple(axis.range) for axis in panels.select_yaxes()}) == 1  # of one height
    assert len(FIGURES["widths"](survey).data) == 4


def test_without_profiles_there_is_a_page_but_no_figure(survey):
    bare = replace(survey, profiles=(), measures=())
    assert "figure-profiles" not in to_html(bare)
    assert "could not be made" in to_text(bare).replace("\n", " ")
    with pytest.raises(MeasurementError, match="not measured"):
        sharpness_of(bare).figure("profiles")


def sharpness_of(found):
    from unstuck.flatness import Sharpness  # noqa: PLC0415

    return Sharpness(found)


def test_an_unknown_figure_is_told_with_those_there_are(survey):
    with pytest.raises(MeasurementError, match="profiles, widths"):
        sharpness_of(survey).figure("spectrum")


def test_nothing_of_a_users_text_reaches_the_page_or_the_terminal_as_markup(survey):
    hostile = replace(survey, subject=replace(survey.subject, model=HOSTILE, device=HOSTILE))
    assert "<script>alert(1)" not in to_html(hostile)
    assert "\x1b" not in to_text(hostile)
    assert to_document(hostile)["subject"]["model"] == HOSTILE


def test_the_page_draws_its_figures_in_a_browser_and_asks_nothing_of_the_network(survey, opened):
    page, trouble = opened(to_html(survey))
    for name in FIGURES:
        assert page.locator(f"#figure-{name}").bounding_box()["width"] > 500
        assert page.locator(f"#figure-{name} .trace path").count() > 0
    assert page.locator("h1").inner_text() == "How sharp is it here?"
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the numbers as JSON").click()
    assert json.loads(download.value.path().read_text()) == json.loads(to_json(survey))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert trouble == []
