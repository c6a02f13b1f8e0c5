"""The spectrum of a small network in every form: text, JSON, figures, and the page in a real browser."""

import json
import math
from dataclasses import replace

import pytest

from test_spectra import small
from unstuck import spectrum
from unstuck.curvature.records import Certificate
from unstuck.estimate import Estimate
from unstuck.report.spectrum import facts
from unstuck.report.spectrum.document import to_document, to_json
from unstuck.report.spectrum.figures import available, figure
from unstuck.report.spectrum.page import to_html
from unstuck.report.spectrum.terminal import to_text
from unstuck.report.spectrum.words import READING, TITLES

HOSTILE = "</script><script>alert(1)</script>\x1b[31m[bold]"


@pytest.fixture(scope="module")
def bending():
    return spectrum(small(), budget=60.0, top=5).bending


def test_the_document_has_both_spectra_with_their_errors_and_only_finite_numbers(bending):
    document = json.loads(to_json(bending), parse_constant=pytest.fail)
    for name in ("hessian", "metric"):
        spread = document[name]
        assert len(spread["lowest"]) == len(spread["highest"]) == 5
        assert {"value", "residual"} == set(spread["lowest"][0])
        assert sum(each["share"]["value"] for each in spread["bins"]) == pytest.approx(1.0)
        assert spread["floor"]["probability"] == 1.0
    assert document["weight_decay_counts"] is True
    assert document["limit"] == pytest.approx(38.0)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_text_has_both_spectra_and_how_to_read_them_and_fits(bending, width):
    text = to_text(bending, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.replace("\u2502", " ").split())
    for sentence in (*READING, *TITLES.values()):
        assert sentence in words


def test_the_bars_of_the_text_are_as_many_as_there_are_bins_and_the_longest_is_the_fullest(bending):
    spread = bending.spread("hessian")
    lines = to_text(bending).split("in the optimizer's own metric\n")[-2].splitlines()
    bars = [line.count("#") for line in lines if "#" in line]
    numbers = [number for _, _, number in facts.histogram(spread)]
    assert len(bars) == len(numbers)
    assert bars.index(max(bars)) == numbers.index(max(numbers))
    assert sum(numbers) == pytest.approx(spread.spectrum.size)


def test_downward_curvature_is_said_only_beyond_doubt(bending):
    spread = bending.spread("hessian")

    def said(lowest):
        changed = replace(spread, judged_lowest=lowest)
        return facts.standing(replace(bending, spreads=(changed, bending.spread("metric"))))

    assert "surely bends down." in said(Estimate(-1.0, 0.1))
    assert "No direction" in said(Estimate(-1.0, 0.5))
    assert "No direction" in said(Estimate(-1e-19, 1e-21))  # what rounding alone leaves
    floor = Certificate(-0.01, 0.01, 0.99)
    estimated = replace(
        spread, judged_lowest=Estimate(0.0, 0.1), spectrum=replace(spread.spectrum, floor=floor)
    )
    assert "with probability 99 %" in facts.standing(replace(bending, spreads=(estimated,)))


def test_what_cannot_be_told_from_zero_is_written_as_zero(bending):
    spread = bending.spread("hessian")
    level = replace(spread, judged_lowest=Estimate(-9.8e-19, 3.1e-19))
    half = replace(bending.sample, exhaustive=False)
    said = facts.headline(replace(bending, sample=half, spreads=(level,)))
    assert " by 0 and " in said
    assert "e-19" not in said


def test_what_the_steps_can_bear_stands_beside_the_largest_eigenvalue(bending):
    metric = bending.spread("metric")
    assert "below the 38" in facts.standing(bending)
    steep = replace(metric, judged_highest=Estimate(50.0, 0.0))
    assert "above the 38" in facts.standing(replace(bending, spreads=(bending.spread("hessian"), steep)))


def test_a_figure_for_each_spectrum(bending):
    assert available(bending) == ("hessian", "metric")
    for name in available(bending):
        assert figure(bending, name).layout.title.text == TITLES[name]


def test_without_anything_known_there_is_a_page_but_no_figure(bending):
    bare = replace(bending, spreads=())
    assert 'id="figure-hessian"' not in to_html(bare)
    assert "not known" in to_text(bare)
    assert json.loads(to_json(replace(bare, gradient=math.inf)))["gradient_norm"] is None


def test_nothing_of_a_users_text_reaches_the_page_or_the_terminal_as_markup(bending):
    hostile = replace(bending, subject=replace(bending.subject, model=HOSTILE, device=HOSTILE))
    assert "<script>alert(1)" not in to_html(hostile)
    assert "\x1b" not in to_text(hostile)
    assert to_document(hostile)["subject"]["model"] == HOSTILE


def test_the_page_draws_both_in_a_browser_asks_nothing_of_the_network_and_fits_a_phone(bending, opened):
    page, trouble = opened(to_html(bending))
    for name in ("hessian", "metric"):
        assert page.locator(f"#figure-{name} .trace path").count() > 0
    assert page.locator("h1").inner_text() == "How does the loss bend here?"
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the numbers as JSON").click()
    assert json.loads(download.value.path().read_text()) == json.loads(to_json(bending))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert trouble == []
