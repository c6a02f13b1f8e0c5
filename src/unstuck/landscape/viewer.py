"""Every picture in turn: all of them coarse before one of them is finer, and Ctrl-C keeps what there is."""

from collections.abc import Callable, Sequence

from unstuck.errors import MeasurementError
from unstuck.landscape.eigen import Ends, Means, both_ends
from unstuck.landscape.grid import LEVELS, Grid
from unstuck.landscape.ground import Ground, Limits
from unstuck.landscape.paths import Trajectory, path_frame
from unstuck.landscape.pictures import View
from unstuck.landscape.planes import Frame, hessian_frame, quadratic_model, random_frame
from unstuck.measurements.judging import Forms
from unstuck.measurements.records import Omission, Sample
from unstuck.objective import Draw
from unstuck.objective.sampling import reason
from unstuck.progress import Told
from unstuck.training import Training

Walked = Callable[[Ground], Trajectory]

# Share of the way that is behind before the first grid.
_PREPARED = 0.2

_OVER, _NO_TURN = "the time was over", "its turn did not come"


class Viewer:
    """Looks at one point; `view` gives what is known by then.

    Args:
        training: What is looked at.
        drawn: The sample.
        sample: Its description.
        limits: What may be spent.
        along: Names of the planes.
        walked: Gives a path to be looked along, if "path" is among them.

    Raises:
        TrainingError: The loss cannot be evaluated; the message says why.
        MeasurementError: The loss or its gradient is not finite.
    """

    def __init__(
        self,
        training: Training,
        drawn: Draw,
        sample: Sample,
        limits: Limits,
        along: Sequence[str],
        walked: Walked | None = None,
    ) -> None:
        self._ground = Ground(training, drawn, sample, limits, precise=False)
        self._training, self._limits, self._along = training, limits, tuple(along)
        self._walked = walked
        self._ends: Ends | None = None
        self._grids: list[Grid] = []
        self._omitted: list[Omission] = []

    def run(self, told: Told) -> None:
        """Look at everything."""
        self._attempt("validation", "the loss on validation data", self._ground.hold, told, 0.05)
        spans: dict[str, tuple[str, Callable[[], None]]] = {
            "random": ("random directions", self._random),
            "hessian": ("the directions of both ends of the spectrum", self._hessian),
            "path": ("the path of the weights", self._path),
        }
        for name in self._along:
            words, span = spans[name]
            self._attempt(name, words, span, told, 0.1)
        for side in LEVELS:
            for grid in self._grids:
                self._refine(grid, side, told)

    def view(self) -> View:
        """Give what is known so far."""
        ground, ends = self._ground, self._ends
        planes = tuple(grid.plane() for grid in self._grids)
        unseen = (Omission(plane.name, _NO_TURN) for plane in planes if not plane.evaluated)
        return View(
            subject=ground.subject,
            sample=ground.sample,
            loss=ground.judge.loss(),
            here=ground.here,
            validation=ground.validation,
            length=ground.objective.space.norm(ground.theta),
            rise=ground.rise(),
            planes=planes,
            lowest=ends and ends.lowest,
            highest=ends and ends.highest,
            omitted=(*self._omitted, *unseen),
            cost=ground.cost(ends.engine if ends else ""),
            complete={plane.name for plane in planes if plane.whole} == set(self._along),
        )

    def _attempt(self, name: str, words: str, stage: Callable[[], None], told: Told, share: float) -> None:
        told(words, share)
        if self._limits.over():
            self._omitted.append(Omission(name, _OVER))
            return
        try:
            stage()
        except Exception as error:  # strangers' models may raise anything
            self._omitted.append(Omission(name, reason(error)))

    def _random(self) -> None:
        frame = random_frame(self._ground, self._training.model)
        self._span(frame, self._ground.judge.forms(frame.steps))

    def _hessian(self) -> None:
        ground = self._ground
        means = Means(ground.graphs, ground.room, self._limits.left, self._limits.generator())
        self._ends = both_ends(ground.judge, means)
        self._span(hessian_frame(ground, self._ends), self._ends.forms)

    def _path(self) -> None:
        if self._walked is None:
            msg = "there is no path to look along"
            raise MeasurementError(msg)
        frame, path = path_frame(self._ground, self._walked(self._ground))
        self._grids.append(Grid(frame, self._ground, None, path))

    def _span(self, frame: Frame, forms: Forms) -> None:
        quadratic = quadratic_model(forms, self._ground, frame)
        self._grids.append(Grid(frame, self._ground, quadratic))

    def _refine(self, grid: Grid, side: int, told: Told) -> None:
        whole = len(self._grids) * LEVELS[-1] ** 2
        for place in grid.missing(side):
            if self._limits.over():
                return
            done = sum(each.known for each in self._grids)
            told(f"{grid.name}: {side} by {side} places", _PREPARED + (1.0 - _PREPARED) * done / whole)
            grid.look(place)
