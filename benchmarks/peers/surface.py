"""Pictures of the loss around the weights: CPU time and heights against loss-landscapes and landscaper.

Everybody gives heights at the same places of the same plane through the same trained network, on the same batches, in
turns of one process. `error` is the largest difference to the loss in float64 at the place that a height is said to
belong to, over the range of heights in the picture; `where it looked` the same at the place where the peer really
was, and without the heights that it altered; `stated` the largest error that is given with a height, over the same
range: we alone give any. Times begin at the model and the batches; ours hold the gradient and the model of second
order of the plane, and the error of every height. The last column is the CPU time of the cheapest peer over ours:
above 1 we are cheaper.

- a: tanh MLP of 9 thousand parameters on 1797 digits; b: conv net of 60 thousand, c: transformer of 200 thousand,
  both on 256 digits. Everybody computes in float32.
- plane: 33 by 33 places along two directions, the finest picture that `unstuck surface` draws; filter-normalised
  where the peer takes such directions (loss-landscapes), and each tensor as long as the root of its size where the
  peer rescales all to that (landscaper). `evaluated` says at how many of the places the loss was evaluated: ours come
  from those, and from a smooth surface through them that was compared with the loss before it was believed. Pictures
  as they come.
- plane, every place: a coarser one with every place evaluated by everybody (`--exact`): what an evaluation costs.
- line: 33 places along a random direction, as `unstuck sharpness` draws it. Ours come from those that were evaluated,
  each of which has to be what the others predict; another seed at each turn, which draws other places to begin with,
  `evaluated` from the fewest to the most and errors the largest of all turns. It needs no gradient, and has none.
- hessian: from nothing but the model to the picture of 33 by 33 along eigenvectors; landscaper by its own way, the
  two largest in size by power iteration with graphs kept, ours by both ends of the spectrum. `error` is then that of
  the curvature along the first axis as walked, against the largest eigenvalue.

Pictures as they come are 2.3 to 5.6 times cheaper than the cheapest peer's, since we evaluate the loss at a seventh
to a third of the places, and on each plane the error is smaller, since we look where we say. It is not smaller than
what the peers reach where they really looked, which is rounding: who needs all heights to rounding asks for every
place, and then we are dearer, for what surrounds each evaluation (dropout and buffers put back, the batch copied),
and for the gradient, two products and the measured rounding that come with a picture, which count for more the fewer
places it has. Of a line nine places are evaluated at least, which for the smallest network, where what surrounds an
evaluation is as much as the evaluation, is not twice as cheap as the peers' 33. Lines that bend more, or have kinks,
take more: on 240 through ten networks 17 on average, all 33 where the loss is made of steps or explodes.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import landscapes
from benchmarks.peers.invited import LANDSCAPER, LOSS_LANDSCAPES, present
from benchmarks.peers.landscapes import Place
from benchmarks.peers.pictured import habits
from benchmarks.tables import Table
from benchmarks.timing import take_turns
from benchmarks.workloads import Workload, workloads
from unstuck.landscape.eigen import Means, both_ends
from unstuck.landscape.grid import LEVELS, Grid
from unstuck.landscape.ground import Ground, limits_of
from unstuck.landscape.heights import Heights as Looker
from unstuck.landscape.line import PLACES, Line
from unstuck.landscape.pictures import Axis
from unstuck.landscape.planes import Frame, hessian_frame, quadratic_model, random_frame
from unstuck.measurements.judging import Forms, Halves, Judge
from unstuck.measurements.records import Sample

SIDE = LEVELS[-1]
EVERY = {"a": 17, "b": 9, "c": 9}
BATCHES = {"a": 8, "b": 1, "c": 1}
ROUNDS = {"a": 5, "b": 2, "c": 2}
LINES = 12
QUESTIONS = ("line", "plane", "hessian")
COLUMNS = (
    "workload", "picture", "contestant", "type", "places", "evaluated", "CPU s", "error", "where it looked", "stated",
    "best peer / ours",
)  # fmt: skip

Heights = np.ndarray


@dataclass(frozen=True)
class Contestant:
    """One that draws a picture.

    Attributes:
        who: Its name.
        dtype: What it computes in.
        draw: Gives the heights.
        shifts: How many steps along the second axis the heights of each row are really off.
        altered: Whether the highest place is not what was measured there.
    """

    who: str
    dtype: torch.dtype
    draw: Callable[[], Heights]
    shifts: Callable[[int], int] = lambda _: 0
    altered: bool = False


@dataclass(frozen=True)
class Seen:
    """Our picture: heights, at how many places they were evaluated, and their largest error over their range."""

    heights: Heights
    evaluated: int
    stated: float


def run(
    only: Sequence[str] | None = None,
    questions: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
) -> list[Table]:
    """Let everybody draw everything, or some."""
    invited = {peer.name for peer in present((LOSS_LANDSCAPES, LANDSCAPER), peers)}
    rows: list[list[object]] = []
    for workload in workloads():
        if invited and (only is None or workload.key in only):
            cut = dataclasses.replace(workload, batches=workload.batches[: BATCHES[workload.key]])
            rows += _pictures(cut, invited, questions or QUESTIONS)
    facts = habits(invited)
    return [Table("The same places", COLUMNS, rows, keys=4), facts]


def _pictures(workload: Workload, invited: set[str], questions: Sequence[str]) -> list[list[object]]:
    even = _even(workload)
    found = _square(workload, "line", even, PLACES, invited) if "line" in questions else []
    for every, side in ((False, SIDE), (True, EVERY[workload.key])) if "plane" in questions else ():
        words = ", every place" if every else ""
        if LOSS_LANDSCAPES.name in invited:
            alone = invited - {LANDSCAPER.name}
            found += _square(workload, f"plane, filters{words}", _filters(workload), side, alone, every=every)
        if LANDSCAPER.name in invited:
            found += _square(workload, f"plane, tensors{words}", even, side, invited, every=every)
    return found + (_hessian(workload) if LANDSCAPER.name in invited and "hessian" in questions else [])


def _square(
    workload: Workload, picture: str, frame: Frame, side: int, invited: set[str], *, every: bool = False
) -> list[list[object]]:
    line = picture == "line"
    places = [(x, 0.0) for x in landscapes.positions(frame, side)]
    if not line:
        places = [(x, y) for x, _ in places for y in landscapes.positions(frame, side)]
    drawn: dict[str, Heights] = {}
    seen: list[Seen] = []

    def look() -> Heights:
        drawing = partial(_along, seed=len(seen)) if line else partial(_look, side=side, every=every)
        seen.append(drawing(workload, frame))
        return seen[-1].heights

    ours = Contestant("unstuck", torch.float32, look)
    entered = [ours, *_rivals(workload, frame, side, invited, line=line)]

    def kept(who: Contestant) -> Callable[[], None]:
        return lambda: drawn.update({who.who: who.draw().reshape(-1)})

    turns = take_turns(
        {each.who: kept(each) for each in entered}, rounds=LINES if line else ROUNDS[workload.key]
    )
    best = min(entered[1:], key=lambda each: turns[each.who].median)
    truth = landscapes.Truth(workload, frame)
    rows: list[list[object]] = []
    for each in entered:
        ratio = turns[best.who].over(turns[ours.who]) if each is best else ""
        heights = [one.heights for one in seen] if each is ours else [drawn[each.who]]
        found = [
            _errors(truth, one.reshape(-1), places, each, side if not line else 0, frame) for one in heights
        ]
        errors = [max(column) for column in zip(*found, strict=True)]
        kind = str(each.dtype).removeprefix("torch.")
        counts, stated = [len(places)], ""
        if each is ours:
            counts, stated = sorted({one.evaluated for one in seen}), max(one.stated for one in seen)
        count = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        head = [workload.key, picture, each.who, kind, len(places), count]
        rows.append([*head, turns[each.who].median, *errors, stated, ratio])
    return rows


def _rivals(
    workload: Workload, frame: Frame, side: int, invited: set[str], *, line: bool
) -> list[Contestant]:
    found: list[Contestant] = []
    cast = landscapes.cast(workload, torch.float32)
    if LOSS_LANDSCAPES.name in invited:
        draw = landscapes.by_interpolation(cast, frame, side, line=line)
        shifts = (lambda _: 0) if line else landscapes.shift_of_interpolation
        found.append(Contestant(LOSS_LANDSCAPES.name, torch.float32, draw, shifts))
    if LANDSCAPER.name in invited:
        draw = landscapes.by_landscaper(cast, frame, side, line=line)
        found.append(Contestant(LANDSCAPER.name, torch.float32, draw, altered=True))
    return found


def _errors(
    truth: "landscapes.Truth",
    heights: Heights,
    places: Sequence[Place],
    who: Contestant,
    side: int,
    frame: Frame,
) -> tuple[float, float]:
    """Give the error where the heights are said to be, and where they really are."""
    said = truth.at(places)
    step = (frame.axes[1].high - frame.axes[1].low) / (side - 1) if side else 0.0
    moved = [(x, y + step * who.shifts(index // side if side else 0)) for index, (x, y) in enumerate(places)]
    really = truth.at(moved)
    kept = heights < heights.max() if who.altered else np.full(len(heights), fill_value=True)
    extent = said.max() - said.min()
    return float(abs(heights - said).max() / extent), float(abs(heights - really)[kept].max() / extent)


def _ground(workload: Workload, *, every: bool = False) -> Ground:
    drawn = workload.drawn()
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive=True, stochastic=False, whole=True)
    return Ground(workload.training, drawn, sample, limits_of(1e9, None, 0, exact=every), precise=False)


def _along(workload: Workload, frame: Frame, seed: int = 0) -> Seen:
    """Draw the line that ends where the first axis does, as those of `unstuck sharpness` are."""
    objective = workload.objective()
    objective.replay.fused = True  # as in all pictures
    judge = Judge(
        objective, Halves.of(len(workload.batches), exhaustive=True), objective.values(objective.theta)
    )
    line = Line(Looker(judge, None), frame.steps[0].to(objective.theta), limits_of(1e9, None, seed))
    heights = np.array([height.training for height in line.heights])
    return Seen(heights, PLACES - sum(line.interpolated), max(line.errors) / np.ptp(heights))


def _look(workload: Workload, frame: Frame, side: int, *, every: bool) -> Seen:
    """Draw the places of a square level by level, as `unstuck surface` does."""
    ground = _ground(workload, every=every)
    frame = dataclasses.replace(frame, steps=tuple(step.to(ground.theta) for step in frame.steps))
    return _drawn(ground, frame, ground.judge.forms(frame.steps), side)


def _drawn(ground: Ground, frame: Frame, forms: Forms, side: int) -> Seen:
    grid = Grid(frame, ground, quadratic_model(forms, ground.judged, frame))
    for level in LEVELS[: LEVELS.index(side) + 1]:
        for place in grid.missing(level):
            grid.look(place)
    plane = grid.plane()
    heights, errors = (np.array(sheet, dtype=float).T for sheet in (plane.training, plane.errors))
    return Seen(heights, plane.evaluated, errors.max() / np.ptp(heights))


def _filters(workload: Workload) -> Frame:
    """Two directions whose filters are as long as the weights' own, as `unstuck surface` draws them."""
    return random_frame(_ground(workload), workload.model)


