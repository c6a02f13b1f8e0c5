"""A study that takes no time, and one that takes a little, to try the machinery on."""

import time
from dataclasses import replace

import plotly.graph_objects as go
import torch

from unstuck.study.drawing import dots, finished
from unstuck.study.judging import above, mean, outcome
from unstuck.study.records import Drawing, Scale, Study, grid


def settings(scale):
    return grid(slope=[1.0, -1.0])


def run(settings, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((), generator=generator, dtype=torch.float64).item()
    return [{"x": settings["slope"], "y": settings["slope"] + 0.1 * noise}]


def slow(settings, seed):
    time.sleep(0.1)
    return run(settings, seed)


def test(table):
    found = mean([row["y"] * row["x"] for row in table])
    return [
        outcome("y goes with x", above(found, 0.0), "mean of x y", found, 0.0, f"It is {found.value:.3f}.")
    ]


def draw(table):
    figure = dots(go.Figure(), table.numbers("x"), table.numbers("y"), "<b>a & b</b>", 0)
    return [Drawing("points", finished(figure, "Points", "x", "y"), "What was drawn.")]


SMALL = Study(
    name="small",
    title="A small study",
    claim="y goes with x, even if `a < b`.",
    rows=("S0",),
    source="nobody",
    experiment="Numbers are drawn.",
    limits="Nothing.",
    settings=settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 9},
    run=run,
    test=test,
    draw=draw,
    data="none",
)
SLOW = replace(SMALL, name="slow", run=slow)
