"""Stuck is not small gradient: where runs stand whose loss has stopped falling."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import plotly.graph_objects as go

from unstuck import optim
from unstuck.measurements.records.live import LEAST_OF_LEVEL
from unstuck.objective import Objective
from unstuck.remedies.lbfgs import descend
from unstuck.remedies.surface import SpentError, Surface
from unstuck.study.drawing import curve, dots, finished, level, logarithmic
from unstuck.study.judging import above, outcome, share
from unstuck.study.landscape import Vector
from unstuck.study.problems import batched, shuffled
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk

UPDATES, BATCH, HIDDEN = 4000, 32, 6
ALL = 10_000  # examples a batch, of fewer
LOOK = 100  # updates from one look at the whole gradient to the next
SMALL = 0.05  # of the largest gradient on the way: shorter is called small
GRADIENTS, GAIN = 100.0, 0.02  # a descent on all the data that gains so much shows a way down
MOST = 0.5


@dataclass(frozen=True)
class _Way:
    rule: Callable[[], optim.Rule]
    rate: float


_WAYS: dict[str, _Way] = {
    "gradient descent, 1": _Way(optim.gradient_descent, 1.0),
    "gradient descent, 3": _Way(optim.gradient_descent, 3.0),
    "momentum, 0.3": _Way(optim.momentum, 0.3),
    "Adam, 0.1": _Way(optim.adam, 0.1),
    "RMSProp, 0.1": _Way(optim.rmsprop_from_first, 0.1),
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(way=list(_WAYS))


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    way = _WAYS[str(settings["way"])]
    objective, whole = batched(seed, BATCH, HIDDEN), batched(seed, ALL, HIDDEN)
    looks: list[Row] = []

    def seen(step: int, theta: Vector) -> None:
        if step % LOOK == 0:
            loss, gradient = whole.value_and_gradient(theta)
            looks.append({"part": "look", "update": step, "loss": loss, "gradient": float(gradient.norm())})

    done = walk(objective, way.rule(), way.rate, UPDATES, only=shuffled(objective, seed), seen=seen)
    losses, half = [number(row, "loss") for row in looks], len(looks) // 2
    norms = [number(row, "gradient") for row in looks]
    end = number(looks[-1], "loss")
    gained = (end - _descended(whole, done.theta)) / end
    return [
        {
            "part": "end",
            "stalled": min(losses[half:]) > (1.0 - LEAST_OF_LEVEL) * min(losses[:half]),
            "loss": end,
            "gradient": norms[-1],
            "share_of_largest": norms[-1] / max(norms),
            "gained": gained,
        },
        *looks,
    ]


def _descended(objective: Objective, theta: Vector) -> float:
    """Go down from there on all the data, to see whether there is a way."""
    objective.theta = theta.clone()
    surface = Surface(objective, None, gradients=GRADIENTS, over=lambda: False, memory=math.inf)
    with suppress(SpentError):
        descend(surface, surface.slope(theta), reach=float(theta.norm()) * 0.01, enough=lambda _: False)
    return surface.loss


def _test(table: Table) -> Sequence[Outcome]:
    ends = table.where(part="end", stalled=True)
    steep = sum(number(row, "share_of_largest") > SMALL for row in ends)
    away = sum(number(row, "gained") > GAIN for row in ends)
    runs = len(table.where(part="end"))
    return [
        outcome(
            "where the loss has stopped, the gradient is often not small",
            above(share(steep, len(ends)), MOST),
            f"share of stalled runs whose gradient is over {SMALL:.0%} of the largest on the way",
            share(steep, len(ends)),
            MOST,
            f"Of {runs} runs {len(ends)} had stopped improving; in {steep} of these the gradient of all the "
            f"data was still "
            f"over {SMALL:.0%} of the largest there was.",
        ),
        outcome(
            "few of them are near a critical point",
            above(share(away, len(ends)), MOST),
            f"share of stalled runs from which a descent gains over {GAIN:.0%}",
            share(away, len(ends)),
            MOST,
            f"From {away} of the {len(ends)} a plain descent on all the data lowered the loss by more than "
            f"{GAIN:.0%} in "
            f"{GRADIENTS:.0f} gradients: they were at no critical point.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    looks = table.where(part="look", seed=0)
    drawings: list[Drawing] = []
    words = {
        "loss": "Loss over all the data",
        "gradient": "Length of the gradient over all the data",
    }
    for name, title in words.items():
        figure = go.Figure()
        for look, way in enumerate(_WAYS):
            rows = looks.where(way=way)
            curve(figure, rows.numbers("update"), rows.numbers(name), way, look)
        finished(figure, title, "updates", name)
        drawings.append(Drawing(name, logarithmic(figure, y=True), "The same five runs, one network."))
    figure, ends = go.Figure(), table.where(part="end")
    groups = {
        **{way: ends.where(way=way, stalled=True) for way in _WAYS},
        "not stopped": ends.where(stalled=False),
    }
    for look, (name, rows) in enumerate(groups.items()):
        gains = [max(100.0 * gained, 0.01) for gained in rows.numbers("gained")]
        dots(figure, [100.0 * value for value in rows.numbers("share_of_largest")], gains, name, look)
    level(figure, 100.0 * GAIN, "above: there is a way down", log=True)
    finished(
        figure,
        "Where runs stand that have stopped improving",
        "gradient, % of the largest on the way",
        "what a descent gains, % of the loss",
    )
    logarithmic(figure, x=True, y=True)
    caption = "Each point is the end of a run. A critical point would lie at the lower left."
    return [Drawing("ends", figure, caption), *drawings]


STUCK = Study(
    name="stuck",
    title="Stuck is not the same as a small gradient",
    claim="Often the loss has stopped falling while the gradient is not small: the run bounces between the "
    "walls of a valley. Few runs end "
    "near a critical point.",
    rows=("S15",),
    source="how little a doubling of the updates must gain to be called a stall: this project's test for "
    "stalls",
    experiment="A network of 6 hidden units learns to read digits in batches of 32, by gradient descent, "
    "momentum, Adam and RMSProp at large constant rates, for 4,000 updates. A run has stopped improving "
    "where the second half of its updates "
    "lowers the loss by less than 2 %. Every "
    "100 updates the "
    "gradient of all the data is measured; at the end, a descent with line search (L-BFGS) on all the data "
    "shows whether there is a way "
    "down.",
    limits="The rates are constant; with one that decays more runs come near a critical point. `Small` is a "
    "matter of scale: hence the "
    "second test, which asks what can still be gained.",
    settings=_settings,
    seeds={Scale.SMALL: 8, Scale.FULL: 20},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
