import shutil

import pytest
from playwright.sync_api import sync_playwright

import unstuck
from unstuck.demos import DEMOS
from unstuck.report.figures import available
from unstuck.report.page import to_html

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser():
    executable = shutil.which("chromium")
    assert executable, "these tests need Chromium: install it, so that `chromium` is on the PATH"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a page without a network and gives it back with all that went wrong."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    trouble = []

    def guard(route):
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            trouble.append(f"request for {route.request.url}")
            route.abort()

    page.route("**/*", guard)
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def open_(text):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page.goto(path.as_uri())
        page.wait_for_function("typeof plots !== 'undefined' && plots.every((plot) => plot._fullLayout)")
        return page, trouble

    yield open_
    context.close()


def test_every_figure_is_drawn_and_nothing_is_asked_of_the_network(verdict, opened):
    page, trouble = opened(to_html(verdict))
    for name in available(verdict):
        box = page.locator(f"#figure-{name}").bounding_box()
        assert box["width"] > 500
        assert box["height"] > 100
        assert page.locator(f"#figure-{name} .trace path").count() > 0, name
    assert page.locator(".plot").count() == len(available(verdict))
    assert trouble == []


def test_a_script_of_somebody_elses_does_not_run_even_where_it_gets_in(saddle, opened):
    page, trouble = opened(to_html(saddle).replace("</main>", "<script>alert(1)</script></main>"))
    assert page.locator("h1").inner_text() == "Saddle point"
    assert not [entry for entry in trouble if entry.startswith("dialog")]
    assert any("Content Security Policy" in entry for entry in trouble)


def test_the_page_fits_a_phone_without_scrolling_sideways(saddle, opened):
    page, _ = opened(to_html(saddle))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_verdict_can_be_downloaded(saddle, opened):
    page, trouble = opened(to_html(saddle))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the verdict as JSON").click()
    assert download.value.suggested_filename == "unstuck.json"
    assert trouble == []


def test_the_page_of_batch_sizes_is_drawn_too(opened):
    training = DEMOS["noise"].setup()
    answer = unstuck.batch_size(training, budget=3.0)
    page, trouble = opened(answer.to_html())
    assert trouble == []
    drawn = page.locator(".plot .main-svg:visible")
    assert drawn.count() >= 3
    assert page.locator("h1").inner_text()
    assert page.locator("table").count() >= 2
