"""Adagrad's bursts: along a direction that has become flat sigma shrinks until a step is suddenly large."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import plotly.graph_objects as go
import torch
from torch import Tensor

from unstuck import optim
from unstuck.objective import Objective
from unstuck.study.drawing import curve, finished, logarithmic
from unstuck.study.judging import Found, above, below, outcome, share
from unstuck.study.problems import SPREAD, convex, network, toy
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk

UPDATES, WARM = 500, 50
BURST = 2.0  # times the lowest loss so far that a loss must come back up to
RATES = (0.1, 0.2, 0.4)
FLAT = 1e-6  # curvature along the valley of the toy; across it is 1
OFTEN, SELDOM = 0.5, 0.25

_SCHEDULES: dict[str, Callable[[], optim.Schedule]] = {
    "constant": optim.constant,
    "decay": lambda: optim.inverse_sqrt(1),
    "warm-up, then decay": lambda: optim.warmup(WARM).then(optim.inverse_sqrt(WARM)),
}


def valley(place: Tensor) -> Tensor:
    """A long valley: a million times steeper across than along."""
    return 0.5 * (torch.tensor([FLAT, 1.0], dtype=torch.float64) * place.square()).sum()


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(surface=["valley", "classifier", "network"], rate=RATES, schedule=list(_SCHEDULES))


def _objective(surface: str, seed: int) -> Objective:
    if surface == "valley":
        start = 0.5 + torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return toy(valley, start.tolist())
    return convex(SPREAD) if surface == "classifier" else network(seed, unequal=True)


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    objective = _objective(str(settings["surface"]), seed)
    schedule = _SCHEDULES[str(settings["schedule"])]()
    done = walk(objective, optim.adagrad_mean(), number(settings, "rate"), UPDATES, schedule=schedule)
    lowest = list(accumulate(done.losses, min))
    # Once it has come down at all; at first the loss may rise since the rate is large from the very start.
    down = next((step for step, loss in enumerate(lowest) if loss < 0.5 * done.losses[0]), UPDATES)
    rises = [loss / max(low, 1e-12 * done.losses[0]) for loss, low in zip(done.losses, lowest, strict=True)]
    rows: list[Row] = [{"part": "end", "rise": max(rises[down:]), "loss": done.losses[-1]}]
    return rows + [
        {"part": "course", "update": step, "loss": done.losses[step]} for step in range(0, UPDATES + 1, 5)
    ]


def _bursts(rows: Table) -> Found:
    return share(sum(row["rise"] is None or number(row, "rise") > BURST for row in rows), len(rows))


def _test(table: Table) -> Sequence[Outcome]:
    ends = table.where(part="end")
    real = Table(tuple(row for row in ends if row["surface"] != "valley"))
    outcomes: list[Outcome] = []
    for where, rows in (("a long valley", ends.where(surface="valley")), ("networks and classifiers", real)):
        found = _bursts(rows.where(schedule="constant"))
        outcomes.append(
            outcome(
                f"at a constant rate it bursts: {where}",
                above(found, OFTEN),
                "share of runs whose loss comes back up to twice its lowest",
                found,
                OFTEN,
                f"In {where} {found.value:.0%} of the runs of Adagrad at a constant rate burst.",
            )
        )
    cured = Table(tuple(row for row in ends if row["schedule"] != "constant"))
    found = _bursts(cured)
    outcomes.append(
        outcome(
            "decay, or warm-up and decay, takes the bursts away",
            below(found, SELDOM),
            "the same share with schedules",
            found,
            SELDOM,
            f"With a rate that decays, with or without warm-up, {found.value:.0%} of all runs did.",
        )
    )
    return outcomes


def _draw(table: Table) -> Sequence[Drawing]:
    drawings: list[Drawing] = []
    captions = {
        "valley": "A valley that is a million times steeper across than along.",
        "network": "A network that reads digits from inputs of unequal scale.",
    }
    for surface, caption in captions.items():
        figure = go.Figure()
        for look, schedule in enumerate(_SCHEDULES):
            rows = table.where(part="course", surface=surface, schedule=schedule, rate=RATES[-1], seed=0)
            losses = [max(loss, 1e-15) for loss in rows.numbers("loss")]
            curve(figure, rows.numbers("update"), losses, schedule, look)
        finished(figure, f"Adagrad at rate {RATES[-1]:g}: {surface}", "updates", "training loss")
        drawings.append(Drawing(surface, logarithmic(figure, y=True), caption))
    return drawings


BURST_STUDY = Study(
    name="burst",
    title="Adagrad bursts, and what cures it",
    claim="With Adagrad, sigma (the root mean square of all gradients so far) shrinks along a direction "
    "that has become flat, until steps "
    "are suddenly large and the run shoots up the wall. A rate that decays, or first rises and then falls, "
    "cures it.",
    rows=("S18",),
    source="Duchi et al., JMLR 12, 2011, with the mean in the place of the sum",
    experiment="Adagrad, in the form the lecture gives it, runs for 500 updates at three rates with three "
    "schedules: constant, decaying "
    "with the root of time, and warmed up first. It walks along a valley given by a formula, on a linear "
    "classifier of digits and "
    "on a network, both with inputs of unequal scale. A burst is a loss that comes back up to twice the "
    "lowest so far, once "
    "half of the first loss is gone.",
    limits="PyTorch's Adagrad divides by the root of the sum, which is the mean with a rate that decays: it "
    "has the cure built in.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 20},
    run=_run,
    test=_test,
    draw=_draw,
    data="a formula; handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
