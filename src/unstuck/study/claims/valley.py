"""One learning rate cannot fit all directions: large rates bounce, small ones never arrive."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import plotly.graph_objects as go

from unstuck import optim
from unstuck.report.numbers import percent
from unstuck.study.drawing import dots, finished, level, logarithmic
from unstuck.study.judging import above, below, exact, outcome
from unstuck.study.landscape import eigen, minimised
from unstuck.study.problems import convex
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.walking import walk

UPDATES = {Scale.SMALL: 1000, Scale.FULL: 100_000}
STABLE = tuple(2.0**power for power in range(-5, 3))  # rates in units of 1 / lambda_max: beyond 2 steps grow
ADAPTIVE = (0.003, 0.01, 0.03, 0.1, 0.3)
ARRIVED = 0.01  # of the way from the first loss to the minimum that may be left
SPREADS = (1.0, 30.0, 1000.0)  # of the features' scales
ILL = SPREADS[-1]  # "ill-conditioned": as ages beside incomes, in their own units

_RULES: dict[str, Callable[[], optim.Rule]] = {
    "gradient descent": optim.gradient_descent,
    "RMSProp": optim.rmsprop_from_first,
    "Adam": optim.adam,
}


def _settings(scale: Scale) -> Sequence[Settings]:
    return [
        *grid(way=["gradient descent"], rate=STABLE, spread=SPREADS, updates=[UPDATES[scale]]),
        *grid(way=["RMSProp", "Adam"], rate=ADAPTIVE, spread=[ILL], updates=[UPDATES[scale]]),
    ]


@cache
def _bottom(spread: float) -> tuple[float, float, float]:
    """Compute the lowest loss there is, and the smallest and largest curvature there."""
    objective = convex(spread)
    theta = minimised(objective)
    values, _ = eigen(objective, theta)
    return objective.value(theta), float(values[0]), float(values[-1])


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    del seed  # the loss is convex and begins at zero
    objective, way = convex(number(settings, "spread")), str(settings["way"])
    lowest, flattest, steepest = _bottom(number(settings, "spread"))
    rate = number(settings, "rate") / (steepest if way == "gradient descent" else 1.0)
    done = walk(objective, _RULES[way](), rate, int(number(settings, "updates")))
    left = [(loss - lowest) / (done.losses[0] - lowest) for loss in done.losses]
    return [
        {
            "eta": rate,
            "left": left[-1],
            "rises": sum(after > before for before, after in pairwise(left)),
            "condition": steepest / flattest,
            "lambda_max": steepest,
        }
    ]


def _least(rows: Table) -> float:
    """Give what the best of the rates has left; a run that was thrown out has no number."""
    return min(number(row, "left") for row in rows if row["left"] is not None)


def _test(table: Table) -> Sequence[Outcome]:
    plain = table.where(way="gradient descent", spread=ILL)
    others = Table(tuple(row for row in table if row["way"] != "gradient descent"))
    one, each = _least(plain), _least(others)
    updates, condition = number(table.rows[0], "updates"), number(plain.rows[0], "condition")
    return [
        outcome(
            "no single rate arrives",
            above(exact(one), ARRIVED),
            "share of the way to the minimum that the best rate has left",
            exact(one),
            ARRIVED,
            f"On a convex surface {condition:,.0f} times steeper one way than another, the best of "
            f"{len(plain)} rates of gradient descent had {percent(one, 2)} of the way to the minimum left "
            f"after {updates:,.0f} updates.",
        ),
        outcome(
            "a rate for each parameter does",
            below(exact(each), ARRIVED),
            "the same share for RMSProp and Adam",
            exact(each),
            ARRIVED,
            f"The best of {len(others)} runs of RMSProp and Adam had {percent(each, 2)} left.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    figure = go.Figure()
    groups = {
        **{
            f"gradient descent, scales 1 to {spread:,.0f}": table.where(way="gradient descent", spread=spread)
            for spread in SPREADS
        },
        f"RMSProp, scales 1 to {ILL:,.0f}": table.where(way="RMSProp"),
        f"Adam, scales 1 to {ILL:,.0f}": table.where(way="Adam"),
    }
    for look, (name, rows) in enumerate(groups.items()):
        left = [10.0 if row["left"] is None else min(max(number(row, "left"), 1e-6), 10.0) for row in rows]
        dots(figure, rows.numbers("eta"), left, name, look)
    level(figure, ARRIVED, f"arrived: {ARRIVED:.0%} left", log=True)
    finished(
        figure,
        "What is left of the way to the minimum, at every rate",
        "learning rate",
        "share left",
        height=440,
    )
    logarithmic(figure, x=True, y=True)
    return [
        Drawing(
            "rates",
            figure,
            "Each point is a run. At the top (10 and more): thrown out. A linear classifier of digits has "
            "one minimum, and still no "
            "rate of gradient descent arrives where its features are of unequal scale. A rate for each "
            "parameter does.",
        )
    ]


VALLEY = Study(
    name="valley",
    title="One learning rate cannot fit all directions",
    claim="On a convex but ill-conditioned surface too large a rate bounces, and a rate small enough not to "
    "bounce never arrives.",
    rows=("S16",),
    source="textbook; Nocedal & Wright, Numerical Optimization, 2006, section 3.3",
    experiment="A linear classifier of handwritten digits, a convex loss with one minimum, which is "
    "computed to rounding. Its 16 features "
    "have equal scales, or scales from 1 to 30, or from 1 to 1,000, as raw features may. Gradient descent "
    "runs at eight rates, from a "
    "thirty-second of 1 / lambda_max to four "
    "times that; RMSProp and Adam at five rates each. What is left of the way down to the minimum is "
    "measured at the end.",
    limits="How many updates are too many depends on the ratio of the steepest to the flattest curvature. "
    "With features of equal "
    "scale gradient descent gets further, as the figure shows.",
    settings=_settings,
    seeds={Scale.SMALL: 1, Scale.FULL: 1},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
