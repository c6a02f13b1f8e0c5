"""What a verdict on curvature costs: as much as some dozens of gradients, however large the network."""

import time
from collections.abc import Sequence
from math import log10, sqrt

import plotly.graph_objects as go
import torch

from unstuck import optim
from unstuck.curvature.dense import dense_spectrum
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.demos.digits import CLASSES, PIXELS, digits
from unstuck.demos.networks import initialised, perceptron
from unstuck.objective import Objective
from unstuck.report.numbers import significant
from unstuck.study.drawing import curve, dots, finished, logarithmic
from unstuck.study.judging import above, below, factor, mean, outcome, share
from unstuck.study.landscape import whole
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk

FEW = 100.0  # gradients: "a few dozens"
MOST = 0.75
FLAT = 0.25  # of the exponent of growth; the dense Hessian's is 1 in gradients
EXAMPLES = 256
DENSE = 2_000  # parameters up to which the Hessian is formed to compare with
SIZES = {Scale.SMALL: (1e3, 1e4, 1e5, 1e6), Scale.FULL: (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)}
UPDATES, RATE = 50, 1e-3
PRODUCT = 2.0  # gradients: of the dense Hessian's columns, one after the other

# The sign of the lowest eigenvalue, down to a hundredth of the largest, with 99 %.
QUESTION = Question(tolerance=1e-2, probability=0.99, negative_to=None, top=0)


def _settings(scale: Scale) -> Sequence[Settings]:
    return grid(size=SIZES[scale], updates=[0, UPDATES])


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    objective = _network(number(settings, "size"), seed)
    theta = walk(objective, optim.adam(), RATE, int(number(settings, "updates"))).theta
    begun, spent = time.process_time(), objective.ledger.gradients(EXAMPLES)
    with objective.products(theta) as products:
        operator = Operator(products, objective.size, theta, noise=products.noise)
        found = spectrum(operator, QUESTION, torch.Generator().manual_seed(seed))
    seconds, gradients = time.process_time() - begun, objective.ledger.gradients(EXAMPLES) - spent
    row: dict[str, float | int | bool | None] = {
        "parameters": objective.size,
        "gradients": gradients,
        "products": found.spectrum.products,
        "settled": found.settled,
        "lambda_min": found.spectrum.lambda_min,
        "seconds": seconds,
        "gradient_seconds": _gradient_seconds(objective),
        "dense_seconds": None,
    }
    if objective.size <= DENSE:
        begun = time.process_time()
        with objective.products(theta) as products:
            dense_spectrum(Operator(products, objective.size, theta, noise=products.noise), products.block)
        row["dense_seconds"] = time.process_time() - begun
    return [row]


def _network(size: float, seed: int) -> Objective:
    """Build a network of two hidden layers of so many weights, roughly."""
    width = max(round(0.5 * (sqrt((PIXELS + CLASSES + 2) ** 2 + 4.0 * size) - PIXELS - CLASSES - 2)), 2)
    images, labels = digits()
    model = initialised(perceptron(PIXELS, width, width, CLASSES), seed=seed)
    return whole(model, images[:EXAMPLES], labels[:EXAMPLES], dtype=None)


def _gradient_seconds(objective: Objective) -> float:
    begun = time.process_time()
    for _ in range(3):
        objective.gradient(objective.theta)
    return (time.process_time() - begun) / 3


def _test(table: Table) -> Sequence[Outcome]:
    cheap = sum(number(row, "gradients") <= FEW and bool(row["settled"]) for row in table)
    often = share(cheap, len(table))
    growth = mean([_exponent(rows) for rows in table.groups("seed", "updates").values()])
    dense = [row for row in table if row["dense_seconds"] is not None]
    faster = factor([number(row, "dense_seconds") / number(row, "seconds") for row in dense])
    spent = sorted(table.numbers("gradients"))
    return [
        outcome(
            "a verdict costs a few dozen gradients",
            above(often, MOST),
            f"share of verdicts settled within {FEW:.0f} gradients",
            often,
            MOST,
            f"{cheap} of {len(table)} verdicts, for networks of {min(table.numbers('parameters')):,.0f} to "
            f"{max(table.numbers('parameters')):,.0f} weights, were settled within {FEW:.0f} gradients; the "
            f"median took "
            f"{spent[len(spent) // 2]:.0f}.",
        ),
        outcome(
            "however large the network",
            below(growth, FLAT),
            "exponent of the cost in gradients against the number of weights",
            growth,
            FLAT,
            f"With ten times the weights a verdict costs {10**growth.value:.2f} times the gradients; "
            f"the full Hessian costs ten times as many.",
        ),
        outcome(
            "forming the Hessian costs more",
            above(faster, 1.0),
            "time of the dense Hessian over that of the verdict, smallest network",
            faster,
            1.0,
            f"Even at {min(table.numbers('parameters')):,.0f} weights all eigenvalues of the dense Hessian "
            f"took "
            f"{significant(faster.value, 2)} times as long.",
        ),
    ]


def _exponent(rows: Table) -> float:
    x = [log10(value) for value in rows.numbers("parameters")]
    y = [log10(value) for value in rows.numbers("gradients")]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True))
    return across / sum((a - middle) ** 2 for a in x)


def _draw(table: Table) -> Sequence[Drawing]:
    figure = go.Figure()
    for look, (updates, name) in enumerate(
        ((0, "verdict, untrained"), (UPDATES, "verdict, trained a little"))
    ):
        rows = table.where(updates=updates)
        dots(figure, rows.numbers("parameters"), rows.numbers("gradients"), name, look)
    sizes = sorted(set(table.numbers("parameters")))
    curve(figure, sizes, [PRODUCT * size for size in sizes], "the dense Hessian, column by column", 4)
    finished(figure, "Cost of a verdict against the size of the network", "weights", "gradients")
    logarithmic(figure, x=True, y=True)
    return [
        Drawing(
            "cost",
            figure,
            "How many gradients it takes to know whether any direction curves down, down to a hundredth of "
            "the steepest "
            "curvature and with 99 % probability, against what it takes to form the Hessian.",
        )
    ]


COST = Study(
    name="cost",
    title="What it costs to know the curvature",
    claim="Leaving saddles by the Hessian is seldom done, since the Hessian costs too much. Here it is "
    "never formed: a verdict on "
    "its lowest eigenvalue is to cost about as much as a few dozen gradients.",
    rows=("S5",),
    source="products with the Hessian: Pearlmutter, Neural Computation 6, 1994; Lanczos, 1950",
    experiment="Networks of two hidden layers that read digits, from a thousand to a million weights (to a "
    "hundred million at full "
    "scale), untrained and after 50 updates of Adam. Lanczos's method runs until it is known, with 99 % "
    "probability, "
    "whether any eigenvalue lies below minus a hundredth of the largest. What it spends is counted in "
    "gradients.",
    limits="The price of a product with the Hessian, two gradients, is a measured average, and differs "
    "between networks. Near a minimum, "
    "where there is no negative eigenvalue, a verdict takes longer than where there is one. Seconds in the "
    "table are of this "
    "machine and differ from run to run.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 5},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
