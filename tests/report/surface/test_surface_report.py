"""Pictures of a small network's loss in every form: text, JSON, figures, and the page in a real browser."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from unstuck import Training, supervised, surface
from unstuck.estimate import Estimate
from unstuck.landscape.pictures import Interpolation
from unstuck.report.numbers import digits
from unstuck.report.surface import facts
from unstuck.report.surface.document import to_document, to_json
from unstuck.report.surface.figures import available, figure
from unstuck.report.surface.heights import filled, span
from unstuck.report.surface.page import to_html
from unstuck.report.surface.terminal import to_text
from unstuck.report.surface.words import reading

HOSTILE = "</script><script>alert(1)</script>\x1b[31m[bold]"
FIGURES = ("random", "random-surface", "hessian", "hessian-surface", "path", "path-surface", "slices")


def partly():
    """Ctrl-C in the midst of the second level of the second plane."""
    places = iter(range(10_000))

    def told(stage, share):
        if stage.startswith("hessian: 17") and next(places) == 12:
            raise KeyboardInterrupt

    return told


@pytest.fixture(scope="module")
def view():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2))
    batches = [(torch.randn(10, 6), torch.randint(2, (10,))) for _ in range(6)]
    training = Training(
        model, supervised(nn.CrossEntropyLoss()), batches[:4], torch.optim.SGD(model.parameters(), lr=0.1),
        validation=batches[4:],
    )  # fmt: skip
    return surface(training, budget=600.0, progress=partly()).view


def test_the_document_holds_every_height_with_its_error_and_only_finite_numbers(view):
    document = json.loads(to_json(view), parse_constant=pytest.fail)
    assert document["schema"] == 1
    assert list(document["planes"]) == ["random", "hessian", "path"]
    path = document["planes"]["path"]
    assert path["quadratic"] is None
    assert len(path["path"]["steps"]) == len(path["path"]["losses"]) == len(path["path"]["xs"])
    for plane in (document["planes"][name] for name in ("random", "hessian")):
        for sheet in ("training", "errors", "validation"):
            assert len(plane[sheet]) == len(plane["ys"]) == 17
            assert {len(line) for line in plane[sheet]} == {len(plane["xs"])}
        assert {"slopes", "xx", "xy", "yy"} == set(plane["quadratic"])
        assert [axis["name"] for axis in plane["axes"]] in (["first", "second"], ["highest", "lowest"])
    assert document["planes"]["random"]["whole"] == 17
    assert document["planes"]["hessian"]["whole"] == 9
    assert document["weight_decay_counts"] is False


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_text_has_every_picture_and_how_to_read_it_and_fits(view, width):
    text = to_text(view, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.replace("\u2502", " ").split())
    for sentence in reading(view.subject.parameters):
        assert sentence in words
    assert words.count("o the weights") == 3


def test_a_picture_in_text_is_as_dark_as_the_loss_is_high(view):
    lines = to_text(view).splitlines()
    start = next(i for i, line in enumerate(lines) if line == "Along two random directions") + 1
    drawn = [line[2:].ljust(34)[::2] for line in lines[start : start + 17]]
    plane = view.plane("random")
    low, top = span(plane)
    shades = " .:-=+*#%@"
    for row, line in zip(drawn, reversed(plane.training), strict=True):
        for shade, value in zip(row, line, strict=True):
            expected = min(int((value - low) / (top - low) * 10), 9)
            assert shade == "o" or shades.index(shade) == expected


def test_what_was_not_evaluated_is_filled_in_from_the_coarser_grid(view):
    plane = view.plane("hessian")
    heights = filled(plane, plane.training)
    assert not any(value is None for line in heights for value in line)
    gaps = 0
    for y, line in enumerate(plane.training):
        for x, value in enumerate(line):
            if value is not None:
                assert heights[y][x] == value
            elif x % 2 and not y % 2:
                gaps += 1
                assert heights[y][x] == pytest.approx((line[x - 1] + line[x + 1]) / 2)
    assert gaps


def test_walls_are_cut_off_and_a_bowl_is_not(view):
    plane = view.plane("random")
    bowl = tuple(tuple(x * x + y * y for x in plane.xs) for y in plane.ys)
    assert span(replace(plane, training=bowl, validation=())) == (0.0, 2.0)
    wall = tuple(tuple(math.exp(9 * x) for x in plane.xs) for y in plane.ys)
    assert span(replace(plane, training=wall, validation=()))[1] < 10.0
    flat = tuple(tuple(0.5 for x in plane.xs) for y in plane.ys)
    low, top = span(replace(plane, training=flat, validation=()))
    assert low < top


def test_where_heights_differ_by_rounding_alone_no_structure_is_drawn(view):
    plane = view.plane("random")
    noise = tuple(
        tuple(0.5 + 1e-15 * ((7 * i + 5 * j) % 4) for i, _ in enumerate(plane.xs))
        for j, _ in enumerate(plane.ys)
    )
    level = replace(plane, training=noise, validation=(), interpolation=Interpolation(32, 1e-9, 4e-15))
    low, top = span(level)
    assert all(value - low < 0.1 * (top - low) for line in noise for value in line)
    said = "all heights are the same, to within 4.0e-15"
    assert said in facts.standing(replace(view, planes=(level,)))
    known = replace(level, interpolation=Interpolation(32, 1e-9, 1e-18))
    assert span(known)[1] == max(map(max, noise))
    assert said not in facts.standing(replace(view, planes=(known,)))


def test_a_lower_place_is_told_only_where_it_is_surely_lower(view):
    plane = view.plane("random")
    column, row = plane.centre

    def dented(error):
        training = [list(line) for line in plane.training]
        training[row][column + 1] = view.here - 1.0
        errors = [[error] * len(plane.xs) for _ in plane.ys]
        made = replace(plane, training=tuple(map(tuple, training)), errors=tuple(map(tuple, errors)))
        return facts.standing(replace(view, planes=(made,)))

    assert "lower place" in dented(0.1)
    assert "lower place" not in dented(0.5)


def test_how_far_the_quadratic_model_holds_is_said(view):
    plane = view.plane("hessian")
    exact = tuple(tuple(plane.quadratic.at(view.here, x, y) for x in plane.xs) for y in plane.ys)
    whole = facts.standing(replace(view, planes=(replace(plane, training=exact),)))
    assert f"up to a distance of {plane.xs[-1]:.3g}" in whole
    off = tuple(
        tuple(v + (abs(x) > plane.xs[-3]) for v, x in zip(line, plane.xs, strict=True)) for line in exact
    )
    part = facts.standing(replace(view, planes=(replace(plane, training=off),)))
    assert f"up to a distance of {plane.xs[-3]:.3g}" in part


def test_the_figures_show_training_model_and_validation(view):
    assert available(view) == FIGURES
    names = [each.name for each in figure(view, "hessian-surface").data]
    assert names == ["training loss", "quadratic model", "validation loss", "the weights"]
    assert len([each for each in figure(view, "random").data if each.type == "contour"]) == 2
    slices = [each.name for each in figure(view, "slices").data]
    assert slices.count("training loss") == slices.count("quadratic model") == 4
    assert slices.count("validation loss") == 4
    walk = figure(view, "path-surface").data[-1]
    assert list(walk.z) == pytest.approx(list(view.plane("path").path.losses), rel=0.2)
    for name in FIGURES[:-1]:
        text = figure(view, name).to_json()
        assert "distance" in text or "filters" in text


def test_the_lightness_of_the_colours_goes_with_the_loss(view):
    import plotly.colors  # noqa: PLC0415

    scale = plotly.colors.get_colorscale("Cividis")
    greys = [
        sum(w * v for w, v in zip((0.299, 0.587, 0.114), plotly.colors.hex_to_rgb(c), strict=True))
        for _, c in scale
    ]
    assert greys == sorted(greys)
    assert figure(view, "random").layout.coloraxis.colorscale[0][1] == scale[0][1]


def test_nothing_of_a_users_text_reaches_the_page_or_the_terminal_as_markup(view):
    hostile = replace(view, subject=replace(view.subject, model=HOSTILE, device=HOSTILE))
    assert "<script>alert(1)" not in to_html(hostile)
    assert "\x1b" not in to_text(hostile)
    assert to_document(hostile)["subject"]["model"] == HOSTILE


def test_without_any_picture_there_is_a_page_but_no_figure(view):
    bare = replace(view, planes=(), lowest=None, highest=None)
    assert 'id="figure-random"' not in to_html(bare)
    assert "Nothing of the loss" in to_text(bare)


def test_losses_that_overflow_are_no_number_in_the_document_and_no_wall_in_the_figure(view):
    plane = view.plane("random")
    high = tuple(
        tuple(math.inf if x > 0 else v for x, v in zip(plane.xs, line, strict=True))
        for line in plane.training
    )
    overflowing = replace(view, planes=(replace(plane, training=high),), loss=Estimate(0.7, math.inf))
    document = json.loads(to_json(overflowing), parse_constant=pytest.fail)
    assert document["planes"]["random"]["training"][0][-1] is None
    drawn = figure(overflowing, "random").data[0].z
    assert max(max(line) for line in drawn) < 100.0
    assert "@" in to_text(overflowing)


@pytest.fixture
def page(view, browser, tmp_path):
    """The page in a browser; at the end nothing has gone wrong and nothing was asked of the network."""
    path, trouble = tmp_path / "surface.html", []
    path.write_text(to_html(view), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    # Warnings are the software driver's own: that it has no graphics card.
    page.on("console", lambda m: trouble.append(m.text) if m.type != "warning" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    inside = ("file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(inside) else trouble.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_function("typeof plots !== 'undefined' && plots.every((plot) => plot._fullLayout)")
    yield page
    page.close()
    assert trouble == []


def test_the_page_draws_every_picture_and_surfaces_that_keys_can_turn(view, page):
    for name in FIGURES:
        assert page.locator(f"#figure-{name}").bounding_box()["width"] > 500
    assert page.locator("#figure-hessian .contour path").count() > 0
    assert page.locator("#figure-random-surface canvas").count() > 0
    eye = "plots[1]._fullLayout.scene.camera.eye"
    before = page.evaluate(eye)
    page.get_by_role("button", name="Turn left").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{eye}.x !== {before['x']}")
    after = page.evaluate(eye)
    assert math.hypot(*after.values()) == pytest.approx(math.hypot(*before.values()), rel=1e-6)
    page.get_by_role("button", name="As at first").first.press("Enter")
    page.wait_for_function(f"Math.abs({eye}.x - {before['x']}) < 1e-6")


def test_the_numbers_can_be_downloaded_and_the_page_fits_a_phone(view, page):
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the numbers as JSON").click()
    assert json.loads(download.value.path().read_text()) == json.loads(to_json(view))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_levels_of_a_loss_that_hardly_differs_are_told_apart():
    assert digits(0.0, 3.0) == 3
    low, top = 0.72601, 0.72608
    assert f"{low:.{digits(low, top)}g}" != f"{(low + top) / 2:.{digits(low, top)}g}"
    assert digits(1.0, 1.0) == 3
