import base64
import json
import re
from html.parser import HTMLParser

from runs import verdict_of

from unstuck.diagnosis import Diagnosis
from unstuck.report.document import to_document
from unstuck.report.figures import available
from unstuck.report.page import to_html, to_notebook

LOADING = {"src", "srcset", "href", "data", "action", "poster", "formaction", "background"}


class Elements(HTMLParser):
    """The elements of a page with their attributes, the text of its scripts, and all other text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.scripts, self.text = [], [], []
        self.in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.in_script = False

    def handle_data(self, data):
        if self.in_script:
            self.scripts[-1] += data
        else:
            self.text.append(data)


def test_the_page_loads_nothing_from_anywhere(verdict):
    for tag, attributes in Elements(to_html(verdict)).elements:
        for name in LOADING & attributes.keys():
            assert attributes[name].startswith(("data:", "#")), f"<{tag} {name}={attributes[name]!r}>"
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}


def test_the_styles_load_nothing_either(saddle):
    style = re.search(r"<style>(.*?)</style>", to_html(saddle), re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_plotly_is_inside_exactly_once(saddle):
    scripts = Elements(to_html(saddle)).scripts
    assert [len(script) > 1_000_000 for script in scripts] == [False, True, False]


def test_only_scripts_whose_hash_the_policy_names_may_run(saddle):
    policies = [
        attributes["content"]
        for tag, attributes in Elements(to_html(saddle)).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "script-src 'sha256-" in policies[0]
    assert "script-src 'unsafe" not in policies[0]


def test_a_hostile_text_stays_text(hostile, saddle):
    for write in (to_html, to_notebook):
        harmless, page = Elements(write(saddle)), Elements(write(hostile))
        assert len(page.scripts) == len(harmless.scripts)
        assert not [tag for tag, _ in page.elements if tag == "img"]
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert "</script><script>alert(1)</script>" in "".join(page.text)


def test_the_document_inside_and_the_one_to_download_are_the_verdict(verdict):
    page = Elements(to_html(verdict))
    links = [attributes["href"] for tag, attributes in page.elements if "download" in attributes]
    downloaded = json.loads(base64.b64decode(links[0].partition("base64,")[2]))
    assert downloaded == to_document(verdict)
    shown = "".join(page.text)
    assert json.loads(shown[shown.index('{\n  "schema"') : shown.rindex("}") + 1]) == downloaded


def test_the_page_has_a_caption_for_each_figure_and_says_the_cause_first(saddle):
    page = to_html(saddle)
    assert page.count("<figcaption>") == page.count('class="plot"') == len(available(saddle))
    assert page.index("<h1>Saddle point</h1>") < page.index("<figure>")
    assert (
        "no eigenvalue below \u221212.1\u00a0% of the largest (\u22120.522), with probability 99\u00a0%"
        in page
    )


def test_what_stands_in_backticks_is_set_as_code(saddle):
    assert "(<code>unstuck escape</code>)" in to_html(saddle)


def test_a_notebooks_summary_is_one_small_block_without_script(verdict):
    summary = to_notebook(verdict)
    assert len(summary) < 12_000
    assert summary.strip().startswith("<div")
    assert summary.strip().endswith("</div>")
    assert not Elements(summary).scripts


def test_a_number_that_is_none_leaves_no_empty_sections():
    page = to_html(verdict_of("missing value"))
    assert "Where it appears" in page
    for words in ("Ways down", "Curvature</h3>", "<figure>"):
        assert words not in page
    assert "not a number" not in "".join(Elements(page).text)


def test_the_page_holds_every_number_that_an_expert_asks_for():
    page = to_html(verdict_of("learnt by heart"))
    for title in (
        "Going on, and with other steps",
        "Activations",
        "Gradient by place",
        "Noise of the gradient",
    ):
        assert f"<h3>{title}</h3>" in page
    for title in (
        "Labels",
        "Order of the data",
        "Validation",
        "What is trained",
        "Rounding",
        "Second moment",
    ):
        assert f"<h3>{title}</h3>" in page


def test_what_shows_the_cause_comes_before_what_else_was_measured():
    page = to_html(verdict_of("frozen body"))
    assert (
        page.index('id="figure-wiring"')
        < page.index("What else was measured")
        < page.index('id="figure-course"')
    )


def test_a_percent_sign_stays_on_the_line_of_its_number():
    text = "".join(Elements(to_html(verdict_of("frozen body"))).text).split("For programs")[0]
    assert re.search(r"\d\u00a0%", text)
    assert not re.search(r"\d %", text)


def test_a_console_and_a_notebook_show_the_answer_and_no_record(verdict):
    answer = Diagnosis(verdict)
    assert repr(answer) == str(answer)
    assert answer._repr_html_() == to_notebook(verdict)
