"""Momentum: the weighted sum of all gradients so far, which rolls over small hills."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from unstuck import optim
from unstuck.objective import Objective
from unstuck.study.drawing import curve, finished, logarithmic
from unstuck.study.judging import above, below, exact, factor, outcome, share
from unstuck.study.problems import best, network, toy
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, number
from unstuck.study.walking import walk

DECAY, RATE, STEPS = 0.9, 0.1, 400  # on the hill
SUMMED = 50  # updates over which the weighted sum is compared
ROUNDING = 1e-10
STARTS = 5  # a run
OVER = 0.75
NEAR = 0.1  # of the bottom of the bowl
RATES, UPDATES = (0.03, 0.1, 0.3, 1.0, 3.0), 200  # on the network


def hill(place: Tensor) -> Tensor:
    """A bowl with its bottom at 0, and a dent at 2 that holds whoever is slow."""
    return (0.05 * place.square() - 0.5 * torch.exp(-4.0 * (place - 2.0).square())).sum()


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return [{"surface": "hill"}, {"surface": "digits"}]


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    if settings["surface"] == "hill":
        drawn = torch.rand(STARTS, generator=torch.Generator().manual_seed(seed)).tolist()
        return [row for start in drawn for row in _rolled(3.5 + start)]
    objective = network(seed, unequal=True)
    rows: list[Row] = [{"part": "sum", "error": _summed(objective)}]
    plain = best(objective, optim.gradient_descent, RATES, UPDATES)
    rolling = best(objective, lambda: optim.momentum(DECAY), RATES, UPDATES)
    target = plain[1].losses[-1]
    arrived = next((step for step, loss in enumerate(rolling[1].losses) if loss <= target), UPDATES)
    rows.append({"part": "race", "plain": UPDATES, "momentum": arrived, "target": target})
    for name, (rate, done) in (("gradient descent", plain), ("momentum", rolling)):
        rows += [
            {"part": "course", "way": name, "rate": rate, "update": step, "loss": done.losses[step]}
            for step in range(0, UPDATES + 1, 2)
        ]
    return rows


def _rolled(start: float) -> Sequence[Row]:
    rows: list[Row] = []
    for name, rule in (("gradient descent", optim.gradient_descent()), ("momentum", optim.momentum(DECAY))):
        path: list[float] = []
        done = walk(
            toy(hill, [start]), rule, RATE, STEPS, seen=lambda _, theta, path=path: path.append(float(theta))
        )
        rows.append({"part": "end", "way": name, "start": start, "place": float(done.theta)})
        rows += [
            {
                "part": "path",
                "way": name,
                "start": start,
                "update": step,
                "place": path[step],
                "loss": done.losses[step],
            }
            for step in range(0, STEPS // 4, 2)
        ]
    return rows


def _summed(objective: Objective) -> float:
    """Compare the movement with the weighted sum of all gradients, written out."""
    places: list[Tensor] = []
    walk(objective, optim.momentum(DECAY), RATE, SUMMED, seen=lambda _, theta: places.append(theta))
    gradients = [objective.gradient(place) for place in places]
    worst = 0.0
    for step in range(SUMMED):
        weights = DECAY ** torch.arange(step, -1, -1, dtype=torch.float64)
        written = -RATE * (torch.stack(gradients[: step + 1]) * weights[:, None]).sum(dim=0)
        worst = max(worst, float((places[step + 1] - places[step] - written).norm() / written.norm()))
    return worst


def _test(table: Table) -> Sequence[Outcome]:
    error = max(table.where(part="sum").numbers("error"))
    ends = table.where(part="end")
    over = {
        way: sum(abs(number(row, "place")) < NEAR for row in ends.where(way=way))
        for way in ("momentum", "gradient descent")
    }
    count = len(ends.where(way="momentum"))
    rolled = share(over["momentum"] - over["gradient descent"], count)
    races = table.where(part="race")
    faster = factor([number(row, "plain") / number(row, "momentum") for row in races])
    return [
        outcome(
            "the movement is a weighted sum of all past gradients",
            below(exact(error), ROUNDING),
            "largest relative difference",
            exact(error),
            ROUNDING,
            f"Over {SUMMED} updates of a real network the movement was that sum, to {error:.1e}.",
        ),
        outcome(
            "it rolls over a small hill that holds gradient descent",
            above(rolled, OVER),
            "share of starts from which only momentum gets over",
            rolled,
            OVER,
            f"From {count} starts momentum got over the hill {over['momentum']} times, gradient descent "
            f"{over['gradient descent']} times.",
        ),
        outcome(
            "it needs fewer updates, each at its best rate",
            above(faster, 1.0),
            "updates of gradient descent over those of momentum, to the same loss",
            faster,
            1.0,
            f"On a network that reads digits momentum was where gradient descent came to in {UPDATES} "
            f"updates {faster.value:.1f} times sooner.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    course = go.Figure()
    for look, way in enumerate(("gradient descent", "momentum")):
        rows = table.where(part="course", way=way, seed=0)
        curve(course, rows.numbers("update"), rows.numbers("loss"), way, look)
    finished(course, "A network that reads digits, each at its best rate", "updates", "training loss")
    logarithmic(course, y=True)
    return [
        Drawing(
            "hill",
            _played(table.where(part="path", seed=0)),
            "A bowl with a dent at 2. Press play, or move the slider: gradient descent comes to rest in the "
            "dent, momentum "
            "carries the point through and on to the bottom.",
        ),
        Drawing("course", course, "The loss of one network, update by update."),
    ]


def _played(table: Table) -> go.Figure:
    start = table.rows[0]["start"]
    ways = {way: table.where(way=way, start=start) for way in ("gradient descent", "momentum")}
    places = torch.linspace(-2.5, 5.0, 151, dtype=torch.float64)
    figure = go.Figure()
    heights = [float(hill(place[None])) for place in places]
    curve(figure, places.tolist(), heights, "loss", 4)
    for look, (way, rows) in enumerate(ways.items()):
        figure.add_scatter(
            x=[number(rows.rows[0], "place")],
            y=[number(rows.rows[0], "loss")],
            mode="markers",
            name=way,
            marker={"size": 16, "symbol": ("circle", "square")[look], "color": ("#0072B2", "#D55E00")[look]},
        )
    updates = next(iter(ways.values())).numbers("update")
    figure.frames = [
        go.Frame(
            name=f"{update:.0f}",
            traces=[1, 2],
            data=[
                go.Scatter(x=[number(rows.rows[index], "place")], y=[number(rows.rows[index], "loss")])
                for rows in ways.values()
            ],
        )
        for index, update in enumerate(updates)
    ]
    finished(figure, "Over a small hill", "place", "loss", height=480)
    now = {"frame": {"duration": 0, "redraw": False}, "mode": "immediate", "transition": {"duration": 0}}
    playing = {"frame": {"duration": 60, "redraw": False}, "fromcurrent": True, "transition": {"duration": 0}}
    return figure.update_layout(
        sliders=[
            {
                "currentvalue": {"prefix": "update "},
                "pad": {"t": 50, "l": 70},
                "steps": [
                    {"label": f"{update:.0f}", "method": "animate", "args": [[f"{update:.0f}"], now]}
                    for update in updates
                ],
            }
        ],
        updatemenus=[
            {
                "type": "buttons",
                "x": 0.0,
                "y": -0.2,
                "xanchor": "left",
                "yanchor": "top",
                "buttons": [{"label": "play", "method": "animate", "args": [None, playing]}],
            }
        ],
    )


MOMENTUM = Study(
    name="momentum",
    title="Momentum rolls over small hills",
    claim="With momentum the movement is the sum of the last movement and the present descent: a weighted "
    "sum of all gradients so "
    "far. So the run can roll over a small hill or across a plateau.",
    rows=("S14",),
    source="Polyak, USSR Computational Mathematics 4, 1964",
    experiment="On a network that reads digits the movement is compared with the sum, written out. On a "
    "bowl with a dent, gradient "
    "descent and momentum 0.9 begin at the same places with the same rate. On the network, whose inputs "
    "have very different scales, "
    "both are run at five rates each and the best are compared.",
    limits="Whether the hill is passed depends on its width and height, the rate and the momentum: over a "
    "higher one momentum does not "
    "get either, and a larger rate may bring gradient descent over. All the data are in each update; noise "
    "of batches is not in this.",
    settings=_settings,
    seeds={Scale.SMALL: 5, Scale.FULL: 20},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
