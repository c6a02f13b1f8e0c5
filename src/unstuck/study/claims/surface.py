"""The error surface near a critical point: what kind it is, and that the sign of the curvature decides."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from unstuck.demos.critical import lecture
from unstuck.demos.digits import CLASSES, projections
from unstuck.demos.networks import initialised, perceptron
from unstuck.objective import Batch, Objective
from unstuck.report.figures.theme import DOWN, GREEN, MARK, UP
from unstuck.study.drawing import curve, dots, finished, logarithmic
from unstuck.study.judging import above, below, exact, outcome, share
from unstuck.study.landscape import CRITICAL, eigen, minimised, newton, square, whole
from unstuck.study.padding import padded
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, number

ROUNDING = (
    1e-6  # what an eigenvalue, or w1 w2, may be off by: far more than float64 leaves of Newton's method
)
ALL = 0.9  # "all" of so few starts: with forty of forty the interval reaches down to 0.91
NEARLY_ALL = 0.95
STEP = 1e-4  # so short that third-order terms are below a tenth of the second, so long that rounding is
SMALLEST = 1e-4  # of the largest |eigenvalue|: flatter than that, a step of that length tells nothing
REACH, LOOKS = 1.5, 61  # of a slice
HIGHEST = 4.0  # of the drawn surface, which is cut off there
SEARCHES = 10  # a run
START = 2.0  # from within +- this
HIDDEN, UNITS, DECAY = 3, 8, 1e-3

_KINDS = {"saddle": (DOWN, "x"), "minimum": (GREEN, "circle"), "not critical": (MARK, "cross")}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return [{"network": "lecture"}, {"network": "digits"}]


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    return _search(seed) if settings["network"] == "lecture" else _network(seed)


def _search(seed: int) -> Sequence[Row]:
    """Look for critical points of the worked example from random starts, by Newton's method."""
    generator = torch.Generator().manual_seed(seed)
    starts = START * (2.0 * torch.rand(SEARCHES, 2, generator=generator, dtype=torch.float64) - 1.0)
    training = lecture()
    objective = Objective(training, [Batch(batch, 1, 0) for batch in training.data], dtype=torch.float64)
    return [_end(objective, start) for start in (torch.zeros(2, dtype=torch.float64), *starts)]


def _end(objective: Objective, start: Tensor) -> Row:
    theta = newton(objective, start, lambda values, slopes: slopes / values)
    values, _ = eigen(objective, theta)
    return {
        "part": "end" if bool(start.any()) else "origin",
        "w1": float(theta[0]),
        "w2": float(theta[1]),
        "loss": objective.value(theta),
        "gradient_squared": square(objective.gradient(theta)),
        "lambda_min": float(values[0]),
        "lambda_max": float(values[-1]),
    }


def _network(seed: int) -> Sequence[Row]:
    """Go along every eigenvector from a critical point of a real network."""
    features, labels = projections()
    narrow = whole(
        initialised(perceptron(features.shape[1], HIDDEN, CLASSES), seed=seed), features, labels, decay=DECAY
    )
    objective = whole(perceptron(features.shape[1], UNITS, CLASSES), features, labels, decay=DECAY)
    inputs = features.shape[1]
    theta = padded(minimised(narrow), (inputs, HIDDEN, CLASSES), (inputs, UNITS, CLASSES))
    base, gradient = objective.value(theta), square(objective.gradient(theta))
    values, vectors = eigen(objective, theta)
    rows: list[Row] = [{"part": "point", "loss": base, "gradient_squared": gradient}]
    for value, vector in zip(values.tolist(), vectors.T, strict=True):
        if abs(value) > SMALLEST * float(values.abs().max()):
            rows.append(
                {
                    "part": "eigenvector",
                    "eigenvalue": value,
                    "predicted": 0.5 * value * STEP**2,
                    "ahead": objective.value(theta + STEP * vector) - base,
                    "back": objective.value(theta - STEP * vector) - base,
                }
            )
    for end, index in (("lowest", 0), ("highest", -1)):
        for distance in np.linspace(-REACH, REACH, LOOKS).tolist():
            real = objective.value(theta + distance * vectors[:, index])
            model = base + 0.5 * float(values[index]) * distance**2
            rows.append({"part": "slice", "end": end, "distance": distance, "loss": real, "model": model})
    return rows


