"""The point that is looked at: the loss on a fixed sample, its gradient on either half, and what may be spent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck import processes
from unstuck.curvature.vectors import Operator, Room, random_unit
from unstuck.errors import MeasurementError, UnstuckError
from unstuck.estimate import Estimate, weighted_mean
from unstuck.landscape.eigen import operator_of
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.noise import measure_gradients
from unstuck.measurements.records import Cost, Sample, Subject
from unstuck.measurements.subject import describe_subject
from unstuck.objective import Batch, Draw, Objective, draw
from unstuck.objective.affordable import affordable, fewest
from unstuck.objective.decay import decay_coefficients
from unstuck.objective.ledger import Ledger, peak_bytes
from unstuck.objective.pace import fastest, finish
from unstuck.objective.parameters import patterns
from unstuck.objective.products import Products
from unstuck.objective.sampling import repeated
from unstuck.training import Training, check_budget

# Up to so many parameters float64 is affordable: for sharpness always, as at 1e-3 of the weights' size a loss rises
# by little, and for pictures where rounding would show.
PRECISE = 100_000

# Without a loss to compare it with, as where every example is fitted, a rise of this much is looked at.
_SMALLEST_RISE = 1e-3

# Share of the budget that what is planned for may take, and of the memory that the sample may.
_PLANNED, _DATA = 0.6, 0.1

# With less time than for so many gradients over a few batches, a handful of products, fewer batches are drawn.
_FEW_GRADIENTS = 20.0

# Shares of the memory: for graphs, for Lanczos vectors.
_GRAPHS, _VECTORS = 0.35, 0.25
_MOST_VECTORS = 512


@dataclass(frozen=True)
class Limits:
    """What may be spent, and on what.

    Attributes:
        left: Seconds that are left.
        memory: Bytes.
        seed: Of all randomness.
        only: Patterns of the parameters that are looked at, the others held fixed; none: all are.
        exact: Whether every height of a picture is evaluated, and none interpolated.
    """

    left: Callable[[], float]
    memory: float
    seed: int
    only: tuple[str, ...] = ()
    exact: bool = False

    def over(self) -> bool:
        """Whether the time is over."""
        return self.left() <= 0.0

    def generator(self) -> torch.Generator:
        """Give a source of randomness that begins at the seed."""
        return torch.Generator().manual_seed(self.seed)


def limits_of(
    budget: float, memory: float | None, seed: int, only: Sequence[str] = (), *, exact: bool = False
) -> Limits:
    """Begin to spend so many seconds, and by default the memory that is free.

    Raises:
        UnstuckError: The budget is no number of seconds above 0.
    """
    check_budget(budget)
    began = processes.clock()
    room = processes.least(processes.free_memory() if memory is None else memory)
    return Limits(lambda: budget - (processes.clock() - began), room, seed, patterns(only), exact)


def sampled(training: Training, limits: Limits, *, gradients: float) -> tuple[Draw, Sample]:
    """Draw what so many gradients over it can be paid for.

    Raises:
        TrainingError: The data gave no batch, or the loss cannot be evaluated.
    """
    budget = limits.left()
    first = draw(training.data, seed=limits.seed, enough=lambda batches, _: batches >= 1)
    objective = Objective(training, first.batches, among=limits.only)
    one = fastest(objective)
    most, least = _PLANNED * budget / one * first.examples / gradients, fewest(budget / one / _FEW_GRADIENTS)
    drawn = affordable(training.data, seed=limits.seed, most=most, room=_DATA * limits.memory, least=least)
    stochastic = objective.stochastic
    if stochastic and len(drawn.batches) < least:
        # One pass over the data shows one draw of the dropout; judging needs several.
        drawn = repeated(drawn, least)
    sample = Sample(
        examples=drawn.examples,
        batches=len(drawn.batches),
        exhaustive=drawn.exhausted and not stochastic,
        stochastic=stochastic,
        whole=drawn.exhausted,
        draws=drawn.times,
    )
    return drawn, sample


class Ground:
    """A point of the loss, by default without weight decay, which sees no data and has no generalisation to lose.

    Args:
        training: What is looked at.
        drawn: The sample.
        sample: Its description.
        limits: What may be spent.
        decayed: Whether the optimizer's weight decay counts as part of the loss.
        precise: Whether a small model is computed in float64. Else all is in the model's own types, and losses alone
            with the attention kernels that PyTorch would choose.
        ledger: Where what is spent is counted.

    Attributes:
        judge: The loss, and which half of the sample finds and which judges.
        found: The gradient on the half that finds.
        judged: The gradient on the half that judges.
        held: The loss on validation data, once `hold` was called; None where there are none.
        validation: That loss at the point.

    Raises:
        TrainingError: The loss cannot be evaluated; the message says why.
        MeasurementError: The loss or its gradient is not finite.
    """

    def __init__(  # noqa: PLR0913 - what is looked at, and how
        self,
        training: Training,
        drawn: Draw,
        sample: Sample,
        limits: Limits,
        *,
        decayed: bool = False,
        precise: bool = True,
        ledger: Ledger | None = None,
    ) -> None:
        self._began = processes.clock()
        self._training, self.limits, self.sample = training, limits, sample
        self._precise, self._drawn = precise, drawn
        self._looked = training if decayed else replace(training, optimizer=None)
        self.ledger = ledger or Ledger()
        self.objective = self._made(drawn, precise=precise)
        halves = Halves.of(len(drawn.batches), exhaustive=sample.exhaustive)
        found = measure_gradients(self.objective, halves)
        if not found.finite:
            msg = "the loss or its gradient is not finite here: `unstuck diagnose` tells where that arises"
            raise MeasurementError(msg)
        self.found, self.judged = found.finds, found.judges
        self.judge = Judge(
            self.objective, halves, found.values if precise else self.objective.values(self.theta)
        )
        self._refined: tuple[Judge, Objective | None] | None = None
        self.held: Objective | None = None
        self.validation: Estimate | None = None

    @property
    def theta(self) -> Float[Tensor, " n"]:
        """The point."""
        return self.objective.theta

    @property
    def subject(self) -> Subject:
        """What is looked at."""
        decayed = self.objective.decay is not None
        return describe_subject(self._training, self.objective.parameters, decay=decayed)

    @property
    def spent(self) -> float:
        """What was spent so far, in gradients over the sample."""
        return self.ledger.gradients(self.sample.examples)

    @property
    def graphs(self) -> float:
        """Bytes for graphs that products are made with."""
        return _GRAPHS * self.limits.memory

    @property
    def room(self) -> Room:
        """Give what may be held for Lanczos."""
        return Room.of(_VECTORS * self.limits.memory, self.theta, _MOST_VECTORS)

    def operator(self, products: Products) -> Operator:
        """Give products at the point as an operator."""
        return operator_of(self.objective, products)

    def forming_fits(self, operator: Operator, share: float) -> bool:
        """Whether the matrix can be formed in a share of the time that is left, going by one product.

        Not where its rows are divided over processes.
        """
        if self.objective.space.parts is not None:
            return False
        finish(operator.like.device)
        begun = processes.clock()
        operator.matvec(random_unit(operator, self.limits.generator()))
        finish(operator.like.device)
        return (processes.clock() - begun) * operator.size < share * self.limits.left()

    def cost(self, engine: str) -> Cost:
        """Give what was spent so far, and by which engine the products were made."""
        return Cost(
            gradients=self.spent,
            products=self.ledger.products,
            seconds=processes.clock() - self._began,
            peak_bytes=peak_bytes(),
            engine=engine,
        )

    def decay(self) -> Float[Tensor, " n"] | None:
        """Give the coefficients of the optimizer's weight decay, if it has one."""
        return decay_coefficients(self._training.optimizer, self.objective.parameters)

    def rise(self) -> float:
        """Give the rise that pictures are scaled by: the loss, or its gap to validation if that is more."""
        loss = self.judge.loss().value
        gap = abs(self.validation.value - loss) if self.validation else 0.0
        return max(abs(loss), gap if math.isfinite(gap) else 0.0, _SMALLEST_RISE)

    def hold(self) -> None:
        """Evaluate the loss on validation data, if there are any, in the mode the model is in.

        Raises:
            MeasurementError: It cannot be evaluated on them.
        """
        training = self._training
        if training.validation is None:
            return
        try:
            drawn = self._drawn_from(training.validation)
            held = self._made(drawn, precise=self._precise)
            values = held.values(held.theta)
        except UnstuckError as error:
            raise MeasurementError(str(error).replace("`data`", "`validation`")) from error
        mean = weighted_mean(values, held.weights)
        whole = drawn.exhausted and not self.sample.stochastic
        self.held = held if math.isfinite(mean.value) else None
        self.validation = replace(mean, stderr=self.judge.rounding) if whole else mean

    @property
    def here(self) -> float:
        """The loss at the point on the batches that judge, in float64 once that was asked for."""
        judge = self._refined[0] if self._refined else self.judge
        return judge.judged(judge.base)

    def refined(self) -> tuple[Judge, Objective | None] | None:
        """Give the loss on training and on validation data in float64; None where it is not to be had."""
        if self._refined is None and self._affordable(self.objective):
            self._refined = self._twin()
        return self._refined

    def _twin(self) -> tuple[Judge, Objective | None] | None:
        try:
            objective = self._in_float64(self._drawn.batches)
            held = self.held and self._in_float64(self.held.batches)
        except UnstuckError:  # a loss that insists on its own type
            return None
        return Judge(objective, self.judge.halves, objective.values(objective.theta)), held

    def _drawn_from(self, validation: Any) -> Draw:
        most = self.sample.examples
        return draw(validation, seed=self.limits.seed, enough=lambda _, examples: examples >= most)

    def _made(self, drawn: Draw, *, precise: bool) -> Objective:
        own = Objective(self._looked, drawn.batches, ledger=self.ledger, among=self.limits.only)
        own.replay.fused = not precise
        if not precise or not self._affordable(own):
            return own
        try:
            return self._in_float64(drawn.batches)
        except UnstuckError:  # a loss that insists on its own type
            return own

    def _in_float64(self, batches: Sequence[Batch]) -> Objective:
        return Objective(
            self._looked, batches, ledger=self.ledger, dtype=torch.float64, among=self.limits.only
        )

    @staticmethod
    def _affordable(own: Objective) -> bool:
        # A model that `fully_shard` has divided is computed in its own types.
        return own.size <= PRECISE and own.parameters.dtype != torch.float64 and not own.parameters.sharded
