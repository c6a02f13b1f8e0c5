"""What is known of one point so far, and the record that is made of it."""

import contextlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from unstuck.curvature.records import Curvature
from unstuck.errors import TrainingError
from unstuck.estimate import Estimate
from unstuck.measurements.bill import Bill
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.noise import measure_gradients
from unstuck.measurements.optimizer.steps import Slope
from unstuck.measurements.records import Gradient, Measurements, Omission, Route, Sample, Slice
from unstuck.measurements.records.outputs import Outputs
from unstuck.measurements.records.updates import NonFinite
from unstuck.measurements.subject import describe_subject
from unstuck.objective import Objective
from unstuck.objective.parameters import Parameters
from unstuck.objective.sampling import reason
from unstuck.training import Training

# A loss below this share of what moving by the weights' own length along the steepest direction would cost
# is zero for all practical purposes; without it, a perfect fit would be compared with rounding. What curvature says
# of that holds nearby only: far off most losses rise less, and what they are without weights, or with twice those, is
# looked at.
_ZERO_LOSS = 1e-6

# In the place of zero, which nothing can be compared with.
_NOTHING = 1e-300


@dataclass(frozen=True)
class Objectives:
    """The same loss twice.

    Attributes:
        own: In the training's own types, of all parameters, for whatever looks into the model.
        precise: In float64 where that is affordable, for the sign of small eigenvalues; else `own`. Of some
            parameters alone where only they are to be looked at.
    """

    own: Objective
    precise: Objective


