"""Having both: large batches that keep the quality of small ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from unstuck import optim
from unstuck.optim import Optimizer, Rule, Schedule, Stage, Swap
from unstuck.study.drawing import dots, finished, level, logarithmic
from unstuck.study.judging import Found, above, factor, mean, outcome
from unstuck.study.landscape import classified
from unstuck.study.learning import batches, learn
from unstuck.study.networks import signal_convolution
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, number
from unstuck.study.sets import MNIST1D, Data, mnist1d, score

EPOCHS, WARM = 40, 5
SMALL, LARGE = 16, 256
RATE, MOMENTUM = 0.03, 0.9  # of 0.003, 0.01 and 0.03 the one that suits small batches best
COPIES, SHORT = 4, 10  # of SWAP, and for how many of the epochs
KEPT = 2.0  # points of accuracy that may be lost and quality is still called kept

_LINEAR = optim.scaled(RATE, batch=LARGE, reference=SMALL)
_ROOT = optim.scaled_by_root(RATE, batch=LARGE, reference=SMALL)


@dataclass(frozen=True)
class _Way:
    """How it is trained, and at which rates that is tried."""

    rule: Callable[[], Rule]
    rates: tuple[float, ...]
    size: int = LARGE
    warm: int = 0


def _rolling() -> Rule:
    return optim.momentum(MOMENTUM)


FEW, PLAIN, SWAPPED = "small batches", "plain", "SWAP"
WARMED, ROOTED = "linear scaling, warm-up", "square-root scaling, warm-up"
_WAYS: dict[str, _Way] = {
    FEW: _Way(_rolling, (RATE,), size=SMALL),
    PLAIN: _Way(_rolling, (RATE,)),
    "linear scaling": _Way(_rolling, (_LINEAR,)),
    WARMED: _Way(_rolling, (_LINEAR,), warm=WARM),
    ROOTED: _Way(_rolling, (_ROOT,), warm=WARM),
    "LARS": _Way(optim.lars, (10.0, 30.0, 100.0), warm=WARM),
    "LAMB": _Way(optim.lamb, (0.003, 0.01, 0.03), warm=WARM),
    SWAPPED: _Way(_rolling, (_ROOT, _LINEAR), warm=WARM),
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return [{"way": name, "rate": rate} for name, way in _WAYS.items() for rate in way.rates]


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    name, rate, data = str(settings["way"]), number(settings, "rate"), mnist1d()
    torch.manual_seed(seed)
    model, way = signal_convolution(), _WAYS[name]
    if name == SWAPPED:
        _swap(data, rate, seed).train(model)
    else:
        learn(
            model,
            Optimizer(model.parameters(), way.rule(), lr=rate),
            data.trained,
            size=way.size,
            epochs=EPOCHS,
            seed=seed,
            schedule=_schedule(data, way, EPOCHS),
            every=EPOCHS,
        )
    found, held = score(model, data.trained), score(model, data.held)
    return [
        {
            "loss": found.loss,
            "accuracy": found.accuracy,
            "held_loss": held.loss,
            "held_accuracy": held.accuracy,
        }
    ]


def _schedule(data: Data, way: _Way, epochs: int) -> Schedule:
    """Warm up, and fall by half a cosine to nothing."""
    each = len(data.trained) // way.size
    falling = optim.cosine((epochs - way.warm) * each)
    return optim.warmup(way.warm * each).then(falling) if way.warm else falling


def _swap(data: Data, rate: float, seed: int) -> Swap:
    """Large batches first; then copies in small ones, which could be trained beside each other; and their mean."""

    def stage(way: _Way, rate: float, epochs: int, schedule: Schedule) -> Stage:
        def made(model: nn.Module) -> torch.optim.Optimizer:
            return Optimizer(model.parameters(), way.rule(), lr=rate)

        def drawn(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
            for rows in batches(len(data.trained), way.size, generator):
                yield data.trained.inputs[rows], data.trained.labels[rows]

        return Stage(drawn, made, epochs * (len(data.trained) // way.size), schedule)

    first, after = _WAYS[SWAPPED], _WAYS[FEW]
    return Swap(
        classified,
        large=stage(first, rate, EPOCHS - SHORT, _schedule(data, first, EPOCHS)),
        small=stage(after, RATE, SHORT, _schedule(data, after, SHORT)),
        copies=COPIES,
        seed=seed,
    )


def _ends(table: Table, way: str, column: str) -> list[float]:
    """Give seed by seed what came out, at the rate of the lowest training loss in the mean of the seeds."""
    groups = table.where(way=way).groups("rate").values()
    whole = [rows for rows in groups if all(row["loss"] is not None for row in rows)]
    return min(whole, key=lambda rows: sum(rows.numbers("loss"))).numbers(column)


def _lead(table: Table, way: str, over: str) -> Found:
    pairs = zip(_ends(table, way, "held_accuracy"), _ends(table, over, "held_accuracy"), strict=True)
    return mean([100.0 * (first - second) for first, second in pairs])


def _test(table: Table) -> Sequence[Outcome]:
    outcomes: list[Outcome] = []
    for way in (WARMED, ROOTED, "LARS", "LAMB", SWAPPED):
        pairs = zip(_ends(table, PLAIN, "loss"), _ends(table, way, "loss"), strict=True)
        gain, lead = factor([plain / other for plain, other in pairs]), _lead(table, way, PLAIN)
        outcomes.append(
            outcome(
                f"{way} gets large batches lower",
                above(gain, 1.0),
                "training loss of plain large batches over its own",
                gain,
                1.0,
                f"After {EPOCHS} epochs plain batches of {LARGE}, at the rate that suits batches of "
                f"{SMALL}, had {gain.value:.1f} times the training loss of {way}, which was right on "
                f"{lead.value:+.1f} points of unseen data.",
            )
        )
    kept = _lead(table, SWAPPED, FEW)
    outcomes.append(
        outcome(
            "quality is kept",
            above(kept, -KEPT),
            "test accuracy of SWAP less that of small batches, in points",
            kept,
            -KEPT,
            f"On unseen data SWAP was right on {kept.value:+.1f} points, compared with batches of {SMALL} "
            "all the way.",
        )
    )
    return outcomes


def _draw(table: Table) -> Sequence[Drawing]:
    drawings: list[Drawing] = []
    for column, title, unit in (
        ("held_accuracy", f"Accuracy on unseen data after {EPOCHS} epochs", "accuracy, %"),
        ("loss", f"Training loss after {EPOCHS} epochs", "training loss"),
    ):
        scale, figure = (100.0 if column == "held_accuracy" else 1.0), go.Figure()
        for look, way in enumerate(_WAYS):
            values = [scale * value for value in _ends(table, way, column)]
            dots(figure, [way] * len(values), values, way, look)
        few = [scale * value for value in _ends(table, FEW, column)]
        level(figure, sum(few) / len(few), "small batches", log=column == "loss")
        finished(figure, title, "", unit, height=440)
        logarithmic(figure.update_layout(showlegend=False), y=column == "loss")
        drawings.append(
            Drawing(
                column.replace("_", "-"),
                figure,
                f"Each point is a seed. All but the first are in batches of {LARGE}; LARS, LAMB "
                "and SWAP at the best of their rates.",
            )
        )
    return drawings


LARGE_BATCH = Study(
    name="large-batch",
    title="Large batches that keep quality",
    claim="Large-batch training can keep the quality of small batches: by linear scaling of the rate "
    "with warm-up, by rates layer by layer (LARS, LAMB), by averaging copies that go on in small batches "
    "(SWAP).",
    rows=("S13",),
    source="Goyal et al., arXiv:1706.02677, 2017; You et al., arXiv:1708.03888, 2017 (LARS), and ICLR "
    "2020 (LAMB); Gupta et al., ICLR 2020 (SWAP)",
    experiment=f"A convolutional network learns MNIST-1D for {EPOCHS} epochs by momentum, in batches of "
    f"{SMALL}, or of {LARGE}: at the same rate (plain); at {LARGE // SMALL} times the rate (linear "
    f"scaling), with and without a warm-up of {WARM} epochs, or four times (square root); by LARS and by "
    f"LAMB at three rates each; and by SWAP at both scaled rates, whose last {SHORT} epochs are those of "
    f"{COPIES} copies in small batches, which are then averaged. The rate falls by half a cosine. Where "
    "there are several rates, that of the lowest training loss counts.",
    limits="A small network, without normalisation; the published successes are with batches of "
    "thousands on ImageNet and BERT. SWAP's copies cost as much as they are many, unless they are "
    "trained beside each other.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 10},
    run=_run,
    test=_test,
    draw=_draw,
    data=MNIST1D,
)
