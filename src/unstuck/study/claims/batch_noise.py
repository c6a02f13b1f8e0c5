"""Why noise helps to optimise: what is critical for all of the data is not for a batch of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import torch

from unstuck import optim
from unstuck.demos.digits import CLASSES, projections
from unstuck.demos.networks import initialised, perceptron
from unstuck.objective import Batch, Objective
from unstuck.study.drawing import curve, dots, finished, level
from unstuck.study.judging import above, factor, outcome, share
from unstuck.study.landscape import CRITICAL, Vector, classified, minimised, square
from unstuck.study.problems import shuffled
from unstuck.study.records import Drawing, Outcome, Row, Scale, Settings, Study, Table, grid, number
from unstuck.study.searching import following, searched
from unstuck.study.walking import walk
from unstuck.training import Training

EXAMPLES, SIZE, DECAY = 300, 10, 1e-2
RATES = (0.3, 1.0, 3.0)
LEAVING, UPDATES = 1500, 400  # updates from a saddle, and from a bad minimum
LOOK = 5  # updates from one look at all of the data to the next
WIDE, NARROW = 6, (2, 3)  # hidden units where saddles are looked for, and bad minima
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the directions that curve down at first, for a search to go up along
BEFORE, RATE_BEFORE = 10, 0.03  # updates of Adam before a search
STARTS, WORST = 5, 2  # of a narrow network: so many minima, and of these the worst are called bad
BAD, LOWER = 0.005, 0.005  # of the loss: so far above the best minimum is bad, so much lower has got past
MOST = 0.5


def _settings(scale: Scale) -> Sequence[Settings]:
    del scale
    return [*grid(place=["saddle"], going_up=SHARES), *grid(place=["bad minimum"], units=NARROW)]


def _network(units: int, seed: int, size: int = EXAMPLES) -> Objective:
    inputs, labels = (each[:EXAMPLES] for each in projections())
    model = initialised(perceptron(inputs.shape[1], units, CLASSES), seed=seed)
    pairs = list(zip(inputs.split(size), labels.split(size), strict=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=DECAY)
    training = Training(model, classified, pairs, optimizer)
    numbered = [Batch(pair, len(pair[0]), index) for index, pair in enumerate(pairs)]
    return Objective(training, numbered, dtype=torch.float64)


def _run(settings: Settings, seed: int) -> Sequence[Row]:
    if settings["place"] == "saddle":
        whole, batched = _network(WIDE, seed), _network(WIDE, seed, SIZE)
        before = walk(whole, optim.adam(), RATE_BEFORE, BEFORE).theta
        found = searched(whole, before, following, number(settings, "going_up"))
        return _left((whole, batched), found, 0, seed, sinks=False)
    units = int(number(settings, "units"))
    minima: list[tuple[float, Vector]] = []
    for start in range(STARTS):
        narrow = _network(units, STARTS * seed + start)
        theta = minimised(narrow)
        minima.append((narrow.value(theta), theta))
    minima.sort(key=lambda pair: -pair[0])
    bad = [theta for loss, theta in minima[:WORST] if loss > (1.0 + BAD) * minima[-1][0]]
    whole, batched = _network(units, seed), _network(units, seed, SIZE)
    return [
        row
        for point, theta in enumerate(bad)
        for row in _left((whole, batched), theta, point, seed, sinks=True)
    ]


@dataclass
class _Watch:
    """Sees how many updates it takes to get lower over all of the data."""

    whole: Objective
    first: float
    left: int | None = None

    def see(self, step: int, theta: Vector) -> None:
        if self.left is None and step % LOOK == 0 and self.whole.value(theta) < (1.0 - LOWER) * self.first:
            self.left = step


def _left(
    both: tuple[Objective, Objective], theta: Vector, point: int, seed: int, *, sinks: bool
) -> list[Row]:
    """Go on from there by all of the data and by batches; then, if it `sinks`, down as far as it goes."""
    whole, batched = both
    first, gradient = whole.value(theta), whole.gradient(theta)
    rows: list[Row] = []
    for rate in RATES:
        for batches in (False, True):
            objective, only = (batched, shuffled(batched, seed)) if batches else (whole, None)
            watch = _Watch(whole, first)
            done = walk(
                objective,
                optim.gradient_descent(),
                rate,
                UPDATES if sinks else LEAVING,
                start=theta,
                only=only,
                seen=watch.see,
            )
            end = first if done.diverged else whole.value(done.theta)
            noisy = batches and not done.diverged
            below = whole.value(minimised(whole, done.theta)) if sinks and noisy else end
            same: Row = {"point": point, "rate": rate, "batches": batches}
            rows.append(
                {
                    **same,
                    "part": "end",
                    "critical": square(gradient) < CRITICAL,
                    "first": first,
                    "left": watch.left,
                    "end": end,
                    "below": below,
                }
            )
            if point == 0 and seed == 0 and rate == RATES[1]:
                rows += [
                    {**same, "part": "course", "update": step, "loss": loss}
                    for step, loss in enumerate(_smoothed(done.losses))
                    if step % 10 == 0
                ]
    return rows


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Give means of an epoch each, as the losses of single batches hide the course."""
    epoch = EXAMPLES // SIZE
    return [
        sum(losses[max(step - epoch, 0) : step + 1]) / (step - max(step - epoch, 0) + 1)
        for step in range(len(losses))
    ]


