"""Pictures of the loss around the weights: CPU time and heights against loss-landscapes and landscaper.

Everybody looks at the same places of the same plane through the same trained network, on the same batches, in turns
of one process. `error` is the largest difference to the loss in float64 at the place that a height is said to belong
to, over the range of heights in the picture; `where it looked` the same at the place where the peer really was, and
without the heights that it altered. Times begin at the model and the batches; ours hold the gradient, which the
reach and the model of second order need, and its error for every height. The last column is the CPU time of the
best peer that is as precise (its model and data cast to float64 where we compute in float64), over ours: above 1 we
are cheaper.

- a: tanh MLP of 9 thousand parameters on 1797 digits; b: conv net of 60 thousand, c: transformer of 200 thousand,
  both on 256 digits. Up to 100 thousand parameters our pictures are computed in float64.
- line: 33 places along a random direction; plane: a square of places along two, filter-normalised where the peer
  takes such directions (loss-landscapes), and each tensor as long as the root of its size where the peer rescales
  all to that (landscaper).
- hessian: from nothing but the model to the picture along eigenvectors; landscaper by its own way, the two largest in
  size by power iteration with graphs kept, ours by both ends of the spectrum. `error` is then that of the curvature
  along the first axis as walked, against the largest eigenvalue.

We are dearer here, for what surrounds each evaluation (dropout and buffers put back, the batch copied, the plain
attention kernel), for the gradient, three products and the error of heights that come with a picture, for both ends
of the spectrum where landscaper takes the largest in size, and most of all for float64, which a conv net pays for
dearly.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from unstuck.landscape.ground import PRECISE, Ground, limits_of
from unstuck.landscape.pictures import Axis
from unstuck.landscape.planes import Frame, hessian_frame, measure_quadratic, random_frame
from unstuck.measurements.records import Sample

SIDES = {"a": 17, "b": 9, "c": 9}
BATCHES = {"a": 8, "b": 1, "c": 1}
ROUNDS = {"a": 5, "b": 2, "c": 2}
LINE = 33
COLUMNS = (
    "workload", "picture", "contestant", "type", "places", "CPU s", "error", "where it looked", "best peer / ours"
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


def run(only: Sequence[str] | None = None, peers: Sequence[str] | None = None) -> list[Table]:
    """Let everybody draw everything, or some."""
    invited = {peer.name for peer in present((LOSS_LANDSCAPES, LANDSCAPER), peers)}
    rows: list[list[object]] = []
    for workload in workloads():
        if invited and (only is None or workload.key in only):
            cut = dataclasses.replace(workload, batches=workload.batches[: BATCHES[workload.key]])
            rows += _pictures(cut, invited)
    facts = habits(invited)
    return [Table("The same places", COLUMNS, rows, keys=4), facts]


def _pictures(workload: Workload, invited: set[str]) -> list[list[object]]:
    side = SIDES[workload.key]
    found = _square(workload, "line", _even(workload), LINE, invited)
    if LOSS_LANDSCAPES.name in invited:
        found += _square(workload, "plane, filters", _filters(workload), side, invited - {LANDSCAPER.name})
    if LANDSCAPER.name in invited:
        found += _square(workload, "plane, tensors", _even(workload), side, invited)
    return found + (_hessian(workload, side) if LANDSCAPER.name in invited else [])


def _square(
    workload: Workload, picture: str, frame: Frame, side: int, invited: set[str]
) -> list[list[object]]:
    line = picture == "line"
    count = side if line else side * side
    precise = torch.float64 if workload.size <= PRECISE else torch.float32
    places = [(x, 0.0) for x in landscapes.positions(frame, side)]
    if not line:
        places = [(x, y) for x, _ in places for y in landscapes.positions(frame, side)]
    ours = Contestant("unstuck", precise, lambda: _look(workload, frame, side, line=line))
    entered = [ours, *_rivals(workload, frame, side, invited, line=line, types={precise, torch.float32})]
    turns = take_turns(
        {f"{each.who} {each.dtype}": each.draw for each in entered}, rounds=ROUNDS[workload.key]
    )
    seconds = {each: turns[f"{each.who} {each.dtype}"] for each in entered}
    best = min((each for each in entered[1:] if each.dtype == precise), key=lambda each: seconds[each].median)
    truth = landscapes.Truth(workload, frame)
    rows: list[list[object]] = []
    for each in entered:
        heights = each.draw().reshape(-1)
        ratio = seconds[best].over(seconds[ours]) if each is best else ""
        errors = _errors(truth, heights, places, each, side if not line else 0, frame)
        kind = str(each.dtype).removeprefix("torch.")
        rows.append([workload.key, picture, each.who, kind, count, seconds[each].median, *errors, ratio])
    return rows


def _rivals(
    workload: Workload,
    frame: Frame,
    side: int,
    invited: set[str],
    *,
    line: bool,
    types: set[torch.dtype],
) -> list[Contestant]:
    found: list[Contestant] = []
    for dtype in sorted(types, key=str):
        cast = landscapes.cast(workload, dtype)
        if LOSS_LANDSCAPES.name in invited:
            draw = landscapes.by_interpolation(cast, frame, side, line=line)
            shifts = (lambda _: 0) if line else landscapes.shift_of_interpolation
            found.append(Contestant(LOSS_LANDSCAPES.name, dtype, draw, shifts))
        if LANDSCAPER.name in invited:
            draw = landscapes.by_landscaper(cast, frame, side, line=line)
            found.append(Contestant(LANDSCAPER.name, dtype, draw, altered=True))
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


def _ground(workload: Workload) -> Ground:
    drawn = workload.drawn()
    sample = Sample(drawn.examples, len(drawn.batches), exhaustive=True, stochastic=False, whole=True)
    return Ground(workload.training, drawn, sample, limits_of(1e9, None, 0))


def _look(workload: Workload, frame: Frame, side: int, *, line: bool) -> Heights:
    """Draw ours: all places of a square level by level as `unstuck surface` does, or those of a line."""
    ground = _ground(workload)
    frame = dataclasses.replace(frame, steps=tuple(step.to(ground.theta) for step in frame.steps))
    if line:
        judge, theta = ground.judge, ground.theta
        return np.array(
            [judge.judged(judge.look(frame.at(theta, x, 0.0))) for x in landscapes.positions(frame, side)]
        )
    return _drawn(ground, frame, side)


def _drawn(ground: Ground, frame: Frame, side: int) -> Heights:
    grid = Grid(frame, ground, measure_quadratic(ground.judge, ground.judged, frame))
    for level in LEVELS[: LEVELS.index(side) + 1]:
        for place in grid.missing(level):
            grid.look(place)
    return np.array(grid.plane().training, dtype=float).T


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


def _hessian(workload: Workload, side: int) -> list[list[object]]:
    walked: dict[str, Tensor] = {}

    def ours() -> None:
        ground = _ground(workload)
        limits = ground.limits
        means = Means(ground.graphs, ground.capacity, limits.left, limits.generator())
        frame = hessian_frame(ground, both_ends(ground.judge, means))
        walked["unstuck"] = frame.steps[0]
        _drawn(ground, frame, side)

    def theirs() -> None:
        walked[LANDSCAPER.name] = landscapes.along_eigenvectors(
            landscapes.cast(workload, torch.float32), side
        )

    with landscapes.plain_attention():
        turns = take_turns({"unstuck": ours, LANDSCAPER.name: theirs}, rounds=ROUNDS[workload.key])
        real = landscapes.Curvature(workload)
        errors = {name: abs(real.along(step) / real.largest - 1.0) for name, step in walked.items()}
    ratio = turns[LANDSCAPER.name].over(turns["unstuck"])
    count = side * side
    kind = "float64" if workload.size <= PRECISE else "float32"
    head = [workload.key, "hessian"]
    return [
        [*head, "unstuck", kind, count, turns["unstuck"].median, errors["unstuck"], "", ""],
        [
            *head,
            LANDSCAPER.name,
            "float32",
            count,
            turns[LANDSCAPER.name].median,
            errors[LANDSCAPER.name],
            "",
            ratio,
        ],
    ]