def kind(row: Row) -> str:
    """Tell what a search ended at."""
    if not number(row, "gradient_squared") < CRITICAL:
        return "not critical"
    low, high = number(row, "lambda_min"), number(row, "lambda_max")
    if low < -ROUNDING < ROUNDING < high:
        return "saddle"
    return "minimum" if low >= -ROUNDING and high > ROUNDING else "maximum"


def _as_taught(row: Row) -> bool:
    product = number(row, "w1") * number(row, "w2")
    origin = max(abs(number(row, "w1")), abs(number(row, "w2"))) < ROUNDING
    return origin if kind(row) == "saddle" else kind(row) == "minimum" and abs(product - 1.0) < ROUNDING


def _test(table: Table) -> Sequence[Outcome]:
    ends = table.where(part="end")
    origin = table.where(part="origin").rows[0]
    low, high = number(origin, "lambda_min"), number(origin, "lambda_max")
    error = max(abs(low + 2.0), abs(high - 2.0))
    hits = share(sum(map(_as_taught, ends)), len(ends))
    lines = table.where(part="eigenvector")
    agree = sum(
        (number(row, side) > 0.0) == (number(row, "predicted") > 0.0)
        for row in lines
        for side in ("ahead", "back")
    )
    signs = share(agree, 2 * len(lines))
    saddles = sum(kind(row) == "saddle" for row in ends)
    return [
        outcome(
            "at (0, 0) the eigenvalues are -2 and +2: a saddle",
            below(exact(error), ROUNDING),
            "largest error of an eigenvalue",
            exact(error),
            ROUNDING,
            f"At (0, 0) the measured eigenvalues are {low:.6f} and {high:.6f}: a saddle.",
        ),
        outcome(
            "there is no critical point but the saddle and the minima w1 w2 = 1",
            above(hits, ALL),
            "share of searches that end there",
            hits,
            ALL,
            f"Of {len(ends)} searches from random starts {saddles} ended at the saddle and "
            f"{sum(map(_as_taught, ends)) - saddles} on w1 w2 = 1, all of them minima; "
            f"{len(ends) - sum(map(_as_taught, ends))} elsewhere.",
        ),
        outcome(
            "the sign of the curvature decides whether the loss rises or falls",
            above(signs, NEARLY_ALL),
            "share of steps along eigenvectors that go as predicted",
            signs,
            NEARLY_ALL,
            f"At critical points of a network that reads digits, the loss went as the sign of the "
            f"eigenvalue says in "
            f"{agree} of {2 * len(lines)} short steps along eigenvectors.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    return [
        Drawing(
            "surface",
            _surface(table.where(part="end")),
            "The loss of y = w1 w2 x at one example, (1 - w1 w2)^2, above the two weights; drag it to turn "
            "it. Crosses: "
            "where searches from random starts found the saddle. Dots: where they found minima, all in the "
            "two valleys.",
        ),
        Drawing(
            "slices",
            _slices(table.where(part="slice")),
            "A real network at a saddle. Along the lowest eigenvector the loss falls on both sides, along "
            "the highest it "
            "rises. The dashed curves are the quadratic model: close by they are the same curve, further "
            "off they "
            "are not.",
        ),
        Drawing(
            "agreement",
            _agreement(table.where(part="eigenvector")),
            f"Each point is one eigenvector: how far the loss really rises on a step of {STEP:g}, on "
            f"average of both "
            "directions, against half the eigenvalue times the step squared.",
        ),
    ]


def _surface(ends: Table) -> go.Figure:
    side = np.linspace(-START, START, 81)
    height = np.minimum((1.0 - np.outer(side, side)) ** 2, HIGHEST)
    figure = go.Figure(
        go.Surface(
            x=side.tolist(),
            y=side.tolist(),
            z=height.tolist(),
            colorscale="Cividis",
            showscale=False,
            opacity=0.92,
            hovertemplate="w1 %{x:.2f}, w2 %{y:.2f}: loss %{z:.3f}<extra></extra>",
        )
    )
    for name, (colour, symbol) in _KINDS.items():
        rows = [
            row
            for row in ends
            if kind(row) == name and max(abs(number(row, w)) for w in ("w1", "w2")) <= START
        ]
        if rows:
            figure.add_scatter3d(
                x=[number(row, "w1") for row in rows],
                y=[number(row, "w2") for row in rows],
                z=[number(row, "loss") + 0.08 for row in rows],
                mode="markers",
                name=name,
                marker={"color": colour, "size": 6, "symbol": symbol},
            )
    finished(figure, "The error surface of the worked example", "", "", height=520)
    axes = {"xaxis_title": "w1", "yaxis_title": "w2", "zaxis_title": "loss"}
    return figure.update_layout(scene={**axes, "camera": {"eye": {"x": 1.5, "y": -1.3, "z": 1.2}}})


def _slices(table: Table) -> go.Figure:
    figure = go.Figure()
    first = table.where(seed=0)
    for end, colour in (("lowest", DOWN), ("highest", UP)):
        rows = first.where(end=end)
        x = rows.numbers("distance")
        line = {"color": colour, "width": 2}
        figure.add_scatter(
            x=x, y=rows.numbers("loss"), mode="lines", line=line, name=f"{end} eigenvector: real loss"
        )
        line = {"color": colour, "width": 1.5, "dash": "dash"}
        figure.add_scatter(x=x, y=rows.numbers("model"), mode="lines", line=line, name="quadratic model")
    finished(figure, "The loss along the two decisive directions", "distance from the critical point", "loss")
    losses = first.numbers("loss")
    air = 0.15 * (max(losses) - min(losses))
    return figure.update_yaxes(range=[min(losses) - air, max(losses) + air])


def _agreement(table: Table) -> go.Figure:
    figure = go.Figure()
    for index, (name, sign) in enumerate((("rises", 1.0), ("falls", -1.0))):
        rows = [row for row in table if sign * number(row, "predicted") > 0.0]
        dots(
            figure,
            [abs(number(row, "predicted")) for row in rows],
            [sign * 0.5 * (number(row, "ahead") + number(row, "back")) for row in rows],
            f"the loss {name}",
            index,
        )
    ends = [min(map(abs, table.numbers("predicted"))), max(map(abs, table.numbers("predicted")))]
    curve(figure, ends, ends, "as predicted", 4)
    finished(
        figure,
        "Predicted and measured change of the loss",
        "predicted, |half eigenvalue x step squared|",
        "measured",
    )
    return logarithmic(figure, x=True, y=True)


SURFACE = Study(
    name="surface",
    title="The error surface: saddles, minima, and what tells them apart",
    claim="Near a critical point the loss is a quadratic form, and the signs of the Hessian's eigenvalues "
    "say what it is. "
    "For y = w1 w2 x, at one example, (0, 0) is a saddle, and all minima lie on w1 w2 = 1.",
    rows=("S2", "S3"),
    source="textbook; the network at a saddle after Fukumizu & Amari, Neural Networks 13, 2000",
    experiment="The worked example: from random starts Newton's method looks for a point without slope, and "
    "the eigenvalues "
    "there say what it is. A real network, 16 inputs (the ink in each row and column of handwritten "
    "digits), 8 tanh units, "
    "10 classes: a network of 3 units is trained to its minimum and widened with 5 units of zero weights, "
    "which is a "
    "critical point. From there a short step is made along every eigenvector, both ways.",
    limits="Only close to a critical point. How far the quadratic model carries is seen in the slices, and "
    "differs from "
    "network to network. Eigenvalues below a ten-thousandth of the largest are left out.",
    settings=_settings,
    seeds={Scale.SMALL: 4, Scale.FULL: 20},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
