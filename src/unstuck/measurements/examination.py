"""Everything that is measured at one point, step by step: an interruption loses only the last one."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.curvature.dense import dense_spectrum
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Curvature, Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.errors import UnstuckError
from unstuck.estimate import Estimate
from unstuck.measurements.continuing import Pace, measure_continuations
from unstuck.measurements.descent import (
    KRYLOV_PRODUCTS,
    along_curvature,
    along_gradient,
    along_krylov,
    onward,
    shaken,
    taken,
)
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.metric import Metric, metric_of
from unstuck.measurements.noise import Gradients, measure_gradients
from unstuck.measurements.records import Gradient, Measurements, Omission, Route, Sample, Slice
from unstuck.measurements.records.updates import NonFinite
from unstuck.measurements.slices import look_along, natural_reach
from unstuck.measurements.stability import (
    find_steepest,
    measure_stability,
    steepest_known,
    steepest_met,
)
from unstuck.measurements.steps import next_step
from unstuck.measurements.subject import describe_subject
from unstuck.measurements.surveys import EARLY, LATE, Limits, Stage
from unstuck.objective import Objective
from unstuck.objective.parameters import Parameters
from unstuck.objective.products import Products
from unstuck.objective.sampling import one_line
from unstuck.training import Training

# Up to this many parameters the Hessian is formed: 32 MB and a few seconds, and every eigenvalue is known.
DENSE = 2_000

# A loss below this share of what moving by the weights' own length along the steepest direction would cost
# is zero for all practical purposes; without it, a perfect fit would be compared with rounding.
_ZERO_LOSS = 1e-6

# A gradient that promises this share of the loss says "not critical" by itself; the sign of lambda_min is
# then no longer the question, and a coarse look at the curvature is enough.
_CLEARLY_DESCENDING = 0.05

# At this share no curvature could outweigh it: an escape would have to gain three times as much, all of the loss.
_BEYOND_DOUBT = 1.0 / 3.0

# Of the time that is left, the products spent on the Krylov space of g take at most this share.
_KRYLOV_SHARE = 0.3

# The optimizer's next step is averaged over this many of the batches it might see.
_NEXT_BATCHES = 4

# Products with which the Krylov space of g is begun: enough to know the steepest curvature to some per cent.
_FIRST_PRODUCTS = 6

# What going on may cost, in gradients over the sample, and its share of the time that is left.
_ARMS_COST, _ARMS_SHARE = 24.0, 0.4

# The cosine between the optimizer's step and -g from which on the step counts as pointing along -g.
_ALONG = 0.9

# Negative curvature is compared with plain descent when it gains this many times what the slope does.
_COMPARED = 2.0


Told = Callable[[str, float], None]
Enough = Callable[[Measurements], bool]


def _never(measured: Measurements) -> bool:
    """Go through to the end."""
    del measured
    return False


@dataclass(frozen=True)
class Objectives:
    """The same loss twice.

    Attributes:
        own: In the training's own types, for whatever looks into the model.
        precise: In float64 where that is affordable, for the sign of small eigenvalues; else `own`.
    """

    own: Objective
    precise: Objective


class Examination:
    """Measures one point; what is known so far can be asked for at any time by `measured`."""

    def __init__(self, training: Training, objectives: Objectives, sample: Sample, limits: Limits) -> None:
        self._training = training
        objective = self._objective = objectives.precise
        self._sample = sample
        self._limits = limits
        self._length = float(objective.theta.norm())
        self._halves = Halves.of(len(objective.batches), exhaustive=sample.exhaustive)
        self._judge = Judge(objective, self._halves, objective.values(objective.theta))
        self._own = self._judge
        if objectives.own is not objective:
            own = objectives.own
            self._own = Judge(own, self._halves, own.values(own.theta))
        self._gradients: Gradients | None = None
        self._flatness: float | None = None
        self._rate: float | None = None
        self._ends: tuple[float, float] | None = None
        self._descending = False
        self._routes: dict[str, Route] = {}
        self._slices: list[Slice] = []
        self._curvature: Curvature | None = None
        self._metric: Metric | None = None
        self._surveyed: dict[str, Any] = {}
        self._omitted: list[Omission] = []
        self._complete = False
        self.engine = ""

    def run(self, told: Told, *, enough: Enough = _never, about_steps: Enough = _never) -> None:
        """Take every step in turn: the cheap ones first, the dear ones where those leave the question open.

        Args:
            told: Hears what is done next and which share of the whole is behind.
            enough: Is asked whether what is known by now answers the question, before the dear part.
            about_steps: Is asked whether the answer is about the optimizer's steps, which are then looked at closer.
        """
        told("the gradient", 0.02)
        found = self._gradients = measure_gradients(self._objective, self._halves)
        self._surveyed["noise"] = found.noise
        self._survey(EARLY, told, 0.04)
        told("the optimizer's own next step", 0.1)
        present = self._step(found.finds)
        with self._objective.products(
            self._objective.theta, self._halves.finds, memory=self._limits.graphs
        ) as products:
            self.engine = products.engine
            run = self._descend(products, found, present, told)
            self._survey(LATE, told, 0.3)
            answered = enough(self.measured())
            if not answered:
                told("the ways down from here", 0.35)
                if run is not None:
                    self._advance(run, KRYLOV_PRODUCTS, found)
                    self._flatness = math.hypot(*run.projected[:2, 0], run.coupling[0])
                answered = enough(self.measured()) or self._slope() > _BEYOND_DOUBT * self._scale()
            if not answered or about_steps(self.measured()):
                self._weigh_steps(products, run, found.finds, told)
            if answered:
                self._complete = True
                return
            self._curvature = self._eigenvalues(
                products, lambda share: told("eigenvalues", 0.4 + 0.4 * share)
            )
        if self._curvature.interrupted:
            raise KeyboardInterrupt
        self._follow(self._curvature, found.judges, told)
        self._complete = self._curvature.settled

    def measured(self) -> Measurements:
        """Give what is known so far."""
        return Measurements(
            subject=describe_subject(
                self._training, self._objective.parameters, decay=self._objective.decay is not None
            ),
            sample=self._sample,
            loss=self._judge.loss(),
            scale=self._scale(),
            length=self._length,
            gradient=self._gradient(),
            routes=tuple(self._routes.values()),
            spectrum=self._curvature.spectrum if self._curvature else None,
            slices=tuple(self._slices),
            complete=self._complete,
            omitted=tuple(self._omitted),
            **self._surveyed,
        )

    def _survey(self, stages: Sequence[Stage], told: Told, share: float) -> None:
        """Make the measurements that stand by themselves; one that cannot be made is left out with its reason."""
        for name, words, measure in stages:
            told(words, share)
            if name == "validation" and self._training.validation is None:
                continue
            try:
                self._surveyed[name] = measure(self._training, self._own, self._limits)
            except Exception as error:  # strangers' models and optimizers may raise anything
                self._omitted.append(Omission(name, _reason(error)))

    def _scale(self) -> float:
        loss = abs(self._judge.loss().value)
        steepest = self._ends[1] if self._ends else 0.0
        radius = self._curvature.spectrum.radius if self._curvature else abs(steepest)
        return max(loss, _ZERO_LOSS * 0.5 * radius * max(self._length, 1.0) ** 2)

    def _gradient(self) -> Gradient:
        if self._gradients is None:
            return Gradient(norm=0.0, rounding=math.inf, noise=math.inf, flatness=None)
        finds, judges = self._gradients.finds, self._gradients.judges
        ends = self._ends or (0.0, 0.0)
        radius = self._curvature.spectrum.radius if self._curvature else max(map(abs, ends))
        # The parameters are rounded themselves, and the gradient changes with them.
        rounding = torch.finfo(finds.dtype).eps * radius * self._length
        norm = float((finds + judges).norm()) / 2.0
        # The halves differ by the noise of both; their mean has half of that.
        noise = 0.5 * float((finds - judges).norm())
        steep = max(self._curvature.spectrum.lambda_max if self._curvature else ends[1], 0.0)
        known = self._flatness is not None and radius > 0.0 and norm > rounding
        return Gradient(
            norm=norm,
            rounding=rounding,
            noise=noise,
            flatness=self._flatness / radius if known and self._flatness is not None else None,
            stable=2.0 / (steep * self._rate) if steep and self._rate else None,
            steepest=self._ends[1] if self._ends else None,
            lowest=self._ends[0] if self._ends else None,
        )

    def _step(self, found: Float[Tensor, " n"]) -> float:
        """Measure what the optimizer itself would gain; give the length of its step on the whole gradient."""
        optimizer, finds, judge = self._training.optimizer, self._halves.finds, self._judge
        if optimizer is None:
            return 0.0
        try:
            steps = [next_step(self._objective, optimizer, [index]) for index in finds[:_NEXT_BATCHES]]
            whole = next_step(self._objective, optimizer, finds) if len(finds) > 1 else steps[0]
        except Exception as error:  # a stranger's optimizer may raise anything
            self._omitted.append(Omission("steps", _reason(error)))
            return 0.0
        self._routes |= {"now": taken("now", judge, steps), "full": taken("full", judge, [whole])}
        length = float(whole.norm())
        if -float(whole @ found) > _ALONG * length * float(found.norm()):
            self._rate = length / float(found.norm())
        return length

    def _descend(self, products: Products, found: Gradients, present: float, told: Told) -> Lanczos | None:
        """Look along g and a little way into its Krylov space, and go on with the optimizer; None if g is zero."""
        norm = float(found.finds.norm())
        run: Lanczos | None = None
        if norm == 0.0:
            nothing = Estimate(0.0, 0.0)
            self._routes |= {name: Route(name, nothing, 0.0, 0.0) for name in ("gradient", "krylov")}
        else:
            told("the way down along the gradient", 0.12)
            run = Lanczos(self._operator(products), found.finds, capacity=self._limits.capacity)
            run.step()
            bend = abs(float(run.projected[0, 0]))
            # Where the loss is straight along g, as an L1 or a hinge loss is, its bend is rounding and says nothing.
            furthest = max(self._length, 1.0)
            first = min(norm / bend, furthest) if bend > 0.0 else furthest
            self._routes["gradient"] = along_gradient(self._judge, found.finds, found.judges, first, present)
            self._advance(run, _FIRST_PRODUCTS, found)
        if self._training.optimizer is not None:
            told("going on for some steps on a copy", 0.15)
            self._go_on(self._training.optimizer)
        return run

    def _go_on(self, optimizer: Optimizer) -> None:
        begun, left = time.monotonic(), self._limits.left()
        pace = Pace(_ARMS_COST, lambda: time.monotonic() - begun > _ARMS_SHARE * left)
        try:
            found = measure_continuations(optimizer, self._judge, self._sample, pace)
        except Exception as error:  # a stranger's optimizer may raise anything
            self._omitted.append(Omission("continuations", _reason(error)))
            return
        self._surveyed["continuations"] = found
        arm = found.going_on
        self._routes["ahead"] = Route(
            "ahead", arm.gain, slope=arm.gain.value, distance=0.0, multiple=float(arm.steps), steps=arm.steps
        )

    def _advance(self, run: Lanczos, products: int, found: Gradients) -> None:
        """Go on in the Krylov space of g, and see how low the best step within it gets."""
        # The eigenvalues are yet to come, so these products may not take all the time that is left.
        reserve = (1.0 - _KRYLOV_SHARE) * self._limits.left()
        while run.products < min(products, self._limits.capacity - 2) and not run.finished:
            if run.products and self._limits.left() < reserve:
                break
            run.step()
        ritz = run.ritz()
        self._ends = float(ritz.values.min()), float(ritz.values.max())
        self._routes["krylov"] = along_krylov(self._judge, run, found.finds, found.judges)

    def _weigh_steps(
        self, products: Products, run: Lanczos | None, finds: Float[Tensor, " n"], told: Told
    ) -> None:
        """Compare the optimizer's steps with what the steepest direction bears, in its own metric."""
        optimizer, limits = self._training.optimizer, self._limits
        if optimizer is None:
            return
        told("the step that the steepest direction bears", 0.38)
        try:
            metric = metric_of(optimizer, self._objective)
            found = (
                find_steepest(metric, products, finds, limits.over, seed=limits.seed)
                if run is None or metric.uniform is None
                else steepest_met(run, metric.uniform)
            )
            self._surveyed["stability"] = measure_stability(optimizer, self._judge, metric, found)
        except Exception as error:  # a stranger's optimizer may hold anything
            self._omitted.append(Omission("stability", _reason(error)))
            return
        self._metric = metric

    def _weigh_steps_again(self, curvature: Curvature) -> None:
        """The eigenvalues say it better, where one rate serves all parameters."""
        optimizer, metric = self._training.optimizer, self._metric
        if optimizer is None or metric is None or metric.uniform is None:
            return
        found = steepest_known(curvature, metric.uniform)
        self._surveyed["stability"] = measure_stability(optimizer, self._judge, metric, found)

    def _eigenvalues(self, products: Products, told: Callable[[float], None]) -> Curvature:
        operator = self._operator(products)
        self._descending = self._slope() > _CLEARLY_DESCENDING * self._scale()
        if operator.size <= DENSE and not self._descending and self._forming_fits(operator):
            return dense_spectrum(
                operator, products.block, block=32, progress=lambda done: told(done / operator.size)
            )
        return spectrum(
            operator,
            Question(tolerance=1e-2, negative_to=None) if self._descending else Question(top=3, probes=4),
            torch.Generator().manual_seed(self._limits.seed),
            capacity=self._limits.capacity,
            # How many products it will take is not known; sixty are typical.
            progress=lambda progress: told(1.0 - math.exp(-progress.products / 60.0)),
            should_stop=self._limits.over,
        )

    def _forming_fits(self, operator: Operator) -> bool:
        """Whether the Hessian can be formed in half of the time that is left, going by one product."""
        begun = time.perf_counter()
        operator.matvec(torch.ones_like(operator.like))
        return (time.perf_counter() - begun) * operator.size < 0.5 * self._limits.left()

    def _slope(self) -> float:
        """The largest gain that the gradient accounts for."""
        return max(self._routes[name].slope for name in ("gradient", "krylov"))

    def _operator(self, products: Products) -> Operator:
        return Operator(products, self._objective.size, self._objective.theta, noise=products.noise)

    def _follow(self, curvature: Curvature, judges: Float[Tensor, " n"], told: Told) -> None:
        """Look where the eigenvectors lead."""
        self._weigh_steps_again(curvature)
        told("the way down along negative curvature", 0.8)
        self._descend_by_curvature(curvature, judges)
        self._shake(curvature, judges)
        told("the loss along the eigenvectors", 0.9)
        self._look(curvature, judges)

    def _descend_by_curvature(self, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
        lowest, judge = curvature.spectrum.lambda_min, self._judge
        if lowest >= 0.0 or self._descending:
            return
        reach = natural_reach(0.1 * self._scale(), lowest, self._length)
        route, displacement = along_curvature(judge, curvature.lowest, judges, reach)
        self._routes["curvature"] = route
        if route.distance == 0.0:
            return
        escape = onward("escape", judge, displacement, judges)
        self._routes["escape"] = escape
        if escape.gain.value > _COMPARED * self._slope():
            self._routes["control"] = onward("control", judge, torch.zeros_like(displacement), judges)

    def _shake(self, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
        """Where curvature decides nothing in some direction, higher derivatives might: look around at random."""
        escape = self._routes.get("escape")
        if curvature.spectrum.floor.bound > 0.0 or self._descending or (escape and escape.gain.value > 0.0):
            return
        displacement = shaken(self._objective.parameters, self._objective.theta, self._limits.seed)
        self._routes["shake"] = shake = onward("shake", self._judge, displacement, judges)
        if shake.gain.value > _COMPARED * self._slope() and "control" not in self._routes:
            self._routes["control"] = onward("control", self._judge, torch.zeros_like(displacement), judges)

    def _look(self, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
        ends = (
            ("lowest", curvature.lowest, curvature.spectrum.lambda_min),
            ("highest", curvature.highest, curvature.spectrum.lambda_max),
        )
        walked = self._routes["curvature"].distance if "curvature" in self._routes else 0.0
        for name, direction, eigenvalue in ends:
            reach = natural_reach(self._scale(), eigenvalue, self._length)
            if name == "lowest" and walked:
                reach = 1.25 * walked
            self._slices.append(look_along(self._judge, name, direction, judges, reach=reach))


def broken(training: Training, sample: Sample, found: NonFinite) -> Measurements:
    """What can be said where NaN or Inf forbids everything else."""
    return Measurements(
        subject=describe_subject(training, Parameters(training.model), decay=False),
        sample=sample,
        loss=Estimate(math.nan, math.inf),
        scale=1.0,
        length=math.nan,
        gradient=Gradient(norm=math.nan, rounding=math.inf, noise=math.inf, flatness=None),
        routes=(),
        spectrum=None,
        slices=(),
        complete=True,
        non_finite=found,
    )


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UnstuckError) else one_line(error)