def _passed(minima: Table) -> tuple[int, int]:
    """Count those that were left for a lower one, at the rate at which most are."""
    counts = [
        (sum(number(row, "below") < (1.0 - LOWER) * number(row, "first") for row in some), len(some))
        for some in minima.groups("rate").values()
    ]
    return max(counts, default=(0, 0))


def _sooner(saddles: Table) -> list[float]:
    """Give for each saddle the updates of all of the data over those of batches; the mean over the rates."""
    found: list[float] = []
    for rows in saddles.groups("going_up", "seed").values():
        took = {(row["rate"], row["batches"]): row["left"] or LEAVING for row in rows}
        logs = [math.log(float(took[rate, False]) / float(took[rate, True])) for rate in RATES]
        found.append(math.exp(sum(logs) / len(logs)))
    return found


def _test(table: Table) -> Sequence[Outcome]:
    ends = table.where(part="end", critical=True)
    saddles = ends.where(place="saddle")
    sooner = factor(_sooner(saddles))
    still = {batches: len(saddles.where(batches=batches, left=None)) for batches in (False, True)}
    out, bad = _passed(ends.where(place="bad minimum", batches=True))
    walks = len(saddles.where(batches=True))
    return [
        outcome(
            "small batches leave saddles that hold all of the data",
            above(sooner, 1.0),
            f"updates on all of the data to leave a saddle over those in batches of {SIZE}, at the same rate",
            sooner,
            1.0,
            f"From {walks // len(RATES)} saddles, at {len(RATES)} rates each, descent on all of the data "
            f"took {sooner.value:.1f} times as many updates to get away as in batches of {SIZE}; in "
            f"{still[False]} of {walks} walks it was still there after {LEAVING} updates, in batches in "
            f"{still[True]}.",
        ),
        outcome(
            "small batches get out of bad minima",
            above(share(out, bad), MOST),
            "share of bad minima that are left for lower ones",
            share(out, bad),
            MOST,
            f"Of {bad} minima that are not the best of their network, batches of {SIZE} left {out} for "
            f"lower ones at the best of {len(RATES)} rates, in {UPDATES} updates and a descent to the "
            "bottom from where they had come to.",
        ),
    ]


def _draw(table: Table) -> Sequence[Drawing]:
    drawings: list[Drawing] = []
    for place in ("saddle", "bad minimum"):
        rows = table.where(part="course", place=place)
        rows = Table(tuple(row for row in rows if _first(rows, row)))
        figure = go.Figure()
        for look, (batches, name) in enumerate(((False, "all of the data"), (True, f"batches of {SIZE}"))):
            some = rows.where(batches=batches)
            curve(figure, some.numbers("update"), some.numbers("loss"), name, look)
        finished(figure, f"From a {place}, rate {RATES[1]:g}", "updates", "loss, mean of an epoch")
        drawings.append(
            Drawing(
                place.replace(" ", "-"), figure, "One point, at which the gradient of all the data is nil."
            )
        )
    figure = go.Figure()
    ends = table.where(part="end", batches=True, critical=True)
    for look, rate in enumerate(RATES):
        rows = ends.where(rate=rate)
        places = [str(row["place"]) for row in rows]
        gains = [100.0 * (1.0 - number(row, "below") / number(row, "first")) for row in rows]
        dots(figure, places, gains, f"rate {rate:g}", look)
    level(figure, 100.0 * LOWER, "got past")
    finished(figure, f"How much lower batches of {SIZE} get", "", "fall of the loss, %")
    words = (
        "Each point is a walk in batches from a critical point and, if that is a minimum, down to the "
        "bottom from its end."
    )
    return [*drawings, Drawing("gains", figure, words)]


def _first(rows: Table, row: Row) -> bool:
    """Whether a row is of the first settings there are."""
    return all(row.get(name) == rows.rows[0].get(name) for name in ("going_up", "units"))


BATCH_NOISE = Study(
    name="batch-noise",
    title="Why the noise of batches helps",
    claim="Descent on all of the data stops where the gradient is nil. A batch has a loss of its own, "
    "and a point that is critical for one need not be for the other: so small batches get past saddles "
    "and bad minima.",
    rows=("S10",),
    source="Kleinberg, Li & Yuan, An alternative view: when does SGD escape local minima?, ICML 2018",
    experiment="Networks read digits in double precision. Saddles of six hidden units are searched for; "
    f"minima of two and three are found from {STARTS} starts each, and the worst are called bad. From "
    f"each, gradient descent goes on for {LEAVING} updates from a saddle and {UPDATES} from a minimum, on "
    f"all {EXAMPLES} examples and in batches of {SIZE}, at three rates. Where it comes to lower than half "
    "a percent below the start, it has got past; after a walk in batches from a minimum the loss is "
    "first taken down to the bottom, as noise keeps it above.",
    limits="Small networks, whose minima are known to the last digit. How large the noise is goes with "
    "rate over batch size, so other rates would give other shares. Directions in which all examples "
    "agree, such as two units with the same weights, are not left by noise either.",
    settings=_settings,
    seeds={Scale.SMALL: 3, Scale.FULL: 12},
    run=_run,
    test=_test,
    draw=_draw,
    data="handwritten digits, ink in rows and columns (Alpaydin & Kaynak, UCI, CC BY 4.0)",
)
