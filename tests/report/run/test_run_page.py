import base64
import json
from html.parser import HTMLParser

import pytest

from recordings import HOSTILE, changed, copied, killed, short, stuck
from unstuck.report.run.document import to_document
from unstuck.report.run.page import to_html
from unstuck.watching.files.reading import read

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


class Elements(HTMLParser):
    """The elements of a page with their attributes, and all text outside scripts."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.scripts = [], [], 0
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag == "script"
        self.scripts += self._inside

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if not self._inside:
            self.text.append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run whose every text is an attack: script, arguments, layers, messages."""
    path = copied(stuck(), tmp_path_factory.mktemp("hostile"))
    document = json.dumps({"cause": HOSTILE, "explanation": HOSTILE})
    return changed(
        path,
        ("INSERT INTO events VALUES (0, 980, 1.0, 'finding', ?, ?)", HOSTILE, document),
        ("INSERT INTO events VALUES (0, 990, 1.0, ?, ?, '[]')", HOSTILE, HOSTILE),
        ("UPDATE optimizers SET name = ?, model = ?", HOSTILE, HOSTILE),
    )


def test_the_page_loads_nothing_and_hostile_texts_stay_text(hostile):
    page = Elements(to_html(read(hostile)))
    assert page.scripts == Elements(to_html(read(short()))).scripts == 3
    assert not [tag for tag, _ in page.elements if tag in {"img", "link", "iframe", "object", "base"}]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert attributes.get("href", "data:").startswith("data:")
    assert HOSTILE in "".join(page.text)


def test_the_page_carries_the_document():
    page = Elements(to_html(read(stuck())))
    (link,) = [attributes["href"] for _, attributes in page.elements if "download" in attributes]
    assert json.loads(base64.b64decode(link.partition("base64,")[2])) == to_document(read(stuck()))


def test_every_figure_has_a_caption_and_there_are_only_those_with_data():
    full, little = to_html(read(stuck())), to_html(read(short()))
    for page in (full, little):
        assert page.count("<figcaption>") == page.count('class="plot"')
    for name in ("course", "updates", "gradients", "angles", "overshoot", "sigma"):
        assert f'id="figure-{name}-0"' in full
    assert 'id="figure-course-0"' in little
    for name in ("updates", "curvature", "noise"):
        assert f'id="figure-{name}-0"' not in little


def test_pages_are_drawn_in_a_browser_without_a_word_of_complaint(hostile, opened):
    for run in (hostile, killed()):
        page, trouble = opened(to_html(read(run)))
        assert page.evaluate("plots.every((plot) => plot.querySelector('.trace, .hm'))")
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_viewport_size({"width": 1100, "height": 900})
        assert trouble == []
