"""Are local minima rare? Losses of critical points against the share of directions that curve up."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from torch import nn

from unstuck import optim
from unstuck.demos.digits import CLASSES, projections
from unstuck.demos.networks import initialised, perceptron
from unstuck.objective import Objective
from unstuck.study.drawing import dots, finished
from unstuck.study.judging import above, below, mean, outcome, rank_correlation, share
from unstuck.study.landscape import Vector, eigen, minimised, square, whole
from unstuck.study.padding import padded
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, Value, grid, number
from unstuck.study.searching import METHODS, End, searched, told
from unstuck.study.walking import walk

Hidden = tuple[int, ...]

DECAY, EXAMPLES = 1e-2, 300
# Hidden layers, and the narrower ones whose minima are widened to them.
NARROW: dict[Hidden, tuple[Hidden, ...]] = {
    (4,): ((1,), (2,), (3,)),
    (6,): ((1,), (2,), (3,), (4,), (5,)),
    (8,): ((1,), (2,), (4,), (6,)),
    (5, 5): ((2, 2), (3, 3), (4, 4)),
}
STARTS = (0, 1)
FOLLOWING = "eigenvector following"
OTHERS = ("6", "5-5")  # where methods that seldom arrive are shown too
UPDATES, RATE = (10, 40), 0.03  # of Adam, before a search begins
ROUNDING = 1e-9  # of the largest |eigenvalue|: nearer to zero is neither up nor down
SOUND = 0.95  # share of constructed points that must be critical
QUARTER = 4
HIGH = 0.75  # the lecture's best losses sit at 0.5 to 0.6; half way from there to 1
MOST = 0.5

# At zero they are zero, so that units of zero weights do nothing; both can be differentiated as often as one likes.
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "GELU": nn.GELU}

_FEATURES = 16
_RARELY = [method for method in METHODS if method != FOLLOWING]

_LOOKS = {"constructed": 0, "searched": 1, "trained": 2}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    named: list[Value] = list(ACTIVATIONS)
    wide: list[Value] = [_named(hidden) for hidden in NARROW]
    return [
        *(
            {"family": "constructed", "activation": activation, "hidden": _named(hidden), "from": _named(few)}
            for activation in named
            for hidden, narrow in NARROW.items()
            for few in narrow
        ),
        *grid(family=["searched"], activation=named, hidden=wide, method=[FOLLOWING], updates=UPDATES),
        *grid(family=["searched"], activation=named, hidden=OTHERS, method=_RARELY, updates=UPDATES[:1]),
        *grid(family=["trained"], activation=named, hidden=wide, start=STARTS),
    ]


def _named(hidden: Hidden) -> str:
    return "-".join(map(str, hidden))


def _widths(name: Value) -> tuple[int, ...]:
    return (_FEATURES, *map(int, str(name).split("-")), CLASSES)


def _network(widths: Sequence[int], activation: str, seed: int) -> Objective:
    features, labels = projections()
    model = perceptron(*widths, activation=ACTIVATIONS[activation])
    return whole(initialised(model, seed=seed), features[:EXAMPLES], labels[:EXAMPLES], decay=DECAY)


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    activation, wide = str(settings["activation"]), _widths(settings["hidden"])
    objective = _network(wide, activation, seed)
    if settings["family"] == "constructed":
        narrow = _widths(settings["from"])
        theta = padded(minimised(_network(narrow, activation, seed)), narrow, wide)
    elif settings["family"] == "searched":
        start = walk(objective, optim.adam(), RATE, int(number(settings, "updates"))).theta
        drawn = float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
        theta = searched(objective, start, METHODS[str(settings["method"])], drawn)
    else:
        number_of = len(STARTS) * seed + int(number(settings, "start"))
        theta = minimised(_network(wide, activation, number_of))
    return [_described(objective, theta)]


def _described(objective: Objective, theta: Vector) -> Row:
    values, vectors = eigen(objective, theta)
    gradient = objective.gradient(theta)
    end, kernel = told(gradient, values, vectors)
    bound = ROUNDING * float(values.abs().max())
    return {
        "end": end.value,
        "loss": objective.value(theta),
        "gradient_squared": square(gradient),
        "gradient_in_kernel": kernel,
        "minimum_ratio": float((values > bound).double().mean()),
        "negative": int((values < -bound).sum()),
        "lambda_min": float(values[0]),
        "lambda_max": float(values[-1]),
        "parameters": objective.size,
    }


def _test(table: Table) -> Sequence[Outcome]:
    made = table.where(family="constructed")
    sound = share(len(made.where(end=End.CRITICAL.value)), len(made))
    looked = table.where(family="searched")
    critical = sorted(table.where(end=End.CRITICAL.value), key=lambda row: number(row, "loss"))
    ratios, losses = Table(tuple(critical)).numbers("minimum_ratio"), Table(tuple(critical)).numbers("loss")
    fall = rank_correlation(ratios, losses)
    best = mean(ratios[: max(len(ratios) // QUARTER, 2)])
    trained = table.where(family="trained", end=End.CRITICAL.value)
    down = sum(number(row, "negative") > 0 for row in trained)
    ends = {end: len(looked.where(end=end.value)) for end in End}
    return [
        outcome(
            "a narrow network's minimum, widened by zero units, is critical",
            above(sound, SOUND),
            "share of constructed points with ||g||^2 < 1e-20",
            sound,
            SOUND,
            f"{len(made.where(end=End.CRITICAL.value))} of {len(made)} constructed points are critical. Of "
            f"{len(looked)} "
            f"searches {ends[End.CRITICAL]} ended at critical points, {ends[End.FLAT]} gradient-flat (the "
            f"slope is left "
            f"where the surface is flat), {ends[End.UNFINISHED]} unfinished; by eigenvector following alone "
            f"{len(looked.where(method=FOLLOWING, end=End.CRITICAL.value))} of "
            f"{len(looked.where(method=FOLLOWING))} were critical.",
        ),
        outcome(
            "critical points of lower loss have fewer ways down",
            below(fall, 0.0),
            "rank correlation of loss and minimum ratio",
            fall,
            0.0,
            f"Over {len(critical)} critical points the rank correlation of loss and minimum ratio is "
            f"{fall.value:.2f}.",
        ),
        outcome(
            "even the best have many ways down: minimum ratios of 0.5 to 0.6",
            below(best, HIGH),
            "mean minimum ratio of the quarter of lowest loss",
            best,
            HIGH,
            f"The quarter of lowest loss has minimum ratios of {best.value:.2f} on average.",
        ),
        outcome(
            "a network trained to the end sits where there are still ways down",
            above(share(down, len(trained)), MOST),
            "share of trained networks with a negative eigenvalue",
            share(down, len(trained)),
            MOST,
            f"Of {len(trained)} networks that were trained until no slope was left, {down} had a way down; "
            f"the others had found a local minimum.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    return [
        Drawing(
            "ratio",
            _ratios(table.where(end=End.CRITICAL.value), "Loss against minimum ratio, critical points"),
            "Each point is a network where no slope is left. To the right, all directions curve up: a local "
            "minimum. "
            "Constructed: a narrow network's minimum, widened. Searched: found from within a training. "
            "Trained: plain training "
            "to the end.",
        ),
        Drawing(
            "others",
            _ratios(
                Table(tuple(row for row in table if row["end"] != End.CRITICAL.value)),
                "Ends of searches that are not critical",
            ),
            "What searches also end at: the gradient is small but not zero, and often what is left of it "
            "lies where the "
            "surface is flat. Counted apart, since their minimum ratio says nothing of critical points.",
        ),
    ]


def _ratios(rows: Table, title: str) -> go.Figure:
    figure = go.Figure()
    names = ("constructed", "searched", "trained") if "critical points" in title else tuple(End)[1:]
    for look, name in enumerate(names):
        some = rows.where(family=name) if name in _LOOKS else rows.where(end=str(name))
        dots(figure, some.numbers("minimum_ratio"), some.numbers("loss"), str(name), look)
    return finished(
        figure, title, "minimum ratio: share of eigenvalues above zero", "training loss", height=440
    )


MINIMUM_RATIO = Study(
    name="minimum-ratio",
    title="Are local minima rare? Loss against minimum ratio",
    claim="Of networks trained until they sit at a critical point, none has a minimum ratio (share of "
    "positive eigenvalues) "
    "of 1; the lower the loss the higher the ratio, and the best sit at about 0.5 to 0.6: nearly every "
    "`minimum` still "
    "has ways down.",
    rows=("S6",),
    source="gradient-flat places: Frye et al., Neural Computation 33, 2021; eigenvector following: Cerjan & "
    "Miller, 1981",
    experiment="Networks that read digits from 16 features, with one hidden layer of 4, 6 or 8 units or "
    "two of 5, tanh or GELU, and weight decay, in double precision. Critical points come from three "
    "places: narrower networks trained to their minimum and widened by units of zero weights; searches "
    "from within a training, by three methods; and plain training to the end. All eigenvalues of the "
    "Hessian are computed. An end counts as critical where the squared gradient is below 1e-20; one with "
    "over 90 % of the gradient where |eigenvalues| are below a thousandth of the largest is "
    "gradient-flat; all others are unfinished.",
    limits="Up to 226 weights, one data set, and a weight decay without which few searches arrive anywhere. "
    "Eigenvector following is told "
    "how many directions to go up along, up to as many as curve down where it begins: it shows what "
    "critical points there are, not how "
    "often training meets them. Widened networks have many ways down by construction.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 10},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
