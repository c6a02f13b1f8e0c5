"""Everything that is measured at one point, step by step: an interruption loses only the last one."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.dense import dense_spectrum
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Curvature, Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.estimate import Estimate
from unstuck.measurements.descent import (
    KRYLOV_PRODUCTS,
    along_curvature,
    along_gradient,
    along_krylov,
    onward,
    taken,
)
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.records import Gradient, Measurements, Route, Sample, Slice
from unstuck.measurements.slices import look_along, natural_reach
from unstuck.measurements.steps import next_step, next_steps
from unstuck.measurements.subject import describe_subject
from unstuck.objective import Objective
from unstuck.objective.products import Products
from unstuck.training import Training

# Up to this many parameters the Hessian is formed: 32 MB and a few seconds, and every eigenvalue is known.
DENSE = 2_000

# A loss below this share of what moving by the weights' own length along the steepest direction would cost
# is zero for all practical purposes; without it, a perfect fit would be compared with rounding.
_ZERO_LOSS = 1e-6

# A gradient that promises this share of the loss says "not critical" by itself; the sign of lambda_min is
# then no longer the question, and a coarse look at the curvature is enough.
_CLEARLY_DESCENDING = 0.05

# Of the time that is left, the products spent on the Krylov space of g take at most this share.
_KRYLOV_SHARE = 0.3

# The optimizer's next step is averaged over this many of the batches it might see.
_NEXT_BATCHES = 8

# How many steps of the optimizer to look ahead, and what they may cost in gradients over the sample.
_AHEAD, _AHEAD_COST = 16, 8

# The cosine between the optimizer's step and -g from which on the step counts as pointing along -g.
_ALONG = 0.9

# Negative curvature is compared with plain descent when it gains this many times what the slope does.
_COMPARED = 2.0


@dataclass(frozen=True)
class Limits:
    """What may be spent.

    Attributes:
        left: Seconds that are left, asked before each product.
        graphs: Bytes for kept graphs.
        capacity: Most vectors that a Lanczos run may hold.
        seed: Of all randomness.
    """

    left: Callable[[], float]
    graphs: float
    capacity: int
    seed: int

    def over(self) -> bool:
        """Whether no time is left."""
        return self.left() <= 0.0


Told = Callable[[str, float], None]


class Examination:
    """Measures one point; what is known so far can be asked for at any time by `measured`."""

    def __init__(self, training: Training, objective: Objective, sample: Sample, limits: Limits) -> None:
        self._training = training
        self._objective = objective
        self._sample = sample
        self._limits = limits
        self._length = float(objective.theta.norm())
        self._halves = Halves.of(len(objective.batches), exhaustive=sample.exhaustive)
        self._judge = Judge(objective, self._halves, objective.values(objective.theta))
        self._gradients: tuple[Tensor, Tensor] | None = None
        self._flatness: float | None = None
        self._rate: float | None = None
        self._descending = False
        self._routes: list[Route] = []
        self._slices: list[Slice] = []
        self._curvature: Curvature | None = None
        self._complete = False
        self.engine = ""

    def run(self, told: Told) -> None:
        """Take every step in turn; `told` hears what is done next and which share of the whole is behind."""
        told("the gradient", 0.02)
        finds, judges = self._measure_gradient()
        told("the optimizer's own next step", 0.06)
        present = self._step(finds)
        with self._objective.products(
            self._objective.theta, self._halves.finds, memory=self._limits.graphs
        ) as products:
            self.engine = products.engine
            told("the ways down from here", 0.1)
            image = self._descend(products, finds, judges, present)
            self._curvature = self._eigenvalues(
                products, lambda share: told("eigenvalues", 0.3 + 0.5 * share)
            )
        if self._curvature.interrupted:
            raise KeyboardInterrupt
        if image is not None and self._curvature.spectrum.radius > 0.0:
            self._flatness = image / (self._curvature.spectrum.radius * float(finds.norm()))
        told("the way down along negative curvature", 0.8)
        self._descend_by_curvature(self._curvature, judges)
        told("the loss along the eigenvectors", 0.9)
        self._look(self._curvature, judges)
        self._complete = self._curvature.settled

    def measured(self) -> Measurements:
        """Give what is known so far."""
        return Measurements(
            subject=describe_subject(self._training, self._objective),
            sample=self._sample,
            loss=self._judge.loss(),
            scale=self._scale(),
            length=self._length,
            gradient=self._gradient(),
            routes=tuple(self._routes),
            spectrum=self._curvature.spectrum if self._curvature else None,
            slices=tuple(self._slices),
            complete=self._complete,
        )

    def _scale(self) -> float:
        loss = abs(self._judge.loss().value)
        radius = self._curvature.spectrum.radius if self._curvature else 0.0
        return max(loss, _ZERO_LOSS * 0.5 * radius * max(self._length, 1.0) ** 2)

    def _gradient(self) -> Gradient:
        if self._gradients is None:
            return Gradient(norm=0.0, rounding=math.inf, noise=math.inf, flatness=None)
        finds, judges = self._gradients
        radius = self._curvature.spectrum.radius if self._curvature else 0.0
        # The parameters are rounded themselves, and the gradient changes with them.
        rounding = torch.finfo(finds.dtype).eps * radius * self._length
        norm = float((finds + judges).norm()) / 2.0
        # The halves differ by the noise of both; their mean has half of that.
        noise = 0.5 * float((finds - judges).norm())
        steep = max(self._curvature.spectrum.lambda_max, 0.0) if self._curvature else 0.0
        return Gradient(
            norm=norm,
            rounding=rounding,
            noise=noise,
            flatness=self._flatness if norm > rounding else None,
            stable=2.0 / (steep * self._rate) if steep and self._rate else None,
        )

    def _measure_gradient(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Measure the gradient on the half that finds and on the half that judges."""
        objective, halves = self._objective, self._halves
        finds = objective.gradient(objective.theta, halves.finds)
        judges = finds if halves.exhaustive else objective.gradient(objective.theta, halves.judges)
        self._gradients = finds, judges
        return self._gradients

    def _step(self, found: Float[Tensor, " n"]) -> float:
        """Measure what the optimizer itself would gain; give the length of its step on the whole gradient."""
        optimizer, finds, judge = self._training.optimizer, self._halves.finds, self._judge
        if optimizer is None:
            return 0.0
        steps = [next_step(self._objective, optimizer, [index]) for index in finds[:_NEXT_BATCHES]]
        whole = next_step(self._objective, optimizer, finds) if len(finds) > 1 else steps[0]
        order = (finds * _AHEAD)[: min(_AHEAD, _AHEAD_COST * len(self._judge.base))]
        half = len(order) // 2
        midway, ahead = next_steps(self._objective, optimizer, order, (half, len(order)))
        self._routes += [
            taken("now", judge, steps),
            taken("full", judge, [whole]),
            taken("midway", judge, [midway], steps=half),
            taken("ahead", judge, [ahead], steps=len(order)),
        ]
        length = float(whole.norm())
        if -float(whole @ found) > _ALONG * length * float(found.norm()):
            self._rate = length / float(found.norm())
        return length

    def _descend(
        self,
        products: Products,
        finds: Float[Tensor, " n"],
        judges: Float[Tensor, " n"],
        present: float,
    ) -> float | None:
        """Look for descent along g and in its Krylov space; give ||Hg||, or None if g is zero."""
        norm = float(finds.norm())
        if norm == 0.0:
            nothing = Estimate(0.0, 0.0)
            self._routes.extend(Route(name, nothing, 0.0, 0.0) for name in ("gradient", "krylov"))
            return None
        run = Lanczos(self._operator(products), finds, capacity=self._limits.capacity)
        # The eigenvalues are yet to come, so these products may not take all the time that is left.
        reserve = (1.0 - _KRYLOV_SHARE) * self._limits.left()
        for _ in range(min(KRYLOV_PRODUCTS, self._limits.capacity - 2)):
            if run.finished or (run.products and self._limits.left() < reserve):
                break
            run.step()
        bend = abs(float(run.projected[0, 0]))
        # Where the loss is straight along g, as an L1 or a hinge loss is, its bend is rounding and says nothing.
        furthest = max(self._length, 1.0)
        first = min(norm / bend, furthest) if bend > 0.0 else furthest
        self._routes.append(along_gradient(self._judge, finds, judges, first, present))
        self._routes.append(along_krylov(self._judge, run, finds, judges))
        return norm * math.hypot(*run.projected[:2, 0], run.coupling[0])

    def _eigenvalues(self, products: Products, told: Callable[[float], None]) -> Curvature:
        operator = self._operator(products)
        if operator.size <= DENSE and self._forming_fits(operator):
            return dense_spectrum(
                operator, products.block, block=32, progress=lambda done: told(done / operator.size)
            )
        self._descending = self._slope() > _CLEARLY_DESCENDING * self._scale()
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
        return max(route.slope for route in self._routes if route.name in ("gradient", "krylov"))

    def _operator(self, products: Products) -> Operator:
        return Operator(products, self._objective.size, self._objective.theta, noise=products.noise)

    def _descend_by_curvature(self, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
        lowest, judge = curvature.spectrum.lambda_min, self._judge
        if lowest >= 0.0 or self._descending:
            return
        reach = natural_reach(0.1 * self._scale(), lowest, self._length)
        route, displacement = along_curvature(judge, curvature.lowest, judges, reach)
        self._routes.append(route)
        if route.distance == 0.0:
            return
        escape = onward("escape", judge, displacement, judges)
        self._routes.append(escape)
        if escape.gain.value > _COMPARED * self._slope():
            self._routes.append(onward("control", judge, torch.zeros_like(displacement), judges))

    def _look(self, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
        ends = (
            ("lowest", curvature.lowest, curvature.spectrum.lambda_min),
            ("highest", curvature.highest, curvature.spectrum.lambda_max),
        )
        walked = next((route.distance for route in self._routes if route.name == "curvature"), 0.0)
        for name, direction, eigenvalue in ends:
            reach = natural_reach(self._scale(), eigenvalue, self._length)
            if name == "lowest" and walked:
                reach = 1.25 * walked
            self._slices.append(look_along(self._judge, name, direction, judges, reach=reach))
