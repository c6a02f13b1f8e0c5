"""Every measure in turn: what cannot be made is left out with its reason, and Ctrl-C loses only the last."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.landscape.ascent import ASAM_RADIUS, SAM_RADIUS, one_step, several_steps
from unstuck.landscape.box import DIRECTIONS, EPSILONS, highest_in_box, random_columns
from unstuck.landscape.eigen import Means, Steepest, steepest
from unstuck.landscape.ground import Ground, Limits
from unstuck.landscape.profiles import filter_direction, look_along, random_direction
from unstuck.landscape.records import Gradient, Measure, Profile, Survey
from unstuck.landscape.rises import Rise, Rises, together
from unstuck.measurements.records import Omission, Sample
from unstuck.objective import Draw
from unstuck.objective.sampling import reason
from unstuck.progress import Told
from unstuck.training import Training

# Random subspaces, whose scatter is the error of their mean.
_DRAWS = 3

# Share of the memory for the matrix of a random subspace.
_COLUMNS = 0.2


class Surveyor:
    """Measures one point; `survey` gives what is known by then.

    Args:
        training: What is looked at.
        drawn: The sample.
        sample: Its description.
        limits: What may be spent.

    Raises:
        TrainingError: The loss cannot be evaluated; the message says why.
        MeasurementError: The loss or its gradient is not finite.
    """

    def __init__(self, training: Training, drawn: Draw, sample: Sample, limits: Limits) -> None:
        self._ground = ground = Ground(training, drawn, sample, limits)
        self._limits, self._objective, self._judge = limits, ground.objective, ground.judge
        self._rises = Rises(ground.judge, ground.judged)
        self._steepest: Steepest | None = None
        self._measures: list[Measure] = []
        self._profiles: list[Profile] = []
        self._omitted: list[Omission] = []
        self._complete = False

    def run(self, told: Told) -> None:
        """Make every measure, the cheap ones first."""
        stages: tuple[tuple[str, str, Callable[[], None]], ...] = (
            ("sam", "the rise after one ascent step (SAM)", lambda: self._step("sam")),
            ("asam", "the same in units of each weight (ASAM)", lambda: self._step("asam")),
            ("lambda_max", "the steepest curvature", self._eigen),
            ("sam_steps", "the rise within a ball", lambda: self._steps("sam")),
            ("asam_steps", "the rise within a scaled ball", lambda: self._steps("asam")),
            ("keskar", "the rise within a box (Keskar)", lambda: self._boxes(subspace=False)),
            ("validation", "the loss on validation data", self._ground.hold),
            ("profiles", "the loss along directions", self._look),
            ("keskar_subspace", "the rise within random subspaces", lambda: self._boxes(subspace=True)),
        )
        for number, (name, words, stage) in enumerate(stages):
            told(words, 0.1 + 0.9 * number / len(stages))
            if self._limits.over():
                self._omit(name, "the time was over")
                continue
            try:
                stage()
            except Exception as error:  # strangers' models may raise anything
                self._omit(name, reason(error))
        self._complete = not self._limits.over()

    def survey(self) -> Survey:
        """Give what is known so far."""
        ground = self._ground
        return Survey(
            subject=ground.subject,
            sample=ground.sample,
            loss=ground.judge.loss(),
            validation=ground.validation,
            length=ground.objective.space.norm(ground.theta),
            gradient=self._gradient(),
            measures=tuple(self._measures),
            profiles=tuple(self._profiles),
            rise=ground.rise(),
            omitted=tuple(self._omitted),
            cost=ground.cost(self._steepest.engine if self._steepest else ""),
            complete=self._complete,
        )

    def _gradient(self) -> Gradient:
        ground, norm = self._ground, self._objective.space.norm
        mean = (ground.found + ground.judged) / 2.0
        decay = ground.decay()
        decayed = None if decay is None else norm(mean + decay * ground.theta)
        return Gradient(norm(mean), 0.5 * norm(ground.found - ground.judged), decayed)

    def _scales(self, name: str) -> tuple[float, Float[Tensor, " n"]]:
        """The radius and the scale of each weight: of SAM all one, of ASAM their own size."""
        theta = self._objective.theta
        if name == "sam":
            return SAM_RADIUS, torch.ones_like(theta)
        if not self._objective.space.square(theta):
            msg = "all weights are zero, and so is the ball that is scaled by them"
            raise MeasurementError(msg)
        return ASAM_RADIUS, theta.abs()

    def _step(self, name: str) -> None:
        radius, scales = self._scales(name)
        with self._made(name) as made:
            place = one_step(self._judge, self._ground.found, radius, scales)
            made(self._rises.absolute(place))

    def _steps(self, name: str) -> None:
        radius, scales = self._scales(name)
        start = random_direction(self._objective, self._limits.generator())
        if self._steepest is not None and self._objective.space.square(scales * self._steepest.top):
            start = self._steepest.top
        with self._made(f"{name}_steps") as made:
            first = one_step(self._judge, self._ground.found, radius, scales)
            made(self._rises.absolute(several_steps(self._judge, first, radius, scales, start)))

    def _eigen(self) -> None:
        ground, spent = self._ground, self._ground.spent
        means = Means(
            graphs=ground.graphs,
            room=ground.room,
            left=self._limits.left,
            generator=self._limits.generator(),
        )
        self._steepest = found = steepest(self._judge, self._ground.found, means)
        cost = self._ground.spent - spent
        self._measures += [
            Measure("lambda_max", found.value, found.found, None, cost),
            Measure("trace", found.trace, found.trace.value, None, cost),
        ]

    def _boxes(self, *, subspace: bool) -> None:
        theta, steepest_ = self._objective.theta, self._steepest
        if self._objective.space.parts is not None:
            msg = "L-BFGS-B looks for it, for which one process would have to hold all parameters"
            raise MeasurementError(msg)
        if subspace and DIRECTIONS * theta.nbytes > _COLUMNS * self._limits.memory:
            msg = f"{DIRECTIONS} directions of {theta.numel():,} parameters do not fit the memory"
            raise MeasurementError(msg)
        generator = self._limits.generator()
        drawn = [random_columns(theta, generator) for _ in range(_DRAWS)] if subspace else [None]
        corner = self._ground.found if steepest_ is None else steepest_.top
        for suffix, epsilon in zip(("", "_5e-4"), EPSILONS, strict=True):
            with self._made(f"keskar_subspace{suffix}" if subspace else f"keskar{suffix}") as made:
                places = [
                    highest_in_box(self._judge, epsilon, corner, columns, over=self._limits.over)
                    for columns in drawn
                ]
                rises = [self._rises.relative(place) for place in places]
                made(together(rises) if subspace else rises[0])

    def _look(self) -> None:
        theta, generator = self._objective.theta, self._limits.generator()
        found = self._steepest
        random = random_direction(self._objective, generator)
        scaled = filter_direction(self._objective.parameters, theta, generator)
        directions = {
            "random": random,
            "filters": None if scaled is None else scaled / self._objective.space.norm(scaled),
            "top": found and found.top,
            "second": found and found.second,
        }
        for name, direction in directions.items():
            if direction is not None and not self._limits.over():
                self._profiles.append(look_along(self._ground, name, direction))

    @contextmanager
    def _made(self, name: str) -> Generator[Callable[[Rise], None]]:
        """Give what takes a measure, and put down what was spent until then."""
        spent = self._ground.spent

        def take(rise: Rise) -> None:
            cost = self._ground.spent - spent
            self._measures.append(Measure(name, rise.value, rise.found, rise.slope, cost))

        yield take

    def _omit(self, name: str, why: str) -> None:
        self._omitted.append(Omission(name, why))
