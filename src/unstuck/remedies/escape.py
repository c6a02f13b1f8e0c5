"""Leave a saddle point, without anything to tune: displaced at random, along negative curvature, and down."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.certificate import floor
from unstuck.curvature.lanczos import Lanczos
from unstuck.curvature.records import Certificate, Question
from unstuck.curvature.spectrum import lower_end_settled
from unstuck.curvature.vectors import Operator, random_unit
from unstuck.errors import MeasurementError
from unstuck.measurements.descent import shaken
from unstuck.objective import Objective
from unstuck.remedies.lbfgs import descend, stride
from unstuck.remedies.records import End, Escape, Round
from unstuck.remedies.surface import ByHeartError, Point, SpentError, Surface

# Random displacements, as shares of the one that `shaken` draws, in the order in which they are tried. At a share
# of one, nine saddles (benchmarks/results/escape.md) were left soonest, of orders two to four; a third of it took
# twice as long where the Hessian vanishes, a thirtieth did not leave the fourth order.
_SHARES = (1.0, 3.0, 0.3)

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

# The search for negative curvature: to be sure that there is none, down to this share of the largest; coarser once a
# way down was found, and finest where nothing else has led down, but at no more than so many products. It ends
# as soon as one is beyond doubt, and goes on to its lowest where the loss does not fall along that.
_COARSE, _FINE, _FINEST, _MOST_PRODUCTS = 1e-2, 1e-3, 1e-5, 500
_CAPACITY = 256  # vectors
_ACCURACIES = (None, 0.1)
_PROBABILITY = 0.99

# A Ritz value is negative beyond doubt when it is so by this many times the noise of a product.
_DOUBT = 3.0

# Looks along the gradient, and the first step of a descent, as shares of the first random displacement's length.
_LOOKS, _FIRST = (0.3, 0.03, 0.003), 0.1

_MOST_ROUNDS = 50


def escape(  # noqa: PLR0913 - what counts, what judges, and what may be spent
    objective: Objective,
    *,
    only: Sequence[int] | None = None,
    judges: Sequence[int] = (),
    seed: int,
    gradients: float = math.inf,
    over: Callable[[], bool] = lambda: False,
    memory: float = math.inf,
) -> Escape:
    """Find a way down from a critical point and follow it until there is none.

    Args:
        objective: The loss; nothing of it is changed.
        only: Batches that count, by index; all by default.
        judges: Batches that the way down is not looked for on: of the points that were the lowest in turn, the one
            with the lowest loss on these is the result, and it ends where they have long gained no more.
        seed: Of the random displacements and starts.
        gradients: Most evaluations of the gradient to spend, over the batches that count.
        over: Asked before every evaluation: whether to stop.
        memory: Bytes to use, half of them for the graphs that products with the Hessian are made over.

    Raises:
        MeasurementError: The loss is not finite where it begins.
        KeyboardInterrupt: Only before anything is known; later the result says `INTERRUPTED`.
    """
    surface = Surface(objective, only, judges, gradients=gradients, over=over, memory=memory)
    search = _Search(surface, lambda turn: shaken(objective.parameters, objective.theta, seed + turn), seed)
    start = surface.start()
    try:
        end = search.run(start)
    except ByHeartError:
        end = End.BY_HEART
    except SpentError:
        end = End.BUDGET
    except KeyboardInterrupt:
        end = End.INTERRUPTED
    return Escape(
        displacement=surface.judged - objective.theta,
        before=start.loss,
        after=surface.loss,
        gradients=surface.spent,
        rounds=tuple(search.rounds),
        end=end,
        certificate=search.certificate if end is End.STATIONARY else None,
    )


class _Search:
    def __init__(self, surface: Surface, drawn: Callable[[int], Float[Tensor, " n"]], seed: int) -> None:
        self._surface, self._drawn = surface, drawn
        self._generator = torch.Generator().manual_seed(seed)
        self._reach = surface.space.norm(drawn(0))
        self._before = math.inf
        self.rounds: list[Round] = []
        self.certificate: Certificate | None = None

    def run(self, start: Point) -> End:
        self._before = start.loss
        self._slope(start)
        self._displace(_SHARES[0])
        for _ in range(_MOST_ROUNDS):
            if self._bend(_COARSE if self._gained else _FINE):
                continue
            if self._gained or not (any(map(self._displace, _SHARES[1:])) or self._bend(_FINEST)):
                break
        return End.STATIONARY if self.certificate else End.NO_WAY_DOWN

    @property
    def _gained(self) -> float:
        """What the whole escape has gained so far; 0 where that is next to nothing."""
        gained = self._before - self._surface.loss
        return gained if gained > _WORTH * abs(self._before) else 0.0

    def _worth(self, gain: float) -> bool:
        return gain > max(_WORTH * abs(self._before), _RESTING * self._gained)

    @contextmanager
    def _round(self, way: str) -> Generator[dict[str, float]]:
        """Note what is done in the block, however it ends."""
        spent, facts = self._surface.spent, dict[str, float]()
        try:
            yield facts
        finally:
            self.rounds.append(Round(way, self._surface.loss, self._surface.spent - spent, **facts))

    def _slope(self, here: Point) -> None:
        """Follow the gradient, if it leads anywhere by itself."""
        length, sloping = self._surface.space.norm(here.gradient), _SLOPING * abs(here.loss)
        for look in _LOOKS:
            distance = look * self._reach
            # To first order no more than this can be gained at that distance.
            if not length * distance > sloping:
                return
            ahead = here.theta - distance / length * here.gradient
            if here.loss - self._surface.value(ahead) > sloping:
                with self._round("slope") as facts:
                    facts["distance"] = distance
                    self._descend(ahead)
                return

    def _displace(self, share: float) -> bool:
        """Descend from a random displacement of the lowest point."""
        level = self._surface.loss
        step = share * self._drawn(len(self.rounds))
        with self._round("displacement") as facts:
            facts["distance"] = self._surface.space.norm(step)
            self._descend(self._surface.theta + step)
        return self._worth(level - self._surface.loss)

    def _bend(self, tolerance: float) -> bool:
        """Follow negative curvature from the lowest point, if there is any that can be found."""
        level, theta = self._surface.loss, self._surface.theta
        self.certificate = None
        with self._round("curvature") as facts:
            try:
                with self._surface.curvature(theta) as operator:
                    self._search(operator, tolerance, theta, facts)
            except MeasurementError:  # products that are not finite, or cannot be had
                return False
            if not self.certificate:
                self._descend(self._surface.theta)
        return self._worth(level - self._surface.loss)

    def _search(
        self, operator: Operator, tolerance: float, theta: Float[Tensor, " n"], facts: dict[str, float]
    ) -> None:
        """Find a direction of negative curvature along which the loss does fall, or be sure that there is none."""
        level, generator = self._surface.loss, self._generator
        room = self._surface.room(_CAPACITY)
        run = Lanczos(operator, random_unit(operator, generator), room=room, generator=generator)
        for accuracy in _ACCURACIES:
            question = Question(tolerance, _PROBABILITY, accuracy, max_products=_MOST_PRODUCTS)
            facts["eigenvalue"], unit = _lowest(run, question)
            if unit is None:
                self.certificate = _certified(run) if run.scale > 0.0 else None
                return
            facts["distance"] = self._along(theta, unit)
            if self._worth(level - self._surface.loss):
                return

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

        descend(self._surface, self._surface.slope(theta), reach=_FIRST * self._reach, enough=enough)


def _lowest(run: Lanczos, question: Question) -> tuple[float, Float[Tensor, " n"] | None]:
    """Run until the question is answered; the lowest eigenvalue, and its vector if it is surely negative."""
    while True:
        if not run.finished:
            run.step()
        ritz = run.ritz()
        lowest = float(ritz.values[0])
        over = run.finished or run.products >= question.max_products
        if over or lower_end_settled(run, ritz, question):
            negative = lowest < -_DOUBT * run.noise * ritz.radius
            return lowest, run.vector(ritz.weights[:, 0]) if negative else None


def _certified(run: Lanczos) -> Certificate:
    """What the run says about the lowest eigenvalue, where it has found none that is surely negative."""
    ritz = run.ritz()
    lowest, radius = float(ritz.values[0]), ritz.radius
    if run.finished:
        return Certificate(lowest, max(0.0, -lowest / radius), 1.0)
    return floor(run.chains[0], lowest, radius, probability=_PROBABILITY, noise=run.noise)
