"""A saddle is left along an eigenvector of negative curvature; by its gradient alone, it is not."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import nn

from unstuck import optim
from unstuck.curvature.records import Curvature, Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.demos.critical import Product
from unstuck.demos.digits import CLASSES, PIXELS, digits, projections
from unstuck.demos.networks import blank_linear, initialised, perceptron
from unstuck.objective import Objective
from unstuck.remedies.escape import escape
from unstuck.report.numbers import significant
from unstuck.study.drawing import curve, dots, finished, level, logarithmic
from unstuck.study.judging import above, below, mean, outcome, share
from unstuck.study.landscape import minimised, squares, whole
from unstuck.study.padding import padded, split
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk
from unstuck.training import supervised

STEPS = 200  # updates of an optimizer that is to leave by itself
GAINED = 0.01  # of the loss: less than that, nothing has been left
TARGET = 0.05  # of the loss: so much an escape has to gain
SHORT = (
    0.03  # steps along the eigenvector, as shares of the one at which the model would lose all of the loss
)
ROUNDING = 1e-6  # of the largest eigenvalue: one that is less negative is zero, and this no saddle
SIDES = 0.9
EXACT = 0.1  # of the predicted change, on average: third-order terms at such steps
STAYS = 0.1
EXAMPLES = 600
RATES = (0.1, 1.0)  # Adam's; of the others over lambda_max: from twice that on any critical point repels
NARROW, WIDE, DECAY = 3, 8, 1e-3
# The parts' weights out, as shares of the unit's: 1.6 and -0.6. With both between 0 and 1 a split of a minimum may be
# a minimum again (Fukumizu & Amari, theorem 3).
SPLIT = 1.6
BESIDE = 1e-4  # how far from the saddle: so many times a standard normal number on each parameter

_RULES: dict[str, Callable[[], optim.Rule]] = {
    "gradient descent": optim.gradient_descent,
    "momentum": optim.momentum,
    "Adam": optim.adam,
}


def product(seed: int) -> Objective:
    """Give the worked example at (0, 0)."""
    del seed
    one = torch.ones(1)
    return whole(Product(), one, one, loss=supervised(nn.functional.mse_loss))


def zero_units(seed: int) -> Objective:
    """Give a trained network that was widened with units of zero weights."""
    features, labels = projections()
    shape = (features.shape[1], NARROW, CLASSES)
    narrow = whole(initialised(perceptron(*shape), seed=seed), features, labels, decay=DECAY)
    objective = whole(perceptron(shape[0], WIDE, CLASSES), features, labels, decay=DECAY)
    objective.theta = padded(minimised(narrow), shape, (shape[0], WIDE, CLASSES))
    return objective


def zero_linear(seed: int) -> Objective:
    """Give a linear network of two layers whose weights are all zero, before some of the digits."""
    images, labels = digits()
    some = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:EXAMPLES]
    targets = nn.functional.one_hot(labels[some], CLASSES).double()
    model = nn.Sequential(blank_linear(PIXELS, NARROW), blank_linear(NARROW, CLASSES))
    objective = whole(model, images[some], targets, loss=squares)
    objective.theta[-CLASSES:] = targets.mean(dim=0)  # so that the bias has nothing to gain either
    return objective


def split_unit(seed: int) -> Objective:
    """Give a network that was trained to do as a wider one does, and of which one unit was split in two.

    Before the digits' classes such a network has its minimum at infinity, more often than not, where no gradient is
    zero. Ink in the columns and in the rows adds up to the same, so one of these features says nothing new.
    """
    features = projections()[0][:, :-1]
    teacher = initialised(perceptron(features.shape[1], WIDE, CLASSES), seed=seed + 1).double()
    with torch.no_grad():
        targets = teacher(features.double())
    shape = (features.shape[1], NARROW, CLASSES)
    narrow = whole(initialised(perceptron(*shape), seed=seed), features, targets, loss=squares)
    objective = whole(perceptron(shape[0], NARROW + 1, CLASSES), features, targets, loss=squares)
    objective.theta = split(minimised(narrow), shape, SPLIT)
    return objective


SADDLES: dict[str, Callable[[int], Objective]] = {
    "w1 w2": product,
    "zero units": zero_units,
    "zero linear": zero_linear,
    "split unit": split_unit,
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(saddle=list(SADDLES), way=["curvature", "optimizers"])


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    objective = SADDLES[str(settings["saddle"])](seed)
    if settings["way"] == "curvature":
        along = _along(objective, seed)
        return [*along, {**_escaped(objective, seed), "saddle_point": len(along) > 1}]
    steepest = _curvature(objective, Question(tolerance=math.inf), seed).spectrum.lambda_max
    return [
        {"optimizer": name, **_walked(objective, rule(), rate, beside, seed)}
        for name, rule in _RULES.items()
        for rate in (RATES if name == "Adam" else [share / steepest for share in RATES])
        for beside in (0.0, BESIDE)
    ]


def _walked(objective: Objective, rule: optim.Rule, rate: float, beside: float, seed: int) -> Row:
    """Let an optimizer begin at the saddle or beside it, and count its gradients until it gained enough."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(objective.size, generator=generator, dtype=objective.theta.dtype)
    before = objective.value(objective.theta)
    enough = (1.0 - TARGET) * before
    done = walk(objective, rule, rate, STEPS, start=objective.theta + beside * noise, enough=enough)
    arrived = len(done.losses) - 1 if done.losses[-1] < enough else None
    gained = (before - min(done.losses)) / before
    return {"part": "left", "rate": rate, "beside": beside, "gained": gained, "gradients": arrived}