def _even(workload: Workload) -> Frame:
    """Two directions, each tensor as long as the root of its size, and both as long as a fifth of the weights."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.cat([piece.detach().reshape(-1) for piece in workload.model.parameters()]).double()
    steps: list[Tensor] = []
    for _ in range(2):
        drawn = [
            torch.randn(piece.shape, generator=generator, dtype=torch.float64)
            for piece in workload.model.parameters()
        ]
        flat = torch.cat([(piece * math.sqrt(piece.numel()) / piece.norm()).reshape(-1) for piece in drawn])
        steps.append(0.2 * theta.norm() * flat / flat.norm())
    axes = [Axis(name, float(step.norm()), -1.0, 1.0) for name, step in zip("xy", steps, strict=True)]
    return Frame("even", (axes[0], axes[1]), (steps[0], steps[1]))


def _hessian(workload: Workload) -> list[list[object]]:
    walked: dict[str, Tensor] = {}
    evaluated: list[int] = []

    def ours() -> None:
        ground = _ground(workload)
        limits = ground.limits
        ends = both_ends(ground.judge, Means(ground.graphs, ground.room, limits.left, limits.generator()))
        frame = hessian_frame(ground, ends)
        walked["unstuck"] = frame.steps[0]
        evaluated[:] = [_drawn(ground, frame, ends.forms, SIDE).evaluated]

    def theirs() -> None:
        with landscapes.plain_attention():
            walked[LANDSCAPER.name] = landscapes.along_eigenvectors(
                landscapes.cast(workload, torch.float32), SIDE
            )

    turns = take_turns({"unstuck": ours, LANDSCAPER.name: theirs}, rounds=ROUNDS[workload.key])
    with landscapes.plain_attention():
        real = landscapes.Curvature(workload)
        errors = {name: abs(real.along(step) / real.largest - 1.0) for name, step in walked.items()}
    ratio = turns[LANDSCAPER.name].over(turns["unstuck"])
    places = SIDE * SIDE
    return [
        [workload.key, "hessian", who, "float32", places, count, turns[who].median, errors[who], "", "", last]
        for who, count, last in (("unstuck", evaluated[0], ""), (LANDSCAPER.name, places, ratio))
    ]
