"""A rate for each parameter against one rate for all, where directions differ and where not."""

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from unstuck import optim
from unstuck.study.drawing import curve, finished, logarithmic
from unstuck.study.judging import above, factor, outcome
from unstuck.study.problems import best, network
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid

UPDATES = 150
BETA = 0.9  # of RMSProp
RATES = tuple(10.0 ** (0.5 * power) for power in range(-6, 2))  # 0.001 to 3: each method's best lies inside
PLAIN = "gradient descent"

_RULES: dict[str, Callable[[], optim.Rule]] = {
    PLAIN: optim.gradient_descent,
    "Adagrad": optim.adagrad_mean,
    "RMSProp": lambda: optim.rmsprop_from_first(BETA),
    "Adam": optim.adam,
}


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return grid(unequal=[True, False], way=list(_RULES))


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    objective = network(seed, unequal=bool(settings["unequal"]))
    rate, done = best(objective, _RULES[str(settings["way"])], RATES, UPDATES)
    course = [
        {"part": "course", "update": step, "loss": done.losses[step]} for step in range(0, UPDATES + 1, 2)
    ]
    inside = RATES[0] < rate < RATES[-1]
    return [{"part": "end", "rate": rate, "inside": inside, "loss": done.losses[-1]}, *course]


def _ratios(table: Table, way: str, *, unequal: bool) -> list[float]:
    ends = table.where(part="end", unequal=unequal)
    pairs = zip(ends.where(way=PLAIN).numbers("loss"), ends.where(way=way).numbers("loss"), strict=True)
    return [plain / other for plain, other in pairs]


def _test(table: Table) -> Sequence[Outcome]:
    outcomes: list[Outcome] = []
    for way in list(_RULES)[1:]:
        gain, equal = factor(_ratios(table, way, unequal=True)), factor(_ratios(table, way, unequal=False))
        outcomes.append(
            outcome(
                f"{way} gets lower than one rate for all, where directions differ",
                above(gain, 1.0),
                "loss of gradient descent over its loss, each at its best rate",
                gain,
                1.0,
                f"After {UPDATES} updates gradient descent's loss was {gain.value:.2f} times that of {way}, "
                f"each at the best of "
                f"{len(RATES)} rates; with inputs of equal scale, {equal.value:.2f} times.",
            )
        )
    return outcomes


def _draw(table: Table) -> Sequence[Drawing]:
    drawings: list[Drawing] = []
    for unequal, words in ((True, "inputs of unequal scale"), (False, "inputs of equal scale")):
        figure = go.Figure()
        for look, way in enumerate(_RULES):
            rows = table.where(part="course", unequal=unequal, way=way, seed=0)
            curve(figure, rows.numbers("update"), rows.numbers("loss"), way, look)
        finished(figure, f"Each method at its best rate, {words}", "updates", "training loss")
        drawings.append(
            Drawing(
                "unequal" if unequal else "equal",
                logarithmic(figure, y=True),
                "The loss of one network, all of the data in each update. "
                + (
                    "Flat directions want a large rate, steep ones a small."
                    if unequal
                    else "Here one rate serves all better."
                ),
            )
        )
    return drawings


ADAPTIVE = Study(
    name="adaptive",
    title="A rate for each parameter: Adagrad, RMSProp, Adam",
    claim="Dividing each parameter's step by the root mean square of its gradients (all of them: Adagrad; "
    "recent ones: RMSProp; with "
    "momentum: Adam) serves steep and flat directions at once.",
    rows=("S17",),
    source="Duchi et al., JMLR 12, 2011; Tieleman & Hinton, 2012; Kingma & Ba, ICLR 2015",
    experiment="A network of 16 hidden units reads digits from 16 features, whose scales go from 1 to 30, "
    "or are equal. Gradient descent "
    "and the three methods, in the form the lecture gives them, run for 150 updates at eight rates from "
    "0.001 to 3, and the best of each "
    "are compared, network by network.",
    limits="One kind of network and all data in each update. PyTorch's Adagrad and RMSProp differ from the "
    "lecture's (the README says how). "
    "At a rate that is fixed beforehand the differences are larger.",
    settings=_settings,
    seeds={Scale.SMALL: 4, Scale.FULL: 20},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
