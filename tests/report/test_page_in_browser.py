import unstuck
from unstuck.demos import DEMOS
from unstuck.report.figures import available
from unstuck.report.page import to_html


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
    cells = page.locator("td:not(.number)").evaluate_all("cells => cells.map(cell => cell.clientWidth)")
    assert min(cells) > 100  # wide enough for words: they are not broken letter by letter


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