class Known:
    """Everything that was found at one point by now.

    Attributes:
        judge: Compares losses, in the precise type; `own` does in the training's own.
        gradients: Of either half.
        finite: Whether neither a loss nor a gradient was NaN or Inf.
        flatness: ||Hg|| / ||g||.
        pace: Length of the optimizer's step over that of the gradient, where the step points along -g.
        ends: Lowest and highest curvature met in the Krylov space of g.
        routes: Ways down, by name.
        slices: The loss along eigenvectors.
        curvature: Once eigenvalues are known.
        surveyed: What stands by itself, by its field in `Measurements`.
        omitted: What could not be measured, and why.
        complete: Whether every question was answered.
        bill: What each measurement cost.
    """

    def __init__(self, training: Training, objectives: Objectives, sample: Sample, bill: Bill) -> None:
        self.training = training
        self.sample = sample
        objective = self.objective = objectives.precise
        self.bill = bill
        self.length = objective.space.norm(objective.theta)
        self.halves = Halves.of(len(objective.batches), exhaustive=sample.exhaustive)
        with self.bill.item("noise"):
            self.gradients = measure_gradients(objective, self.halves)
        self.finite = self.gradients.finite
        self.judge = self.own = Judge(objective, self.halves, self.gradients.values)
        if objectives.own is not objective:
            with self.bill.item("non_finite"):
                own = measure_gradients(objectives.own, self.halves)
            self.own = Judge(objectives.own, self.halves, own.values)
            # Computed in a wider type, everything may be finite where the training itself overflows.
            self.finite = self.finite and own.finite
        self.flatness: float | None = None
        self.pace: float | None = None
        self.ends: tuple[float, float] | None = None
        self.routes: dict[str, Route] = {}
        self.slices: list[Slice] = []
        self.curvature: Curvature | None = None
        self.surveyed: dict[str, Any] = {"noise": self.gradients.noise}
        self.omitted: list[Omission] = []
        self.complete = False

    def omit(self, name: str, error: Exception) -> None:
        """Leave a measurement out, with its reason."""
        self.omitted.append(Omission(name, reason(error)))

    def add(self, name: str, found: Any) -> None:
        """Take down what stands by itself; what is known of a floor of the loss from then on counts everywhere."""
        self.surveyed[name] = found
        if isinstance(found, Outputs) and found.room is not None:
            loss = self.judge.bare.loss().value
            self.judge.floor = self.own.floor = max(loss - found.room, 0.0)

    def measured(self) -> Measurements:
        """Give what is known so far."""
        return Measurements(
            subject=describe_subject(
                self.training, self.objective.parameters, decay=self.objective.decay is not None
            ),
            sample=self.sample,
            loss=self.judge.loss(),
            scale=self.scale(),
            penalty=self.objective.penalty(self.objective.theta),
            length=self.length,
            gradient=self.gradient(),
            routes=tuple(self.routes.values()),
            spectrum=self.curvature.spectrum if self.curvature else None,
            slices=tuple(self.slices),
            complete=self.complete,
            omitted=tuple(self.omitted),
            **self.surveyed,
        )

    def slope_of_finds(self) -> Slope:
        """The loss of the half that finds and its gradient, both without weight decay, as an optimizer takes them."""
        objective, gradient, value = self.objective, self.gradients.finds, self.judge.found(self.judge.base)
        if objective.decay is None:
            return value, gradient
        return value - objective.penalty(objective.theta), gradient - objective.decay * objective.theta

    def slope(self) -> float:
        """The largest gain that the gradient accounts for."""
        return max(self.routes[name].slope for name in ("gradient", "krylov"))

    def scale(self) -> float:
        """What a decrease is compared with."""
        loss = max(self.judge.scale(), _NOTHING)
        steepest = self.ends[1] if self.ends else 0.0
        radius = self.curvature.spectrum.radius if self.curvature else abs(steepest)
        costs = 0.5 * radius * max(self.length, 1.0) ** 2
        return loss if _ZERO_LOSS * costs <= loss else max(loss, _ZERO_LOSS * min(costs, self._far_off))

    @cached_property
    def _far_off(self) -> float:
        """The loss without weights, or with twice those there are, if that is higher; infinite where both fail."""
        theta, only = self.objective.theta, self.halves.finds[:1]
        far = list[float]()
        for factor in (0.0, 2.0):
            with contextlib.suppress(TrainingError):
                far.append(abs(self.objective.values(factor * theta, only)[0]))
        return max((loss for loss in far if 0.0 < loss < math.inf), default=math.inf)

    def gradient(self) -> Gradient:
        """Compare the gradient with its own noise, its rounding and its curvature."""
        finds, judges = self.gradients.finds, self.gradients.judges
        ends = self.ends or (0.0, 0.0)
        radius = self.curvature.spectrum.radius if self.curvature else max(map(abs, ends))
        # The parameters are rounded themselves, and the gradient changes with them.
        rounding = torch.finfo(finds.dtype).eps * radius * self.length
        norm = self.objective.space.norm(finds + judges) / 2.0
        # The halves differ by the noise of both; their mean has half of that.
        noise = 0.5 * self.objective.space.norm(finds - judges)
        steep = max(self.curvature.spectrum.lambda_max if self.curvature else ends[1], 0.0)
        known = self.flatness is not None and radius > 0.0 and norm > rounding
        return Gradient(
            norm=norm,
            rounding=rounding,
            noise=noise,
            flatness=self.flatness / radius if known and self.flatness is not None else None,
            stable=2.0 / (steep * self.pace) if steep and self.pace else None,
            steepest=self.ends[1] if self.ends else None,
            lowest=self.ends[0] if self.ends else None,
        )


def broken(training: Training, sample: Sample, found: NonFinite) -> Measurements:
    """What can be said where NaN or Inf forbids everything else."""
    nothing = _nothing(training, sample, Estimate(math.nan, math.inf))
    return replace(nothing, complete=True, non_finite=found)


def begun(training: Training, objective: Objective, sample: Sample) -> Measurements:
    """What can be said where Ctrl-C came before the gradient was known: the loss of one batch."""
    (value,) = objective.values(objective.theta, [0])
    return _nothing(training, sample, Estimate(value, math.inf))


def _nothing(training: Training, sample: Sample, loss: Estimate) -> Measurements:
    return Measurements(
        subject=describe_subject(training, Parameters(training.model), decay=False),
        sample=sample,
        loss=loss,
        scale=1.0,
        length=math.nan,
        gradient=Gradient(norm=math.nan, rounding=math.inf, noise=math.inf, flatness=None),
        routes=(),
        spectrum=None,
        slices=(),
        complete=False,
    )
