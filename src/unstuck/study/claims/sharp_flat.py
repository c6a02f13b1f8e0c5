"""Why noise generalises: small batches end where the loss is flat, large ones where it is sharp."""

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import nn

from unstuck.flatness import sharpness
from unstuck.report.numbers import significant
from unstuck.study.drawing import curve, dots, finished, logarithmic
from unstuck.study.judging import above, factor, mean, outcome
from unstuck.study.landscape import classified
from unstuck.study.learning import learn
from unstuck.study.networks import rectified, signal_convolution
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Sheet, Study, Table, number
from unstuck.study.sets import DIGITS, MNIST1D, Part, digits_split, mnist1d, score
from unstuck.training import Training

SMALL, LARGE = 16, 400  # a tenth of the data, as Keskar et al. have it
RATE, HIGHER, LOWER = 0.1, 0.4, 0.025
TARGET = 0.1  # of the training loss; training ends at the first epoch below it
EPOCHS = 1500
BUDGET = 1000.0  # seconds of which a survey of these networks takes a few: it must not be cut short
SURVEYED, PIECES = 1000, 250  # examples on which sharpness is measured, and in batches of how many
MEASURES = ("lambda_max", "trace", "keskar", "sam", "asam")

_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "wide perceptron": lambda: rectified(40, 100, 100, 10),
    "deep perceptron": lambda: rectified(40, 50, 50, 50, 10),
    "convolution": signal_convolution,
}
# For comparison, and no part of the test: an easier task, on which nothing is to be seen at one rate.
EASY = "perceptron on digits"
_EASY: dict[str, Callable[[], nn.Module]] = {EASY: lambda: rectified(64, 100, 10)}
_WAYS = {
    f"batch {SMALL}, rate {RATE}": (SMALL, RATE),
    f"batch {LARGE}, rate {RATE}": (LARGE, RATE),
    f"batch {SMALL}, rate {LOWER}": (SMALL, LOWER),
    f"batch {LARGE}, rate {HIGHER}": (LARGE, HIGHER),
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return [
        {"network": network, "size": size, "rate": rate}
        for network in (*_NETWORKS, *_EASY)
        for size, rate in _WAYS.values()
    ]


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    network = str(settings["network"])
    data = digits_split() if network == EASY else mnist1d()
    torch.manual_seed(seed)
    model = {**_NETWORKS, **_EASY}[network]()
    optimizer = torch.optim.SGD(model.parameters(), lr=number(settings, "rate"))
    size = int(number(settings, "size"))
    done = learn(
        model,
        optimizer,
        data.trained,
        size=size,
        epochs=EPOCHS,
        seed=seed,
        enough=lambda found: found.loss < TARGET,
    )
    held = score(model, data.held)
    training = Training(
        model, classified, _batches(data.trained.first(SURVEYED)), optimizer, validation=_batches(data.held)
    )
    survey = sharpness(training, budget=BUDGET, seed=seed).survey
    end: Row = {
        "part": "end",
        "reached": done.last.loss < TARGET,
        "epochs": done.epochs,
        "loss": done.last.loss,
        "accuracy": done.last.accuracy,
        "held_accuracy": held.accuracy,
        "gradient": survey.gradient.norm,
        **{measure.name: measure.value.value for measure in survey.measures if measure.name in MEASURES},
    }
    slices: list[Row] = [
        {"part": "slice", "distance": distance, "training": trained, "validation": unseen}
        for profile in survey.profiles
        if profile.name == "top" and seed == 0
        for distance, trained, unseen in zip(
            profile.distances, profile.training, profile.validation, strict=True
        )
    ]
    return [end, *slices]


def _batches(part: Part) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(part.inputs.split(PIECES), part.labels.split(PIECES), strict=True))


def _pairs(
    table: Table, column: str, first: tuple[int, float], second: tuple[int, float]
) -> list[tuple[float, float]]:
    """Pair two ways by network and seed, where both reached the target."""
    ends = table.where(part="end", reached=True)
    found = [
        {(row["network"], row["seed"]): number(row, column) for row in ends.where(size=size, rate=rate)}
        for size, rate in (first, second)
    ]
    return [(found[0][key], found[1][key]) for key in found[0] if key in found[1]]


def _hard(table: Table) -> Table:
    return Table(tuple(row for row in table if row["network"] != EASY))


