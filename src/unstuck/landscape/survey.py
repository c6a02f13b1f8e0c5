"""Every measure in turn: what cannot be made is left out with its reason, and Ctrl-C loses only the last."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError, UnstuckError
from unstuck.estimate import Estimate, weighted_mean
from unstuck.landscape.ascent import ASAM_RADIUS, SAM_RADIUS, one_step, several_steps
from unstuck.landscape.box import DIRECTIONS, EPSILONS, highest_in_box, random_columns
from unstuck.landscape.eigen import Means, Steepest, steepest
from unstuck.landscape.profiles import filter_direction, look_along, random_direction
from unstuck.landscape.records import Gradient, Measure, Profile, Survey
from unstuck.landscape.rises import Rise, Rises, together
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.noise import measure_gradients
from unstuck.measurements.records import Cost, Omission, Sample
from unstuck.measurements.subject import describe_subject
from unstuck.objective import Draw, Objective, draw
from unstuck.objective.decay import decay_coefficients
from unstuck.objective.ledger import Ledger, peak_bytes
from unstuck.objective.sampling import reason
from unstuck.training import Training

Told = Callable[[str, float], None]

# Up to so many parameters everything is computed in float64: at 1e-3 of the weights' size a loss rises by little.
PRECISE = 100_000

# Random subspaces, whose scatter is the error of their mean.
_DRAWS = 3

# Without a loss to compare it with, as where every example is fitted, a rise of this much is looked at.
_SMALLEST_RISE = 1e-3


@dataclass(frozen=True)
class Limits:
    """What may be spent.

    Attributes:
        left: Seconds that are left.
        memory: Bytes.
        seed: Of all randomness.
    """

    left: Callable[[], float]
    memory: float
    seed: int


# Shares of the memory: for graphs, for Lanczos vectors, for the matrix of a random subspace.
_GRAPHS, _VECTORS, _COLUMNS = 0.35, 0.25, 0.2


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
        self._began = time.monotonic()
        self._training = training
        self._limits = limits
        self._sample = sample
        self.ledger = Ledger()
        # The papers' loss is without weight decay, which sees no data and has no generalisation to lose.
        self._objective = _objective(replace(training, optimizer=None), drawn, self.ledger)
        halves = Halves.of(len(drawn.batches), exhaustive=sample.exhaustive)
        found = measure_gradients(self._objective, halves)
        if not found.finite:
            msg = "the loss or its gradient is not finite here: `unstuck diagnose` tells where that arises"
            raise MeasurementError(msg)
        self._found, self._judged = found.finds, found.judges
        self._judge = Judge(self._objective, halves, found.values)
        self._rises = Rises(self._judge, found.judges)
        self._steepest: Steepest | None = None
        self._measures: list[Measure] = []
        self._profiles: list[Profile] = []
        self._omitted: list[Omission] = []
        self._held: Objective | None = None
        self._validation: Estimate | None = None
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
            ("validation", "the loss on validation data", self._hold),
            ("profiles", "the loss along directions", self._look),
            ("keskar_subspace", "the rise within random subspaces", lambda: self._boxes(subspace=True)),
        )
        for number, (name, words, stage) in enumerate(stages):
            told(words, 0.1 + 0.9 * number / len(stages))
            if self._over():
                self._omit(name, "the time was over")
                continue
            try:
                stage()
            except Exception as error:  # strangers' models may raise anything
                self._omit(name, reason(error))
        self._complete = not self._over()

    def survey(self) -> Survey:
        """Give what is known so far."""
        judge = self._judge
        return Survey(
            subject=describe_subject(self._training, self._objective.parameters, decay=False),
            sample=self._sample,
            loss=judge.loss(),
            validation=self._validation,
            length=float(self._objective.theta.norm()),
            gradient=self._gradient(),
            measures=tuple(self._measures),
            profiles=tuple(self._profiles),
            rise=self._rise(),
            omitted=tuple(self._omitted),
            cost=Cost(
                gradients=self.ledger.gradients(self._sample.examples),
                products=self.ledger.products,
                seconds=time.monotonic() - self._began,
                peak_bytes=peak_bytes(),
                engine=self._steepest.engine if self._steepest else "",
            ),
            complete=self._complete,
        )

    def _gradient(self) -> Gradient:
        mean = (self._found + self._judged) / 2.0
        decay = decay_coefficients(self._training.optimizer, self._objective.parameters)
        decayed = None if decay is None else float((mean + decay * self._objective.theta).norm())
        return Gradient(float(mean.norm()), 0.5 * float((self._found - self._judged).norm()), decayed)

    def _rise(self) -> float:
        loss = self._judge.loss().value
        gap = abs(self._validation.value - loss) if self._validation else 0.0
        return max(abs(loss), gap if math.isfinite(gap) else 0.0, _SMALLEST_RISE)

    def _scales(self, name: str) -> tuple[float, Float[Tensor, " n"]]:
        """The radius and the scale of each weight: of SAM all one, of ASAM their own size."""
        theta = self._objective.theta
        if name == "sam":
            return SAM_RADIUS, torch.ones_like(theta)
        if not bool(theta.any()):
            msg = "all weights are zero, and so is the ball that is scaled by them"
            raise MeasurementError(msg)
        return ASAM_RADIUS, theta.abs()

    def _step(self, name: str) -> None:
        radius, scales = self._scales(name)
        with self._made(name) as made:
            place = one_step(self._judge, self._found, radius, scales)
            made(self._rises.absolute(place))

    def _steps(self, name: str) -> None:
        radius, scales = self._scales(name)
        start = random_direction(self._objective.theta, self._generator())
        if self._steepest is not None and bool((scales * self._steepest.top).any()):
            start = self._steepest.top
        with self._made(f"{name}_steps") as made:
            first = one_step(self._judge, self._found, radius, scales)
            made(self._rises.absolute(several_steps(self._judge, first, radius, scales, start)))

    def _eigen(self) -> None:
        limits, spent = self._limits, self._spent()
        vectors = _VECTORS * limits.memory / self._objective.theta.nbytes
        means = Means(
            graphs=_GRAPHS * limits.memory,
            capacity=int(min(max(vectors, 8), 512)),
            left=limits.left,
            generator=self._generator(),
        )
        self._steepest = found = steepest(self._judge, self._found, means)
        cost = self._spent() - spent
        self._measures += [
            Measure("lambda_max", found.value, found.found, None, cost),
            Measure("trace", found.trace, found.trace.value, None, cost),
        ]

    def _boxes(self, *, subspace: bool) -> None:
        theta, steepest_ = self._objective.theta, self._steepest
        if subspace and DIRECTIONS * theta.nbytes > _COLUMNS * self._limits.memory:
            msg = f"{DIRECTIONS} directions of {theta.numel():,} parameters do not fit the memory"
            raise MeasurementError(msg)
        generator = self._generator()
        drawn = [random_columns(theta, generator) for _ in range(_DRAWS)] if subspace else [None]
        corner = self._found if steepest_ is None else steepest_.top
        for suffix, epsilon in zip(("", "_5e-4"), EPSILONS, strict=True):
            with self._made(f"keskar_subspace{suffix}" if subspace else f"keskar{suffix}") as made:
                places = [
                    highest_in_box(self._judge, epsilon, corner, columns, over=self._over)
                    for columns in drawn
                ]
                rises = [self._rises.relative(place) for place in places]
                made(together(rises) if subspace else rises[0])

    def _hold(self) -> None:
        training = self._training
        if training.validation is None:
            return
        try:
            drawn = draw(
                training.validation,
                seed=self._limits.seed,
                enough=lambda _, examples: examples >= self._sample.examples,
            )
            held = _objective(replace(training, optimizer=None), drawn, self.ledger)
            values = held.values(held.theta)
        except UnstuckError as error:
            raise MeasurementError(str(error).replace("`data`", "`validation`")) from error
        mean = weighted_mean(values, held.weights)
        whole = drawn.exhausted and not self._sample.stochastic
        self._held = held if math.isfinite(mean.value) else None
        self._validation = replace(mean, stderr=self._judge.rounding) if whole else mean

    def _look(self) -> None:
        theta, generator = self._objective.theta, self._generator()
        found = self._steepest
        directions = {
            "random": random_direction(theta, generator),
            "filters": filter_direction(self._objective.parameters, theta, generator),
            "top": found and found.top,
            "second": found and found.second,
        }
        for name, direction in directions.items():
            if direction is not None and not self._over():
                profile = look_along(self._judge, self._held, name, direction, rise=self._rise())
                self._profiles.append(profile)

    @contextmanager
    def _made(self, name: str) -> Generator[Callable[[Rise], None]]:
        """Give what takes a measure, and put down what was spent until then."""
        spent = self._spent()

        def take(rise: Rise) -> None:
            cost = self._spent() - spent
            self._measures.append(Measure(name, rise.value, rise.found, rise.slope, cost))

        yield take

    def _over(self) -> bool:
        return self._limits.left() <= 0.0

    def _spent(self) -> float:
        return self.ledger.gradients(self._sample.examples)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._limits.seed)

    def _omit(self, name: str, why: str) -> None:
        self._omitted.append(Omission(name, why))


def _objective(training: Training, drawn: Draw, ledger: Ledger) -> Objective:
    own = Objective(training, drawn.batches, ledger=ledger)
    if own.size > PRECISE or own.parameters.dtype == torch.float64:
        return own
    try:
        return Objective(training, drawn.batches, ledger=ledger, dtype=torch.float64)
    except UnstuckError:  # a loss that insists on its own type
        return own
