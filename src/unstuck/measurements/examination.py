"""Everything that is measured at one point, step by step: an interruption loses only the last one."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck import processes
from unstuck.curvature.dense import dense_spectrum
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Curvature, Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.errors import MeasurementError
from unstuck.estimate import Estimate
from unstuck.measurements.ahead import go_on
from unstuck.measurements.bill import Bill
from unstuck.measurements.descent import KRYLOV_PRODUCTS, along_gradient, along_krylov, taken
from unstuck.measurements.following import follow
from unstuck.measurements.gathering import Gathered
from unstuck.measurements.known import Known, Objectives
from unstuck.measurements.noise import Gradients
from unstuck.measurements.optimizer.continuing import Pace
from unstuck.measurements.optimizer.metric import Metric, metric_of
from unstuck.measurements.optimizer.second_moments import known_key
from unstuck.measurements.optimizer.stability import (
    find_steepest,
    measure_stability,
    steepest_known,
    steepest_met,
)
from unstuck.measurements.optimizer.steps import next_step
from unstuck.measurements.records import Division, Measurements, Route, Sample
from unstuck.measurements.surveys import EARLY, LATE, STATE, Limits, Stage
from unstuck.objective.pace import finish
from unstuck.objective.products import Products
from unstuck.progress import Told
from unstuck.training import Training

# Up to this many parameters the Hessian is formed: 32 MB and a few seconds, and every eigenvalue is known.
DENSE = 2_000

# A gradient that promises this share of the loss says "not critical" by itself; the sign of lambda_min is
# then no longer the question, and a coarse look at the curvature is enough.
_CLEARLY_DESCENDING = 0.05

# At this share no curvature could outweigh it: an escape would have to gain three times as much, all of the loss.
_BEYOND_DOUBT = 1.0 / 3.0

# Of the time that is left, the products spent on the Krylov space of g take at most this share.
_KRYLOV_SHARE = 0.3

# The optimizer's next step is averaged over this many of the batches it might see.
_NEXT_BATCHES = 2

# What a verdict costs from there with products, in gradients over the sample, at least; without them it is half.
_WITH_PRODUCTS = 10.0

# Products with which the Krylov space of g is begun: enough to know the steepest curvature to some per cent.
_FIRST_PRODUCTS = 6

# With less time than a typical verdict takes, in gradients over the sample, the run itself is asked before curvature.
_TYPICAL = 60.0

# What it costs to follow the steps with what the optimizer remembers and without it, in gradients over the sample.
_FOLLOWED = 4.0

# What going on may cost, in gradients over the sample, and its share of the time that is left: of plenty, of little.
_ARMS_COST, _ARMS_SHARE, _ARMS_FIRST = 24.0, 0.4, 0.7

# The cosine between the optimizer's step and -g from which on the step counts as pointing along -g.
_ALONG = 0.9

_NO_TIME = MeasurementError("there was no time for it")

Enough = Callable[[Measurements], bool]


def _never(measured: Measurements) -> bool:
    """Go through to the end."""
    del measured
    return False


@dataclass(frozen=True)
class Asked:
    """Who says of what is known by now whether more has to be known.

    Attributes:
        explained: Once it is known what going on gains, whether other steps could change nothing.
        enough: Whether it answers the question, before the dear part.
        about_steps: Whether the answer is about the optimizer's steps, which are then looked at closer.
    """

    explained: Enough = _never
    enough: Enough = _never
    about_steps: Enough = _never


class Examination:
    """Measures one point; what is known so far can be asked for at any time by `measured`."""

    def __init__(
        self,
        training: Training,
        objectives: Objectives,
        sample: Sample,
        limits: Limits,
        bill: Bill,
        division: Division | None = None,
    ) -> None:
        begun = processes.clock()
        self._known = Known(training, objectives, sample, bill)
        self._seconds = processes.clock() - begun
        self._known.surveyed["division"] = division
        self._training = training
        self._objective = objectives.precise
        self._limits = replace(limits, gradient=self._seconds)
        self._metric: Metric | None = None
        self._gathered = Gathered(training, self._known.own, limits.data, limits.graphs)
        self.engine = ""

    def measured(self) -> Measurements:
        """Give what is known so far."""
        return self._known.measured()

    @property
    def finite(self) -> bool:
        """Whether neither a loss nor a gradient was NaN or Inf."""
        return self._known.finite

    def run(self, told: Told, asked: Asked | None = None) -> None:
        """Take every step in turn: the cheap ones first, the dear ones where those leave the question open.

        Args:
            told: Hears what is done next and which share of the whole is behind.
            asked: Who says whether what is known by now is enough; by default all is measured.
        """
        known, found, asked = self._known, self._known.gradients, asked or Asked()
        self._survey(EARLY, told, 0.04)
        told("the optimizer's own next step", 0.1)
        with known.bill.item("steps"):
            present = self._step()
        hasty = self._limits.left() < _TYPICAL * self._seconds
        if not hasty:
            self._survey(STATE, told, 0.11)
        else:
            self._hasten(found, present, told, asked)
            if self._limits.left() > _FOLLOWED * self._seconds:
                self._survey(STATE, told, 0.3)
            else:
                self._omit_state()
            known.complete = asked.enough(self.measured())
            if self._limits.left() < _WITH_PRODUCTS * self._seconds:
                known.omit("spectrum", _NO_TIME)
                return
            if known.complete:
                return
        if (curvature := self._curvature(found, present, told, asked)) is not None:
            self._follow(curvature, found, told)

    def _omit_state(self) -> None:
        known, optimizer = self._known, self._training.optimizer
        if optimizer is not None and optimizer.state:
            key, _ = known_key(optimizer, [slot.parameter for slot in self._objective.parameters.slots])
            known.omit("momentum" if key is None else "second_moment", _NO_TIME)

    def _curvature(self, found: Gradients, present: float, told: Told, asked: Asked) -> Curvature | None:
        """Look at slope and steps by products with the Hessian, and if these leave it open, for eigenvalues."""
        known = self._known
        with contextlib.ExitStack() as stack:
            with known.bill.item("products"):
                products = stack.enter_context(self._products())
            self.engine = products.engine
            run = self._descend(products, found, present, told)
            if "continuations" not in known.surveyed:
                self._look_ahead(told, asked, lambda: _ARMS_SHARE * self._limits.left())
            answered = self._answered(run, found, told, asked.enough)
            if not answered or asked.about_steps(self.measured()):
                self._weigh_steps(products, run, found.finds, told)
            known.complete = answered
            if answered:
                return None
            if self._limits.over():
                known.omit("spectrum", _NO_TIME)
                return None
            with known.bill.item("spectrum"):
                return self._eigenvalues(products, told, descending=self._descending())

    def _descending(self) -> bool:
        """Whether no escape is called for; it is where units are alike, across which no slope leads."""
        return self._slopes(_CLEARLY_DESCENDING)

    def _slopes(self, share: float) -> bool:
        """Whether the gradient accounts for this share of the loss, and no symmetry hides what lies across it."""
        return not self.measured().alike and self._known.slope() > share * self._known.scale()

    def _follow(self, curvature: Curvature, found: Gradients, told: Told) -> None:
        """Add where the eigenvectors lead to what is known, as far as there is time."""
        known, descending = self._known, self._descending()
        known.curvature = curvature
        if curvature.interrupted:
            raise KeyboardInterrupt
        self._weigh_steps_again(curvature)
        try:
            follow(known, curvature, found.judges, told, self._limits, descending=descending)
        except MeasurementError as error:
            known.omit("curvature", error)
        else:
            known.complete = curvature.settled

    def _hasten(self, found: Gradients, present: float, told: Told, asked: Asked) -> None:
        """Look along g, into the layers, and ahead, before any product."""
        known = self._known
        self._look_along(found, present or max(known.length, 1.0), present, told, shown=False)
        known.routes["krylov"] = _as_krylov(known.routes["gradient"])
        # Nothing that follows needs its part kept.
        self._look_ahead(told, asked, lambda: _ARMS_FIRST * self._limits.rest())

    def _look_ahead(self, told: Told, asked: Asked, allowed: Callable[[], float]) -> None:
        """Look into layers and data, and go on with the run on copies for so many seconds as are allowed then."""
        self._survey(LATE, told, 0.15)
        told("going on for some steps on a copy", 0.25)
        with self._known.bill.item("continuations"):
            go_on(self._known, self._training, self._limits, self._pace(allowed()), asked.explained)

    def _pace(self, seconds: float) -> Pace:
        """So much time may be spent on going on."""
        begun = processes.clock()
        line = self._known.routes.get("gradient")
        return Pace(
            min(_ARMS_COST, seconds / max(self._seconds, 1e-9)),
            lambda: processes.clock() - begun > seconds,
            furthest=(line.multiple if line else None) or 1.0,
        )

    def _products(self) -> Products:
        halves, objective = self._known.halves, self._objective
        return objective.products(objective.theta, halves.finds, memory=self._limits.graphs)

    def _answered(self, run: Lanczos | None, found: Gradients, told: Told, enough: Enough) -> bool:
        """Whether no curvature could change the answer; if need be after a longer look into the Krylov space."""
        if enough(self.measured()):
            return True
        told("the ways down from here", 0.35)
        if run is not None:
            self._advance(run, KRYLOV_PRODUCTS, found)
            self._known.flatness = math.hypot(*run.projected[:2, 0], run.coupling[0])
        return enough(self.measured()) or self._slopes(_BEYOND_DOUBT)

    def _survey(self, stages: Sequence[Stage], told: Told, share: float) -> None:
        """Make the measurements that stand by themselves; one that cannot be made is left out with its reason."""
        known = self._known
        for stage in stages:
            told(stage.words, share)
            if stage.name == "validation" and self._training.validation is None:
                continue
            with known.bill.item(stage.name):
                try:
                    known.add(stage.name, self._surveyed(stage))
                except Exception as error:  # strangers' models and optimizers may raise anything
                    known.omit(stage.name, error)

    def _surveyed(self, stage: Stage) -> Any:
        training, own, limits = self._training, self._known.own, self._limits
        if not stage.apart or processes.count() == 1:
            return stage.measure(training, own, limits)
        if not self._gathered.possible:
            if stage.divided is None:
                msg = "it looks into the model, and no process has the room for all of it"
                raise MeasurementError(msg)
            return stage.divided(training, own, limits)
        self._gathered.bring()
        # What all have done together, one does by itself.
        alone = replace(limits, gradient=processes.count() * limits.gradient)
        found, examples = processes.once(lambda: self._alone(stage, alone))
        if processes.rank():
            own.objective.ledger.examples += examples
        return found

    def _alone(self, stage: Stage, limits: Limits) -> tuple[Any, float]:
        ledger = self._known.own.objective.ledger
        before = ledger.examples
        found = stage.measure(self._gathered.training, self._gathered.judge(), limits)
        return found, ledger.examples - before

    def _step(self) -> float:
        """Measure what the optimizer itself would gain; give the length of its step on the whole gradient."""
        optimizer, known, space = self._training.optimizer, self._known, self._objective.space
        finds, judge = known.halves.finds, known.judge
        if optimizer is None:
            return 0.0
        try:
            steps = [next_step(self._objective, optimizer, [index]) for index in finds[:_NEXT_BATCHES]]
            whole = next_step(self._objective, optimizer, finds, known.slope_of_finds())
            exact = whole
            if space.norm(whole) == 0.0:  # lost to rounding, and yet so many times too short
                exact = next_step(
                    self._objective, optimizer, finds, known.slope_of_finds(), torch.float64
                ).to(whole)
        except Exception as error:  # a stranger's optimizer may raise anything
            known.omit("steps", error)
            return 0.0
        known.routes |= {"now": taken("now", judge, steps), "full": taken("full", judge, [whole])}
        length, found = space.norm(exact), known.gradients.finds
        slope = space.norm(found)
        if -space.dot(exact, found) > _ALONG * length * slope:
            known.pace = length / slope
        return length

    def _descend(self, products: Products, found: Gradients, present: float, told: Told) -> Lanczos | None:
        """Look along g and a little way into its Krylov space, and go on with the optimizer; None if g is zero."""
        known, norm = self._known, self._objective.space.norm(found.finds)
        if norm == 0.0:
            self._look_along(found, 0.0, present, told)
            known.routes["krylov"] = _as_krylov(known.routes["gradient"])
            return None
        with known.bill.item("gradient"):
            run = Lanczos(self._operator(products), found.finds, room=self._limits.room)
            run.step()
        bend = abs(float(run.projected[0, 0]))
        # Where the loss is straight along g, as an L1 or a hinge loss is, its bend is rounding and says nothing.
        furthest = max(known.length, 1.0)
        self._look_along(found, min(norm / bend, furthest) if bend > 0.0 else furthest, present, told)
        self._advance(run, _FIRST_PRODUCTS, found)
        return run

    def _look_along(
        self, found: Gradients, first: float, present: float, told: Told, *, shown: bool = True
    ) -> None:
        """Look along -g, at the distance `first` first."""
        known = self._known
        told("the way down along the gradient", 0.12)
        with known.bill.item("gradient"):
            known.routes["gradient"] = (
                along_gradient(known.judge, found.finds, found.judges, first, present, shown=shown)
                if self._objective.space.norm(found.finds) > 0.0
                else Route("gradient", Estimate(0.0, 0.0), 0.0, 0.0)
            )

    def _advance(self, run: Lanczos, products: int, found: Gradients) -> None:
        """Go on in the Krylov space of g, and see how low the best step within it gets."""
        known = self._known
        with known.bill.item("krylov"):
            # The eigenvalues are yet to come, so these products may not take all the time that is left.
            reserve = (1.0 - _KRYLOV_SHARE) * self._limits.left()
            while run.products < min(products, self._limits.room.vectors - 2) and not run.finished:
                if run.products and self._limits.left() < reserve:
                    break
                run.step()
            ritz = run.ritz()
            known.ends = float(ritz.values.min()), float(ritz.values.max())
            known.routes["krylov"] = (
                along_krylov(known.judge, run, found.finds, found.judges)
                if run.products > 1 or run.finished
                else _as_krylov(known.routes["gradient"])
            )

    def _weigh_steps(
        self, products: Products, run: Lanczos | None, finds: Float[Tensor, " n"], told: Told
    ) -> None:
        """Compare the optimizer's steps with what the steepest direction bears, in its own metric."""
        optimizer, limits, known = self._training.optimizer, self._limits, self._known
        if optimizer is None:
            return
        told("the step that the steepest direction bears", 0.38)
        with known.bill.item("stability"):
            try:
                metric = metric_of(optimizer, self._objective)
                found = (
                    find_steepest(metric, products, finds, limits.over, seed=limits.seed)
                    if run is None or metric.uniform is None
                    else steepest_met(run, metric.uniform)
                )
                known.surveyed["stability"] = measure_stability(optimizer, known.judge, metric, found)
            except Exception as error:  # a stranger's optimizer may hold anything
                known.omit("stability", error)
                return
        self._metric = metric

    def _weigh_steps_again(self, curvature: Curvature) -> None:
        """The eigenvalues say it better, where one rate serves all parameters."""
        optimizer, metric, known = self._training.optimizer, self._metric, self._known
        if optimizer is None or metric is None or metric.uniform is None:
            return
        with known.bill.item("stability"):
            found = steepest_known(curvature, metric.uniform)
            known.surveyed["stability"] = measure_stability(optimizer, known.judge, metric, found)

    def _eigenvalues(self, products: Products, told: Told, *, descending: bool) -> Curvature:
        operator = self._operator(products)

        def behind(share: float) -> None:
            told("eigenvalues", 0.4 + 0.4 * share)

        formed = operator.size <= DENSE and self._objective.space.parts is None
        if formed and not descending and self._forming_fits(operator):
            return dense_spectrum(
                operator, products.block, block=32, progress=lambda done: behind(done / operator.size)
            )
        return spectrum(
            operator,
            Question(tolerance=1e-2, negative_to=None) if descending else Question(top=3, probes=4),
            torch.Generator().manual_seed(self._limits.seed),
            room=self._limits.room,
            # How many products it will take is not known; sixty are typical.
            progress=lambda progress: behind(1.0 - math.exp(-progress.products / 60.0)),
            should_stop=self._limits.over,
        )

    def _forming_fits(self, operator: Operator) -> bool:
        """Whether the Hessian can be formed in half of the time that is left, going by one product."""
        finish(operator.like.device)
        begun = processes.clock()
        operator.matvec(torch.ones_like(operator.like))
        finish(operator.like.device)
        return (processes.clock() - begun) * operator.size < 0.5 * self._limits.left()

    def _operator(self, products: Products) -> Operator:
        space = self._objective.space
        return Operator(products, space.size, self._objective.theta, products.noise, space.reduce, space.draw)


def _as_krylov(gradient: Route) -> Route:
    """The Krylov space of one product is g alone."""
    return Route("krylov", gradient.gain, gradient.slope, gradient.distance)