def _test(table: Table) -> Sequence[Outcome]:
    small, large, mended = (SMALL, RATE), (LARGE, RATE), (LARGE, HIGHER)
    easy = mean(
        [100.0 * (a - b) for a, b in _pairs(table.where(network=EASY), "held_accuracy", small, large)]
    )
    table = _hard(table)
    runs = table.where(part="end")
    late = len(runs) - len(runs.where(reached=True))
    lead = mean([100.0 * (a - b) for a, b in _pairs(table, "held_accuracy", small, large)])
    outcomes = [
        outcome(
            "at equal training loss small batches test better",
            above(lead, 0.0),
            f"test accuracy of batches of {SMALL} less that of {LARGE}, in points",
            lead,
            0.0,
            f"Trained to the same training loss at the same rate, batches of {SMALL} were right on "
            f"{lead.value:.1f} points more of unseen data than batches of {LARGE}; on handwritten digits, "
            f"which are easier, on {easy.value:.1f} ({easy.low:.1f} to {easy.high:.1f}). {late} of "
            f"{len(runs)} runs did not come to that loss and are left out.",
        )
    ]
    for name, words in (("lambda_max", "the largest eigenvalue"), ("keskar", "Keskar's sharpness")):
        more = factor([b / a for a, b in _pairs(table, name, small, large)])
        outcomes.append(
            outcome(
                f"large batches end where it is sharper: {words}",
                above(more, 1.0),
                f"{words} in batches of {LARGE} over that in batches of {SMALL}",
                more,
                1.0,
                f"After batches of {LARGE} {words} was {more.value:.1f} times that after batches of {SMALL}.",
            )
        )
    back = mean([100.0 * (b - a) for a, b in _pairs(table, "held_accuracy", large, mended)])
    flatter = factor([a / b for a, b in _pairs(table, "lambda_max", large, mended)])
    outcomes.append(
        outcome(
            "the rate matters as well: a larger one makes large batches end flatter",
            above(flatter, 1.0),
            f"largest eigenvalue in batches of {LARGE} at rate {RATE} over that at {HIGHER}",
            flatter,
            1.0,
            f"At {HIGHER / RATE:.0f} times the rate batches of {LARGE} ended where the largest eigenvalue is "
            f"{flatter.value:.1f} times smaller, and were right on {back.value:+.1f} points of unseen data.",
        )
    )
    return outcomes


def _draw(table: Table) -> Sequence[Drawing]:
    ends = _hard(table.where(part="end"))
    figure = go.Figure()
    for look, (name, (size, rate)) in enumerate(_WAYS.items()):
        rows = ends.where(size=size, rate=rate)
        heights = [100.0 * value for value in rows.numbers("held_accuracy")]
        dots(figure, rows.numbers("lambda_max"), heights, name, look)
    finished(figure, "Sharpness and test accuracy", "largest eigenvalue of the Hessian", "test accuracy, %")
    drawings = [
        Drawing(
            "sharpness",
            logarithmic(figure, x=True),
            "Each point is a run of one of three networks, all trained to the same training loss. To the "
            "left is flat.",
        ),
    ]
    slices = table.where(part="slice", network=next(iter(_NETWORKS)), rate=RATE, seed=0)
    if len(slices):
        figure = go.Figure()
        for look, size in enumerate((SMALL, LARGE)):
            rows = slices.where(size=size)
            for shift, (column, words) in enumerate((("training", "training"), ("validation", "test"))):
                name = f"batch {size}, {words}"
                curve(figure, rows.numbers("distance"), rows.numbers(column), name, 2 * look + shift)
        finished(figure, "The loss along the steepest direction", "distance in weights", "loss")
        words = (
            "The first network after small and after large batches, moved along the eigenvector of the "
            "largest eigenvalue. Where the valley is narrow, a small shift between training and test "
            "costs much."
        )
        drawings.append(Drawing("slice", figure, words))
    return drawings


def _tabulate(table: Table) -> Sequence[Sheet]:
    """Put accuracies and every sharpness beside each other, small against large."""
    names = {
        "accuracy": "training, %",
        "held_accuracy": "test, %",
        "lambda_max": "λ max",
        "trace": "trace",
        "keskar": "Keskar, %",
        "sam": "SAM",
        "asam": "ASAM",
    }
    rows: list[tuple[str, ...]] = []
    for network in (*_NETWORKS, *_EASY):
        for way, (size, rate) in _WAYS.items():
            some = table.where(part="end", network=network, size=size, rate=rate)
            cells = [_mean(some, column, 100.0 if "accuracy" in column else 1.0) for column in names]
            rows.append((f"{network}, {way}", *cells))
    caption = (
        "Means of the seeds, in the form of Keskar et al.'s tables. Keskar's measure is the largest rise "
        "of the loss within a box of a thousandth of the weights, in percent of one plus the loss."
    )
    return [Sheet("Every measure", ("network", *names.values()), tuple(rows), caption)]


def _mean(rows: Table, column: str, scale: float) -> str:
    values = [number(row, column) for row in rows if row.get(column) is not None]
    return significant(scale * sum(values) / len(values)) if values else "n/a"


SHARP_FLAT = Study(
    name="sharp-flat",
    title="Sharp and flat minima",
    claim="Even at equal training loss small batches test better than large ones: large batches end in "
    "sharp minima, small ones jump out of them into flat ones, where the shift between training and test "
    "loss costs little.",
    rows=("S11",),
    source="Keskar et al., On large-batch training for deep learning, ICLR 2017; on what sharpness "
    "cannot say: Dinh et al., ICML 2017, and Andriushchenko et al., ICML 2023",
    experiment=f"Three networks learn MNIST-1D in batches of {SMALL} and of {LARGE}, a tenth of the data, "
    f"until the training loss is below {TARGET}: at one rate, {RATE}, and each at another. Then sharpness "
    "is measured in five ways and accuracy on unseen data is compared, network by network and seed by "
    "seed.",
    limits="Small networks, and one data set that tells them apart. "
    "Largest eigenvalue, trace and Keskar's measure change when weights are rescaled though "
    "the network computes the same; ASAM does not. That flat goes with better does not say that it is "
    "why.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 10},
    run=_run,
    test=_test,
    draw=_draw,
    data=f"{MNIST1D}; {DIGITS}",
    tabulate=_tabulate,
)
