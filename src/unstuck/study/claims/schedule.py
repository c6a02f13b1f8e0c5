"""Schedules: warm-up lets a run begin at a rate that it could not begin with, decay lets it end lower."""

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from unstuck import optim
from unstuck.study.drawing import curve, dots, finished, logarithmic
from unstuck.study.judging import above, factor, outcome
from unstuck.study.problems import batched, shuffled
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk

UPDATES, WARM, BATCH = 600, 60, 32
LAYERS = (16, 16, 16)
RATES = (0.003, 0.01, 0.03, 0.1)
LARGE = RATES[-1]
LOOK = 20

_SCHEDULES: dict[str, Callable[[], optim.Schedule]] = {
    "constant": optim.constant,
    "warm-up": lambda: optim.warmup(WARM),
    "decay": lambda: optim.cosine(UPDATES),
    "warm-up, then decay": lambda: optim.warmup(WARM).then(optim.cosine(UPDATES - WARM)),
}
_RECTIFIED = "rectified"


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(schedule=[*_SCHEDULES, _RECTIFIED], rate=RATES)


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    objective = batched(seed, BATCH, *LAYERS)
    name, rate = str(settings["schedule"]), number(settings, "rate")
    rule = optim.radam() if name == _RECTIFIED else optim.adam()
    schedule = optim.constant() if name == _RECTIFIED else _SCHEDULES[name]()
    done = walk(objective, rule, rate, UPDATES, schedule=schedule, only=shuffled(objective, seed))
    means = [sum(done.losses[step : step + LOOK]) / LOOK for step in range(0, UPDATES, LOOK)]
    course = [{"part": "course", "update": LOOK * index, "loss": loss} for index, loss in enumerate(means)]
    return [{"part": "end", "loss": objective.value(done.theta)}, *course]


def _losses(table: Table, schedule: str, rate: float | None = None) -> list[float]:
    """Give the last losses seed by seed: at one rate, or at the best."""
    rows = table.where(part="end", schedule=schedule)
    rows = rows if rate is None else rows.where(rate=rate)
    return [min(some.numbers("loss")) for some in rows.groups("seed").values()]


def _gain(table: Table, before: str, after: str, rate: float | None = None) -> list[float]:
    pairs = zip(_losses(table, before, rate), _losses(table, after, rate), strict=True)
    return [first / second for first, second in pairs]


def _test(table: Table) -> Sequence[Outcome]:
    outcomes: list[Outcome] = []
    for name, words in (("warm-up", "warm-up"), (_RECTIFIED, "RAdam's rectification")):
        gain = factor(_gain(table, "constant", name, LARGE))
        outcomes.append(
            outcome(
                f"{words} helps where the rate is large",
                above(gain, 1.0),
                f"loss without over loss with it, at rate {LARGE:g}",
                gain,
                1.0,
                f"At rate {LARGE:g} Adam without {words} ended at {gain.value:.2f} times the loss.",
            )
        )
    gain = factor(_gain(table, "constant", "decay"))
    outcomes.append(
        outcome(
            "a rate that decays ends lower",
            above(gain, 1.0),
            "loss at a constant rate over loss with decay, each at its best rate",
            gain,
            1.0,
            f"With the best constant rate the loss ended at {gain.value:.2f} times that with the best rate "
            f"that decays.",
        )
    )
    return outcomes


def _draw(table: Table) -> Sequence[Drawing]:
    ends, course = go.Figure(), go.Figure()
    for look, name in enumerate([*_SCHEDULES, _RECTIFIED]):
        rows = table.where(part="end", schedule=name)
        dots(ends, rows.numbers("rate"), rows.numbers("loss"), name, look)
        rows = table.where(part="course", schedule=name, rate=LARGE, seed=0)
        curve(course, rows.numbers("update"), rows.numbers("loss"), name, look)
    finished(ends, "Loss at the end, at every rate", "learning rate of Adam", "training loss")
    finished(course, f"One network at rate {LARGE:g}", "updates", "training loss of the batches")
    logarithmic(ends, x=True, y=True)
    logarithmic(course, y=True)
    return [
        Drawing(
            "ends",
            ends,
            "Each point is a run. Rectified: RAdam, which warms up by itself for as long as sigma is "
            "unreliable.",
        ),
        Drawing("course", course, f"Means of {LOOK} batches."),
    ]


SCHEDULE = Study(
    name="schedule",
    title="Warm-up and decay",
    claim="The rate should fall with time, or first rise and then fall: in the first steps sigma is a "
    "statistic of few gradients and "
    "unreliable, which warm-up gets over and RAdam makes exact.",
    rows=("S18",),
    source="Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020",
    experiment="Networks of three hidden layers learn to read digits by Adam in batches of 32, for 600 "
    "updates at four rates, with five "
    "schedules: constant, warmed up over 60 updates, decaying by a half cosine, both, and constant with "
    "RAdam's rectification. Losses "
    "over all the data at the end are compared, network by network.",
    limits="Small networks, without normalisation or residual connections, for which the lecture's examples "
    "(ResNet, Transformer) use "
    "warm-up; the effect there is larger.",
    settings=_settings,
    seeds={Scale.SMALL: 4, Scale.FULL: 20},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
