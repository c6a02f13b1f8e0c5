"""Every study, its runs cut short: the same numbers again, tests that come out against the claim, pages that draw."""

import sys

import pytest

from unstuck.study.catalogue import STUDIES
from unstuck.study.networks import rectified
from unstuck.study.page import to_html
from unstuck.study.records import Holds, Result, Scale, Table
from unstuck.study.running import run_study, work
from unstuck.study.store import Store

pytestmark = pytest.mark.slow

# What would be seen if the claim were wrong, for a study's every part: a column, and what to make of it.
AGAINST = {
    "surface": {"lambda_min": abs, "w1": lambda value: value + 1.0, "ahead": lambda value: -value},
    "escape": {"measured": lambda value: -value, "gained": lambda _: 0.5},
    "cost": {"gradients": lambda value: value**3, "dense_seconds": lambda value: value and value * 1e-6},
    "minimum-ratio": {"gradient_squared": lambda _: 1.0, "minimum_ratio": lambda value: -value},
    "batch-time": {"update_seconds": lambda _: 1.0},
    "batch-quality": {"accuracy": lambda value: -value, "held_accuracy": lambda value: -value},
    "batch-noise": {"left": lambda _: 5, "below": lambda _: 1e9},
    "sharp-flat": {"lambda_max": lambda _: 1.0},
    "large-batch": {"loss": lambda _: 1.0},
    "momentum": {"error": lambda _: 1.0, "place": lambda _: 2.0, "momentum": lambda _: 1000},
    "stuck": {"stalled": lambda _: True, "share_of_largest": lambda _: 0.0, "gained": lambda _: 0.0},
    "valley": {"left": lambda _: 0.0},
    "adaptive": {"rate": lambda value: value},
    "burst": {"rise": lambda _: 1.0},
    "schedule": {"loss": lambda value: value},
    "formula": {"difference": lambda _: 1e-3},
}

# Constants of a study's module that make its runs short: what is tested here is how it is put together.
SHORT = {
    "surface": {"LOOKS": 5},
    "escape": {"STEPS": 24, "NARROW": 2, "WIDE": 4},
    "cost": {"SIZES": {Scale.SMALL: (1e3, 1e4)}},
    "minimum-ratio": {"NARROW": {(3,): ((1,), (2,))}, "OTHERS": ("3",), "STARTS": (0,), "EXAMPLES": 100},
    "batch-time": {"SECONDS": 1.5},
    "batch-quality": {"EPOCHS": 1, "SIZES": (8, 512), "RATES": (0.03, 0.3)},
    "batch-noise": {
        "LEAVING": 30,
        "UPDATES": 30,
        "NARROW": (2,),
        "SHARES": (0.2,),
        "STARTS": 3,
        "WORST": 1,
        "EXAMPLES": 100,
    },
    "sharp-flat": {
        "_NETWORKS": {"small": lambda: rectified(40, 10, 10)},
        "_EASY": {},
        "TARGET": 2.29,
        "SURVEYED": 200,
        "PIECES": 50,
    },
    "large-batch": {"EPOCHS": 7, "SHORT": 1, "COPIES": 1},
    "momentum": {"UPDATES": 20, "SUMMED": 5, "STARTS": 1, "RATES": (0.1, 0.3), "STEPS": 200},
    "stuck": {"UPDATES": 200},
    "valley": {"UPDATES": {Scale.SMALL: 20}, "SPREADS": (1.0, 30.0), "ILL": 30.0},
    "adaptive": {"UPDATES": 10},
    "burst": {"UPDATES": 30, "RATES": (0.4,)},
    "schedule": {"UPDATES": 40, "WARM": 5, "RATES": (0.01, 0.1)},
    "formula": {"UPDATES": 5},
}


@pytest.fixture(scope="module", params=STUDIES)
def result(request, tmp_path_factory):
    study = STUDIES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHORT[study.name].items():
            patch.setattr(sys.modules[study.run.__module__], name, value)
        with Store(tmp_path_factory.mktemp("claims") / "runs.sqlite") as store:
            yield run_study(study, store, seeds=1)


def test_every_part_has_a_number_a_bound_and_a_sentence(result: Result):
    assert result.outcomes
    for outcome in result.outcomes:
        assert outcome.sentence.endswith(".")
        assert outcome.low <= outcome.high
        assert outcome.part


def test_the_same_settings_and_seed_give_the_same_numbers(result: Result):
    settings = result.study.settings(Scale.SMALL)[0]
    again = work(result.study.run, (settings, 0))[1]
    first = Table(result.table.rows[: len(again)])
    timed = {name for name in result.table.columns if name.endswith("seconds")}
    assert [{k: v for k, v in row.items() if k not in timed} for row in again] == [
        {k: v for k, v in row.items() if k not in timed} for row in first
    ]


def many(rows):
    """As many seeds as make an interval short."""
    return Table(tuple({**row, "seed": row["seed"] + copy} for copy in range(20) for row in rows))


def test_the_test_comes_out_against_a_claim_that_is_wrong(result: Result):
    changes = AGAINST[result.study.name]
    rows = [
        {
            name: changes[name](value) if name in changes and value is not None else value
            for name, value in row.items()
        }
        for row in result.table
    ]
    tables = [rows]
    if result.study.name in {"adaptive", "schedule"}:  # of what is compared, either side may be ahead
        tables.append([{**row, "loss": 1.0 / row["loss"]} for row in rows])
    found = {part.holds for rows in tables for part in result.study.test(many(rows))}
    assert Holds.NO in found


def test_every_figure_of_its_page_is_drawn(result: Result, opened):
    page, trouble = opened(to_html(result, index=False))
    names = [drawing.name for drawing in result.study.draw(result.table)]
    assert page.locator(".plot").count() == len(names)
    for name in names:
        box = page.locator(f"#figure-{name}").bounding_box()
        assert box["height"] > 100
        drawn = page.evaluate(
            f"document.getElementById('figure-{name}')._fullData.some((trace) => trace.visible)"
        )
        assert drawn, name
    # Software rendering of the surface makes the browser speak of its speed.
    assert [
        entry for entry in trouble if "ReadPixels" not in entry and "willReadFrequently" not in entry
    ] == []
