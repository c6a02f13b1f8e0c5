"""The tensors of the tests are tiny: more threads would only wait for each other. And a browser for pages."""

import shutil
from pathlib import Path

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# To check types at every call makes a diagnosis of a tiny network take four times as long. It is done where parts are
# tested, and once for each command; not where commands run again and again: in these folders, and beside this file.
UNCHECKED = {"batch", "demos", "landscape", "report", "study", "trials"}
CHECKED = "test_types.py"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(autouse=True, scope="module")
def types(request):
    where = request.path.relative_to(Path(__file__).parent).parts
    off = where[0] in UNCHECKED if len(where) > 1 else where[0] != CHECKED
    jaxtyping.config.update("jaxtyping_disable", off)


@pytest.fixture
def unchecked():
    """For a test that lets the same code run again and again."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)  # noqa: FBT003 - as jaxtyping has it
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most tests need no browser

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