def _along(objective: Objective, seed: int) -> Sequence[Row]:
    """Step along the eigenvector of the lowest eigenvalue, both ways."""
    theta, base = objective.theta, objective.value(objective.theta)
    found = _curvature(objective, Question(negative_to=1e-3), seed)
    lowest, unit = found.spectrum.lambda_min, found.lowest
    if not lowest < -ROUNDING * found.spectrum.lambda_max:
        return [{"part": "along", "eigenvalue": lowest, "predicted": None, "measured": None}]
    step = SHORT * (2.0 * base / -lowest) ** 0.5
    return [
        {
            "part": "along",
            "eigenvalue": lowest,
            "sign": sign,
            "predicted": -0.5 * lowest * step**2,
            "measured": base - objective.value(theta + sign * step * unit),
        }
        for sign in (1.0, -1.0)
    ]


def _curvature(objective: Objective, question: Question, seed: int) -> Curvature:
    with objective.products(objective.theta) as products:
        operator = Operator(products, objective.size, objective.theta, noise=products.noise)
        return spectrum(operator, question, torch.Generator().manual_seed(seed))


def _escaped(objective: Objective, seed: int) -> Row:
    """Leave it by unstuck's own way, and find the fewest gradients that gain enough.

    With the same seed a larger budget walks the same way further, so that the budget can be halved.
    """
    before = objective.value(objective.theta)

    def gained(budget: int) -> float:
        return (before - escape(objective, seed=seed, gradients=float(budget)).after) / before

    low, high, most = 0, STEPS, gained(STEPS)
    while high - low > 1 and most > TARGET:
        middle = (low + high) // 2
        low, high = (low, middle) if gained(middle) > TARGET else (middle, high)
    return {"part": "left", "gained": most, "gradients": high if most > TARGET else None}


