"""Time: of one update it hardly depends on the batch until the hardware is full, of one epoch it falls."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import nn

from unstuck.batch.clock import Patience, measure_time
from unstuck.batch.pool import of
from unstuck.objective import Objective, draw
from unstuck.study.drawing import curve, finished, logarithmic
from unstuck.study.judging import above, below, factor, outcome
from unstuck.study.landscape import classified
from unstuck.study.networks import image_convolution, rectified
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.sets import DIGITS, digits_split
from unstuck.training import Training

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FEW, SOME = 16, 64
SECONDS = 4.0
RATE = 0.1  # of updates that are timed, and not kept
HARDLY = 2.0  # sixteen times the examples in less than twice the time
GROWS = 2.0

_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: rectified(64, 256, 256, 10),
    "convolution": image_convolution,
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(network=list(_NETWORKS))


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    part = digits_split().trained
    model = _NETWORKS[str(settings["network"])]()
    data = list(zip(part.inputs.split(FEW), part.labels.split(FEW), strict=True))
    drawn = draw(data, seed=seed, enough=lambda _batches, _examples: False)
    training = Training(model, classified, data, torch.optim.SGD(model.parameters(), lr=RATE))
    objective = Objective(training, list(drawn.batches))
    patience = Patience(SECONDS, math.inf, lambda _: None)
    clock = measure_time(training, objective, of(training, drawn), SIZES, patience)
    return [
        {
            "size": timing.size,
            "update_seconds": timing.seconds,
            "low_seconds": timing.low,
            "high_seconds": timing.high,
            "epoch_seconds": timing.seconds * len(part) / timing.size,
        }
        for timing in clock.timings
    ]


def _ratios(table: Table, column: str, over: int, under: int) -> list[float]:
    pairs = zip(table.where(size=over).numbers(column), table.where(size=under).numbers(column), strict=True)
    return [first / second for first, second in pairs]


def _most(table: Table) -> int:
    """Give the largest size that was timed everywhere: a slow machine is not waited for."""
    return min(int(max(rows.numbers("size"))) for rows in table.groups("network", "seed").values())


def _test(table: Table) -> Sequence[Outcome]:
    most = _most(table)
    first = factor(_ratios(table, "update_seconds", FEW, 1))
    later = factor(_ratios(table, "update_seconds", most, FEW))
    epoch = factor(_ratios(table, "epoch_seconds", 1, SOME))
    return [
        outcome(
            "at first the time of an update hardly depends on the batch",
            below(first, HARDLY),
            f"time of an update of {FEW} examples over that of one",
            first,
            HARDLY,
            f"An update of {FEW} examples took {first.value:.2f} times as long as one of a single example.",
        ),
        outcome(
            "once the hardware is full it grows",
            above(later, GROWS),
            f"time of an update of {most} examples over that of {FEW}",
            later,
            GROWS,
            f"An update of {most} examples took {later.value:.1f} times as long as one of {FEW}.",
        ),
        outcome(
            "the time of an epoch falls as the batch grows",
            above(epoch, 1.0),
            f"time of an epoch in single examples over that in batches of {SOME}",
            epoch,
            1.0,
            f"An epoch in single examples took {epoch.value:.1f} times as long as one in batches of {SOME}.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    drawings: list[Drawing] = []
    words = {"update": "One update", "epoch": "One epoch of 1437 examples"}
    for name, title in words.items():
        figure = go.Figure()
        for look, network in enumerate(_NETWORKS):
            rows = table.where(network=network)
            sizes = [size for (size,) in rows.groups("size")]
            times = [min(some.numbers(f"{name}_seconds")) for some in rows.groups("size").values()]
            curve(figure, [number({"size": size}, "size") for size in sizes], times, network, look)
        finished(figure, title, "examples a batch", "seconds")
        logarithmic(figure, x=True, y=True)
        drawings.append(
            Drawing(
                name, figure, "Medians of many updates, sizes timed in turn; the fastest of the repetitions."
            )
        )
    return drawings


BATCH_TIME = Study(
    name="batch-time",
    title="Batch size and time",
    claim="On parallel hardware the time of one update hardly depends on the batch size until the "
    "hardware is full, and then grows; so the time of one epoch falls as the batch grows.",
    rows=("S7", "S8"),
    source="textbook; measured as `unstuck batch` measures it (this project's decision record 12)",
    experiment="Two networks that read digits, one with two hidden layers of 256 units and one of "
    "convolutions, make updates in batches of 1 to 1024 examples. The sizes are timed in turn, after an "
    "update of each that does not count, so that a machine that slows down slows all of them.",
    limits="One core of the machine on which it was run: what is parallel there are its vector units and "
    "what an update costs beside arithmetic. A GPU is full later, and the flat part is longer.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 10},
    run=_run,
    test=_test,
    draw=_draw,
    data=DIGITS,
)
