import csv
import io
import json

import pytest
from small import SMALL

from unstuck.study.document import to_csv, to_json, to_text
from unstuck.study.page import command, gallery, to_html
from unstuck.study.records import Scale
from unstuck.study.running import run_study
from unstuck.study.store import Store


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("study") / "runs.sqlite") as store:
        return run_study(SMALL, store)


def test_every_figure_of_a_page_is_drawn_without_a_network(result, opened):
    page, trouble = opened(to_html(result, index=False))
    assert page.locator("#figure-points .trace path").count() > 0
    assert page.locator("h1").inner_text() == "A small study"
    assert trouble == []


def test_the_gallery_shows_every_study_and_fits_a_phone(result, opened):
    page, trouble = opened(gallery([result, result]))
    assert page.locator(".studies li").count() == 2
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert trouble == []


def test_links_and_figures_are_reached_by_keyboard(result, opened):
    page, _ = opened(to_html(result, index=True))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "All studies"


def test_text_of_a_study_is_escaped(result):
    assert "even if <code>a &lt; b</code>" in to_html(result, index=False)


def test_the_table_reads_back_to_the_same_numbers(result):
    rows = list(csv.DictReader(io.StringIO(to_csv(result.table))))
    assert [float(row["y"]) for row in rows] == result.table.numbers("y")


def test_the_document_has_every_outcome_with_its_interval(result):
    document = json.loads(to_json([result]))
    (study,) = document["studies"]
    assert (study["name"], study["holds"], study["runs"]) == ("small", "holds", 6)
    (part,) = study["outcomes"]
    assert part["low"] < part["value"] < part["high"]


def test_the_text_says_claim_outcome_and_statistic(result):
    text = to_text(result)
    assert "The lecture says: y goes with x" in text
    assert "Holds: It is" in text
    assert "bound 0" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_command_names_what_differs_from_the_usual(result, tmp_path):
    assert command(["small"], result) == "unstuck study small"
    with Store(tmp_path / "runs.sqlite") as store:
        full = run_study(SMALL, store, scale=Scale.FULL, seeds=1)
    assert command(["small"], full) == "unstuck study small --scale full --seeds 1"
