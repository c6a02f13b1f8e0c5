"""From a training to what is known of its batch sizes: the one place of this package that sees every part."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.batch.branches import Brancher
from unstuck.batch.clock import Patience, Stopwatch, measure_loading
from unstuck.batch.compare import Comparison, Plan
from unstuck.batch.copied import borrowed
from unstuck.batch.decision import decide
from unstuck.batch.gradients import FEWEST, GROUPS, Grouped, grouped
from unstuck.batch.noise import measure_curved, measure_noise
from unstuck.batch.pool import Pieces, Pool, read, separable
from unstuck.batch.records import Clock, Loading, Noise, Sizing, seconds_per_update
from unstuck.errors import MeasurementError, TrainingError, UnstuckError
from unstuck.interrupts import cut_short
from unstuck.measurements.data.order import look_at_order
from unstuck.measurements.optimizer.metric import metric_of
from unstuck.measurements.optimizer.second_moments import key_of
from unstuck.measurements.records import Order
from unstuck.objective import Batch, Objective
from unstuck.objective.ledger import Ledger
from unstuck.objective.pace import seconds_per_gradient
from unstuck.objective.sampling import reason
from unstuck.progress import Told
from unstuck.remedies.anew import begun_anew
from unstuck.training import Training
from unstuck.trials.side import validation_batches

Found = TypeVar("Found")

# Shares of the budget; what is left over goes to the branches, which are what proves.
_READING, _TIMING, _LOADING, _NOISE = 0.1, 0.1, 0.05, 0.15

# Share of the memory for the examples, for the sums of gradients, and for the graphs of products.
_DATA, _SUMS, _GRAPHS = 0.1, 0.25, 0.35

# Examples that all branches are looked at on: the same ones, so that few are enough to compare.
_HELD = 256

# More gradients of single examples than this tell nothing more.
_PIECES = 8192

# Fewer pieces than this hardly tell how they scatter.
_FEW = 64

# The curvature-weighted noise scale: groups, each of which costs a product with the Hessian of the held examples.
_BENT = 24

# Sizes below this are not gone down to, unless the run itself is there.
_SMALLEST = 4


@dataclass(frozen=True)
class Request:
    """What may be spent, on what question, and who hears of it.

    Attributes:
        budget: Seconds.
        target: The loss that the run wants to get to; None: as far as the budget goes.
        memory: Bytes beyond what is in use.
        seed: Of all randomness.
        told: Is told what is done next, and which share of the whole is behind.
    """

    budget: float
    target: float | None
    memory: float
    seed: int
    told: Told


def measure_sizes(training: Training, request: Request) -> Sizing:
    """Measure time and noise, continue at several sizes, and decide.

    Raises:
        TrainingError: The training cannot be evaluated.
        KeyboardInterrupt: Only when it came before anything was known.
    """
    measuring = _Measuring(training, request)
    return measuring.sizing(interrupted=cut_short(measuring.all))


def rule_of(optimizer: Optimizer | None) -> str:
    """Give how the rate goes with the size: by the square root where steps are divided by a second moment.

    Linear for SGD (Goyal et al., 2017, section 2.1), square root for adaptive ones (Malladi et al., 2022).
    """
    return "square root" if _adaptive(optimizer) else "linear"


def _adaptive(optimizer: Optimizer | None) -> bool:
    groups = optimizer.param_groups if optimizer else []
    return any(key_of(optimizer, group) is not None for group in groups if optimizer)


class _Measuring:
    """The parts in turn; each that is known is kept, whatever becomes of the rest."""

    def __init__(self, training: Training, request: Request) -> None:
        self._training, self._request = training, request
        self._begun = time.monotonic()
        request.told("reading the data", 0.0)
        self._pool = _divided(self._read(), training)
        self._objective = Objective(training, _held(self._pool), ledger=Ledger())
        self._stopwatch: Stopwatch | None = None
        self._loading: Loading | None = None
        self._noise: Noise | None = None
        self._comparison: Comparison | None = None
        self._order: Order | None = None
        self._omitted = [_in_pieces(self._pool)] if self._pool.take is None else []

    def all(self) -> None:
        """Measure everything."""
        told, budget = self._request.told, self._request.budget
        told("the order of the data", 0.05)
        self._order = self._tried("order", lambda: look_at_order(self._training, len(self._pool.batches)))
        told("loading", 0.07)
        self._loading = self._tried(
            "loading", lambda: measure_loading(self._training, seconds=_LOADING * budget)
        )
        told("time per update", 0.1)
        self._tried("time per update", self._time)
        told("gradient noise", 0.25)
        self._noise = self._tried("gradient noise", self._measured_noise)
        told("continuing at several sizes", 0.4)
        if self._clock is not None and self._training.optimizer is not None:
            self._tried("comparison", self._compare)
        told("done", 1.0)

    def sizing(self, *, interrupted: bool) -> Sizing:
        """Give what is known, and what follows from it."""
        optimizer = self._training.optimizer
        groups = optimizer.param_groups if optimizer else []
        course = self._comparison.known if self._comparison else None
        why = "it was interrupted, and this is what was known by then" if interrupted else self._why()
        return Sizing(
            present=self._pool.present,
            examples=self._pool.total,
            rule=rule_of(optimizer),
            optimizer=type(optimizer).__name__ if optimizer else "",
            rates=tuple(float(group["lr"]) for group in groups if "lr" in group),
            clock=self._clock,
            loading=self._loading,
            noise=self._noise,
            course=course,
            decision=decide(course, self._seconds(), self._noise, self._request.target, why),
            order=self._order,
            omitted=tuple(self._omitted),
            gradients=self._objective.ledger.examples / self._pool.present,
            seconds=time.monotonic() - self._begun,
            interrupted=interrupted,
        )

    @property
    def _clock(self) -> Clock | None:
        return self._stopwatch.known if self._stopwatch else None

    def _why(self) -> str:
        if self._pool.take is None and self._pool.whole and len(self._pool.batches) == 1:
            return "all the data are one batch that cannot be divided, so that there is no size to choose"
        if self._comparison is not None and self._comparison.known is not None:
            return ""
        if self._training.optimizer is None:
            return "without `optimizer` no size can be tried: pass the one of the run to Training"
        if self._clock is None:
            return "no update could be timed"
        return "there was no time to try several sizes: give a larger budget"

    def _tried(self, what: str, measure: Callable[[], Found]) -> Found | None:
        """Measure, or write down why not: strangers' models, optimizers and data may raise anything."""
        try:
            return measure()
        except Exception as error:
            self._omitted.append(f"{what}: {reason(error)}")
            return None

    def _seconds(self) -> dict[int, float]:
        return seconds_per_update(self._clock.timings, self._loading) if self._clock else {}

    def _left(self) -> float:
        return self._request.budget - (time.monotonic() - self._begun)

    def _read(self) -> Pool:
        """Read as many examples as there is room and time for."""
        deadline = self._begun + _READING * self._request.budget
        return read(
            self._training,
            seed=self._request.seed,
            room=_DATA * self._request.memory,
            enough=lambda batches, examples: (
                batches > 1 and examples >= _HELD and time.monotonic() > deadline
            ),
        )

    def _time(self) -> None:
        sizes = [size for size in self._pool.sizes(self._pool.examples) if size >= _SMALLEST]
        if self._pool.take is not None:
            sizes.append(1)  # what an example costs by itself
        patience = Patience(
            seconds=_TIMING * self._request.budget,
            memory=self._request.memory,
            told=lambda share: self._request.told("time per update", 0.1 + 0.15 * share),
        )
        self._stopwatch = Stopwatch(self._training, self._objective, self._pool, patience)
        self._stopwatch.run(sorted({*sizes, self._pool.present}))

    def _measured_noise(self) -> Noise:
        objective, pool = self._objective, self._pool
        apart = separable(pool, objective)
        pieces = self._pieces(apart=apart)
        if len(pieces) < FEWEST:
            msg = f"at least {FEWEST} batches are needed to tell their noise, and there are {len(pieces)}"
            raise MeasurementError(msg)
        room = int(_SUMS * self._request.memory / (2 * objective.theta.nbytes))
        groups = max(min(GROUPS, len(pieces) // 2, room), FEWEST // 2)
        deadline = time.monotonic() + _NOISE * self._request.budget
        seconds = seconds_per_gradient(objective, [0]) * 2.0 * _BENT * len(objective.batches)
        bent = seconds <= _NOISE * self._left()
        found = grouped(
            objective,
            pieces,
            groups,
            seed=self._request.seed,
            metrics=(None, *self._metric()),
            signed=bent,
            memory=_GRAPHS * self._request.memory,
            enough=lambda done: done >= _FEW and time.monotonic() > deadline,
        )
        plain = measure_noise(found, total=pool.total, separable=apart)
        plain = self._noise = replace(plain, decayed=objective.decay is not None)
        if not bent:
            return replace(plain, omitted=("curvature-weighted: there was no time for it",))
        return self._bent(found, plain)

    def _bent(self, found: Grouped, plain: Noise) -> Noise:
        """Add the curvature-weighted scale."""
        objective = self._objective
        try:
            with objective.products(objective.theta, memory=_GRAPHS * self._request.memory) as product:
                curved = measure_curved(found, product, total=self._pool.total, groups=_BENT)
        except UnstuckError as error:
            return replace(plain, omitted=(f"curvature-weighted: {error}",))
        return replace(plain, curved=curved)

    def _unseen(self) -> tuple[Batch, ...]:
        """About as many validation examples as are held of the others."""
        return validation_batches(self._training, _HELD, seed=self._request.seed)

    def _metric(self) -> tuple[Float[Tensor, " n"], ...]:
        """The optimizer's own, where it has one."""
        optimizer = self._training.optimizer
        if optimizer is None or not _adaptive(optimizer):
            return ()
        try:
            return (metric_of(optimizer, self._objective).rates,)
        except MeasurementError as error:
            self._omitted.append(f"noise in the optimizer's metric: {error}")
            return ()

    def _pieces(self, *, apart: bool) -> Sequence[Batch]:
        """Single examples where they do not meet within a batch; else the batches."""
        pool = self._pool
        if not apart:
            return list(pool.batches)
        order = torch.randperm(pool.examples, generator=torch.Generator().manual_seed(self._request.seed))
        rows: list[int] = order.tolist()
        return Pieces(pool, rows[:_PIECES])

    def _compare(self) -> None:
        sizes = {
            size: seconds
            for size, seconds in self._seconds().items()
            if size >= min(_SMALLEST, self._pool.present)
        }
        plan = Plan(sizes, self._pool.present, self._request.target, self._left)
        self._comparison = Comparison(self._brancher(self._training), self._anew(), plan)
        with borrowed(self._objective):
            self._comparison.run(
                lambda share: self._request.told("continuing at several sizes", 0.4 + 0.6 * share)
            )

    def _anew(self) -> Brancher | None:
        """Branches from weights made anew; None, with the reason written down, where they cannot be."""
        seed = self._request.seed
        return self._tried("weights made anew", lambda: self._brancher(begun_anew(self._training, seed=seed)))

    def _brancher(self, training: Training) -> Brancher:
        return Brancher(training, self._pool, self._objective, self._unseen(), self._request.seed)


def _in_pieces(pool: Pool) -> str:
    return (
        "sizes are multiples of a batch, of which several are averaged, for batches cannot be taken apart: "
        f"{pool.reason}"
    )


def _divided(pool: Pool, training: Training) -> Pool:
    """Leave batches whole where the loss cannot be evaluated on a part of one, as on all the nodes of a graph."""
    if pool.take is None or pool.present < 2:  # noqa: PLR2004 - nothing to divide
        return pool
    try:
        Objective(training, pool.update(range(pool.present // 2), 0))
    except TrainingError:
        Objective(training, pool.batches[:1])  # or it cannot be evaluated at all, which is said
        return replace(pool, take=None, reason="the loss cannot be evaluated on half of one")
    return pool


def _held(pool: Pool) -> list[Batch]:
    """Give the examples that all are looked at on, spread over all that were read."""
    if pool.take is None:
        count = max(_HELD // pool.present, 1)
        return list(pool.batches[:: max(len(pool.batches) // count, 1)][:count])
    count = min(_HELD, pool.examples)
    rows = torch.linspace(0, pool.examples - 1, count).round().long().tolist()
    size = max(pool.present, min(count, 256))
    return [pool.update(rows[start : start + size], start)[0] for start in range(0, count, size)]
