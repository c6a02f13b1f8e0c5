"""Quality: at equal epochs small batches get further than large ones."""

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import nn

from unstuck.study.drawing import curve, finished, logarithmic
from unstuck.study.judging import above, factor, mean, outcome
from unstuck.study.learning import learn
from unstuck.study.networks import rectified, signal_convolution
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, Value, grid, number
from unstuck.study.sets import DIGITS, MNIST1D, Data, digits_split, mnist1d, score

EPOCHS = 10
SIZES = (8, 32, 128, 512)
SMALL, LARGE = SIZES[0], SIZES[-1]
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

_TASKS: dict[str, tuple[Callable[[], Data], Callable[[], nn.Module]]] = {
    "digits": (digits_split, lambda: rectified(64, 64, 64, 10)),
    "MNIST-1D": (mnist1d, signal_convolution),
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(task=list(_TASKS), size=SIZES, rate=RATES)


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    load, build = _TASKS[str(settings["task"])]
    data = load()
    torch.manual_seed(seed)  # the same weights to begin with, whatever the size and the rate
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=number(settings, "rate"))
    size = int(number(settings, "size"))
    done = learn(model, optimizer, data.trained, size=size, epochs=EPOCHS, seed=seed, every=EPOCHS)
    held = score(model, data.held)
    return [
        {
            "updates": done.updates,
            "loss": done.last.loss,
            "accuracy": done.last.accuracy,
            "held_loss": held.loss,
            "held_accuracy": held.accuracy,
        }
    ]


def _best_rate(rows: Table) -> Value:
    """Give the rate at which the training loss is lowest in the mean of the seeds; thrown out is no candidate."""
    groups = {rate: some for (rate,), some in rows.groups("rate").items()}
    whole = {rate: some for rate, some in groups.items() if all(row["loss"] is not None for row in some)}
    return min(whole, key=lambda rate: sum(whole[rate].numbers("loss")))


def _pairs(table: Table, column: str, *, tuned: bool) -> list[tuple[float, float]]:
    """Give what the smallest and the largest size come to: at the small one's rate, or each at its best."""
    pairs: list[tuple[float, float]] = []
    for task in _TASKS:
        rows = {size: table.where(task=task, size=size) for size in (SMALL, LARGE)}
        rates = {size: _best_rate(rows[size if tuned else SMALL]) for size in rows}
        small, large = (rows[size].where(rate=rates[size]).numbers(column) for size in (SMALL, LARGE))
        pairs += zip(small, large, strict=True)
    return pairs


def _test(table: Table) -> Sequence[Outcome]:
    outcomes: list[Outcome] = []
    for column, words in (("accuracy", "training"), ("held_accuracy", "validation")):
        lead = mean([100.0 * (small - large) for small, large in _pairs(table, column, tuned=False)])
        tuned = mean([100.0 * (small - large) for small, large in _pairs(table, column, tuned=True)])
        outcomes.append(
            outcome(
                f"at one rate small batches reach a better {words} accuracy",
                above(lead, 0.0),
                f"{words} accuracy in batches of {SMALL} less that in batches of {LARGE}, in points",
                lead,
                0.0,
                f"After {EPOCHS} epochs at the rate that suits batches of {SMALL}, their {words} accuracy "
                f"was {lead.value:.1f} points above that of batches of {LARGE}; with each size at its own "
                f"best rate, {tuned.value:.1f} points.",
            )
        )
    behind = factor([large / small for small, large in _pairs(table, "loss", tuned=True)])
    outcomes.append(
        outcome(
            "it is the optimisation that fails, even with a rate of its own",
            above(behind, 1.0),
            f"training loss in batches of {LARGE} over that in batches of {SMALL}, each at its best rate",
            behind,
            1.0,
            f"With each size at the best of {len(RATES)} rates the training loss of batches of {LARGE} was "
            f"{behind.value:.1f} times that of batches of {SMALL}.",
        )
    )
    return outcomes


def _draw(table: Table) -> Sequence[Drawing]:
    drawings: list[Drawing] = []
    for task in _TASKS:
        figure = go.Figure()
        one = _best_rate(table.where(task=task, size=SMALL))
        for look, (column, words) in enumerate((("accuracy", "training"), ("held_accuracy", "validation"))):
            for tuned in (False, True):
                heights: list[float] = []
                for size in SIZES:
                    rows = table.where(task=task, size=size)
                    found = rows.where(rate=_best_rate(rows) if tuned else one).numbers(column)
                    heights.append(100.0 * sum(found) / len(found))
                name = f"{words}, {'a rate for each size' if tuned else 'one rate'}"
                curve(figure, [float(size) for size in SIZES], heights, name, 2 * look + tuned)
        finished(figure, f"Accuracy after {EPOCHS} epochs, {task}", "examples a batch", "accuracy, %")
        caption = "Means of the seeds. One rate is the best one of the smallest batches."
        drawings.append(Drawing(f"accuracy-{task.lower()}", logarithmic(figure, x=True), caption))
    return drawings


BATCH_QUALITY = Study(
    name="batch-quality",
    title="Batch size and what is reached in so many epochs",
    claim="At equal epochs small batches reach better training and validation accuracy than large ones: with "
    "large batches the optimisation itself fails.",
    rows=("S7", "S9"),
    source="Masters & Luschi, Revisiting small batch training for deep neural networks, "
    "arXiv:1804.07612, 2018",
    experiment=f"Two networks, one that reads digits and one for MNIST-1D, learn for {EPOCHS} epochs by "
    "plain stochastic gradient descent in batches of 8 to 512, drawn anew each epoch, at six rates from "
    "0.003 to 1. The smallest and the largest size are compared at one rate, the best of the smallest, "
    "and each at its own best.",
    limits="Equal epochs are equal passes over the data, not equal time: on parallel hardware a large "
    "batch's epoch is shorter (see `batch-time`), and with more epochs it catches up. Ten epochs are few.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 10},
    run=_run,
    test=_test,
    draw=_draw,
    data=f"{DIGITS}; {MNIST1D}",
)