def _test(table: Table) -> Sequence[Outcome]:
    along = [row for row in table.where(part="along") if row.get("predicted") is not None]
    left = table.where(part="left")
    lower = share(sum(number(row, "measured") > 0.0 for row in along), len(along))
    errors = mean([abs(number(row, "measured") / number(row, "predicted") - 1.0) for row in along])
    plain = left.where(beside=0.0)
    gone = sum(number(row, "gained") > GAINED for row in plain)
    out = share(gone, len(plain))
    return [
        outcome(
            "along both signs of u the loss falls",
            above(lower, SIDES),
            "share of steps along u after which the loss is lower",
            lower,
            SIDES,
            f"At {len(SADDLES)} saddles the loss fell in "
            f"{sum(number(row, 'measured') > 0.0 for row in along)} of "
            f"{len(along)} short steps along the eigenvector of the most negative curvature.",
        ),
        outcome(
            "by half the eigenvalue times the step squared",
            below(errors, EXACT),
            "mean |real / predicted - 1|",
            errors,
            EXACT,
            f"It fell by what the formula says, to {significant(100.0 * errors.value, 2)} % on average.",
        ),
        outcome(
            "at the saddle itself, following the gradient leads nowhere",
            below(out, STAYS),
            f"share of runs that gain {GAINED:.0%} in {STEPS} updates",
            out,
            STAYS,
            f"From exactly there, {gone} of {len(plain)} runs of gradient descent and momentum, at rates of "
            f"{RATES[0]:g} and {RATES[-1]:g} / lambda_max, and of Adam, at {RATES[0]:g} and {RATES[-1]:g}, got away "
            f"in {STEPS} updates. Adam can: divided by its own size, what rounding leaves of a gradient is a step.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    return [
        Drawing(
            "gradients",
            _gradients(table.where(part="left")),
            f"Gradient evaluations until a twentieth of the loss was gained; on the line at the top: not in "
            f"{STEPS}. Exactly at the saddle the gradient says nothing, and hardly an optimizer leaves. A hair "
            "beside it, an optimizer with a rate that suits may; which rate that is differs from saddle to saddle.",
        ),
        Drawing(
            "along",
            _lengths(table.where(part="along")),
            "How far the loss fell on a short step along the eigenvector, against what half the eigenvalue "
            "times "
            "the step squared says. On the line they are equal.",
        ),
    ]


def _gradients(left: Table) -> go.Figure:
    figure = go.Figure()
    groups = [("unstuck escape", left.where(way="curvature", saddle_point=True))]
    for way in _RULES:
        for beside, where in ((0.0, "exactly at it"), (BESIDE, "beside it")):
            groups.append((f"{way}, {where}", left.where(optimizer=way, beside=beside)))
    for look, (name, rows) in enumerate(groups):
        best: dict[str, float] = {}
        for row in rows:
            spent = float(STEPS) if row.get("gradients") is None else number(row, "gradients")
            saddle = str(row["saddle"])
            best[saddle] = min(best.get(saddle, float(STEPS)), spent)
        dots(figure, list(best), list(best.values()), name, look)
    level(figure, float(STEPS), f"not in {STEPS}", log=True)
    finished(
        figure,
        "Gradients until a twentieth of the loss is gained, at the best of the rates",
        "",
        "gradients",
        height=460,
    )
    figure.update_layout(scattermode="group", scattergap=0.4, legend={"y": -0.12, "yanchor": "top"})
    return logarithmic(figure, y=True)


def _lengths(along: Table) -> go.Figure:
    figure = go.Figure()
    rows = [row for row in along if row.get("predicted") is not None]
    for look, saddle in enumerate(SADDLES):
        here = [row for row in rows if row["saddle"] == saddle]
        dots(
            figure,
            [number(row, "predicted") for row in here],
            [number(row, "measured") for row in here],
            saddle,
            look,
        )
    ends = [min(number(row, "predicted") for row in rows), max(number(row, "predicted") for row in rows)]
    curve(figure, ends, ends, "as predicted", 4)
    return finished(figure, "Predicted and measured fall of the loss", "predicted", "measured")


ESCAPE = Study(
    name="escape",
    title="Leaving a saddle point along negative curvature",
    claim="If u is an eigenvector of the Hessian with a negative eigenvalue, a step along u or against it "
    "lowers the loss, "
    "by half the eigenvalue times the step squared; the gradient there is zero and says nothing.",
    rows=("S4",),
    source="textbook; rivals and budget as in this project's benchmarks/escape",
    experiment="Four saddles, each exact: the worked example at (0, 0); a trained network that reads "
    "digits, widened with "
    "units of zero weights; a linear network of two layers whose weights are all zero; a network that was trained "
    "to do on the digits what a wider random one does, with a unit split in two. At each, the "
    "eigenvector of the lowest eigenvalue is found by Lanczos (the Hessian is never formed), and a short "
    "step is made along it, "
    "both ways. Then gradient descent, momentum and Adam begin at the very saddle, or a hair beside it, at "
    "two "
    "rates; and `unstuck escape` at the saddle.",
    limits="In training a run comes near a saddle but never lies exactly on it, and noise of batches pushes "
    "it off; how long it "
    "stays depends on the rate, as the runs beside the saddle show. Where the Hessian itself vanishes, as "
    "in deep linear networks "
    "at zero, there is no such eigenvector.",
    settings=_settings,
    seeds={Scale.SMALL: 6, Scale.FULL: 40},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
