"""Leave a saddle point, without anything to tune: displaced at random, along negative curvature, and down."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Question
from unstuck.curvature.spectrum import lower_end_settled
from unstuck.curvature.vectors import random_unit
from unstuck.objective import Objective
from unstuck.objective.parameters import Parameters
from unstuck.remedies.lbfgs import Point, descend, stride
from unstuck.remedies.surface import SpentError, Surface

# Random displacements, as shares of what layers are initialised with, in the order in which they are tried. At 0.3
# nine saddles (benchmarks/results/escape.md) were left soonest, of orders two to four; 0.1 took twice as long
# where the Hessian vanishes, 0.01 did not leave the fourth order; 1.0 begins anew.
_SHAKES = (0.3, 1.0, 0.1)

# What a displaced descent may spend before it is below the loss it started from: weak saddles (|lambda_min| a
# thousandth of lambda_max) took 35 to 50.
_PATIENCE = 60.0

# The gradient is worth following at once where the best of a few looks along it gains this share of the loss.
_SLOPING = 0.01

# A way down that gains less than this share of the loss is none.
_WORTH = 1e-4

# A descent has come to rest when so many steps gain less than this share of what the whole escape has gained, and a
# further way down that gains less is not worth its search.
_LEG, _RESTING = 20, 0.01

# The search for negative curvature: to be sure that there is none, down to this share of the largest; coarser
# once a way down was found. It ends as soon as one is beyond doubt, and goes on to its lowest where the loss
# does not fall along that.
_FINE, _COARSE = 1e-3, 1e-2
_ACCURACIES = (None, 0.1)

# A Ritz value is negative beyond doubt when it is so by this many times the noise of a product.
_DOUBT = 3.0

# Looks along the gradient, and the first step of a descent, as shares of the first random displacement's length.
_LOOKS, _FIRST = (0.3, 0.03, 0.003), 0.1

_MOST_ROUNDS = 50


class End(StrEnum):
    """Why an escape ended."""

    STATIONARY = "second-order stationary"
    BUDGET = "out of budget"
    NO_WAY_DOWN = "no way down"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Round:
    """One thing that was tried.

    Attributes:
        way: "slope" (along the gradient), "displacement" (at random), "curvature" (along the lowest eigenvector).
        loss: The lowest so far, when it was done.
        gradients: Spent on it, the descent after it included.
        distance: How far the first step went, before the descent.
        eigenvalue: The lowest that was found; None where none was looked for.
    """

    way: str
    loss: float
    gradients: float
    distance: float
    eigenvalue: float | None = None


@dataclass(frozen=True)
class Escape:
    """Where the way down led.

    Attributes:
        displacement: From `objective.theta` to the lowest point found; zero if none was lower.
        before: Loss at `objective.theta`, over the batches asked for.
        after: Loss at the lowest point; never above `before`.
        gradients: Spent, in evaluations of the gradient over those batches.
        rounds: What was done, in order.
        end: Why it ended.
    """

    displacement: Float[Tensor, " n"]
    before: float
    after: float
    gradients: float
    rounds: tuple[Round, ...]
    end: End


def escape(
    objective: Objective,
    *,
    only: Sequence[int] | None = None,
    seed: int,
    gradients: float = math.inf,
    over: Callable[[], bool] = lambda: False,
    memory: float = math.inf,
) -> Escape:
    """Find a way down from a critical point and follow it until there is none.

    Args:
        objective: The loss; nothing of it is changed.
        only: Batches that count, by index; all by default.
        seed: Of the random displacements and starts.
        gradients: Most evaluations of the gradient to spend, over the batches that count.
        over: Asked before every evaluation: whether to stop.
        memory: Bytes for the graphs that products with the Hessian are made over.
    """
    surface = Surface(objective, only, gradients=gradients, over=over, memory=memory)
    search = _Search(surface, objective.parameters, objective.theta, torch.Generator().manual_seed(seed))
    try:
        end = search.run()
    except SpentError:
        end = End.BUDGET
    except KeyboardInterrupt:
        end = End.INTERRUPTED
    return Escape(
        displacement=surface.theta - objective.theta,
        before=search.before,
        after=surface.loss,
        gradients=surface.spent,
        rounds=tuple(search.rounds),
        end=end,
    )


def shaken(
    parameters: Parameters, like: Float[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, " n"]:
    r"""Draw what layers could be initialised with: $N(0, 1 / \mathrm{fan\_in})$ a weight, $N(0, 0.1)$ a bias."""
    drawn = torch.randn(like.numel(), generator=generator, dtype=torch.float64).to(like)
    for piece in parameters.pieces(drawn):
        piece.mul_(1.0 / math.sqrt(max(piece[0].numel(), 1)) if piece.ndim > 1 else 0.3)
    return drawn


class _Search:
    def __init__(
        self, surface: Surface, parameters: Parameters, theta: Float[Tensor, " n"], generator: torch.Generator
    ) -> None:
        self._surface, self._parameters, self._generator = surface, parameters, generator
        self._theta = theta
        self._reach = _SHAKES[0] * float(shaken(parameters, theta, generator).norm())
        self.rounds: list[Round] = []
        self.before = math.inf

    def run(self) -> End:
        here = self._at(self._theta)
        self.before = here.loss
        self._slope(here)
        self._displace(_SHAKES[0])
        for _ in range(_MOST_ROUNDS):
            level = self._surface.loss
            stationary = self._bend()
            if self._worth(level - self._surface.loss):
                continue
            if not self._gained and any(map(self._displace, _SHAKES)):
                continue
            return End.STATIONARY if stationary else End.NO_WAY_DOWN
        return End.NO_WAY_DOWN

    @property
    def _gained(self) -> float:
        """What the whole escape has gained so far; 0 where that is next to nothing."""
        gained = self.before - self._surface.loss
        return gained if gained > _WORTH * abs(self.before) else 0.0

    def _worth(self, gain: float) -> bool:
        return gain > max(_WORTH * abs(self.before), _RESTING * self._gained)

    def _slope(self, here: Point) -> None:
        """Follow the gradient, if it leads anywhere by itself."""
        level, spent, length = here.loss, self._surface.spent, float(here.gradient.norm())
        for distance in _LOOKS:
            # To first order no more than this can be gained at that distance.
            if not length * distance * self._reach > _SLOPING * abs(level):
                return
            step = distance * self._reach / length * here.gradient
            if level - self._surface.value(here.theta - step) > _SLOPING * abs(level):
                self._descend(self._surface.theta)
                self._note("slope", level, spent, float(step.norm()))
                return

    def _displace(self, share: float) -> bool:
        """Descend from a random displacement of the lowest point."""
        level, spent = self._surface.loss, self._surface.spent
        step = share * shaken(self._parameters, self._theta, self._generator)
        self._descend(self._surface.theta + step)
        return self._note("displacement", level, spent, float(step.norm()))

    def _bend(self) -> bool:
        """Follow negative curvature from the lowest point; whether there is surely none to be found."""
        level, spent, theta = self._surface.loss, self._surface.spent, self._surface.theta
        eigenvalue = distance = 0.0
        with self._surface.curvature(theta) as operator:
            run = Lanczos(operator, random_unit(operator, self._generator), generator=self._generator)
            for accuracy in _ACCURACIES:
                tolerance = _COARSE if self._gained else _FINE
                eigenvalue, unit = _lowest(run, Question(tolerance=tolerance, negative_to=accuracy))
                if unit is None:
                    self._note("curvature", level, spent, 0.0, eigenvalue)
                    return run.scale > 0.0
                distance = self._along(theta, unit)
                if self._worth(level - self._surface.loss):
                    break
        self._descend(self._surface.theta)
        self._note("curvature", level, spent, distance, eigenvalue)
        return False

    def _along(self, theta: Float[Tensor, " n"], unit: Float[Tensor, " n"]) -> float:
        """Look along both signs of a direction, and go on where the loss is lower."""
        level = self._surface.loss
        losses = {sign: self._surface.value(theta + sign * self._reach * unit) for sign in (1.0, -1.0)}
        sign = min(losses, key=lambda sign: losses[sign])
        distance, _ = stride(self._surface, theta, sign * unit, level, self._reach)
        return sign * distance

    def _descend(self, theta: Float[Tensor, " n"]) -> None:
        """Go down from a point, for as long as it is on its way below where all began."""
        level, spent = self._surface.loss, self._surface.spent

        def enough(losses: list[float]) -> bool:
            if losses[-1] >= level and self._surface.spent - spent > _PATIENCE:
                return True
            return len(losses) > _LEG and not self._worth(losses[-_LEG - 1] - losses[-1])

        descend(self._surface, self._at(theta), reach=_FIRST * self._reach, enough=enough)

    def _at(self, theta: Float[Tensor, " n"]) -> Point:
        return Point(theta, *self._surface.slope(theta))

    def _note(
        self, way: str, level: float, spent: float, distance: float, eigenvalue: float | None = None
    ) -> bool:
        loss = self._surface.loss
        self.rounds.append(Round(way, loss, self._surface.spent - spent, distance, eigenvalue))
        return self._worth(level - loss)


def _lowest(run: Lanczos, question: Question) -> tuple[float, Float[Tensor, " n"] | None]:
    """Run until the question is answered; the lowest eigenvalue, and its vector if it is surely negative."""
    while True:
        if not run.finished:
            run.step()
        ritz = run.ritz()
        lowest = float(ritz.values[0])
        if run.finished or lower_end_settled(run, ritz, question):
            negative = lowest < -_DOUBT * run.noise * ritz.radius
            return lowest, run.vector(ritz.weights[:, 0]) if negative else None
