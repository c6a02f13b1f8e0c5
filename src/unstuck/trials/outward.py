"""An escape by itself: the way down is looked for on some of the data, and judged on others."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unstuck.errors import TrainingError
from unstuck.estimate import Estimate
from unstuck.landscape.ground import Limits, sampled
from unstuck.measurements.judging import Halves, Judge
from unstuck.measurements.records import Sample
from unstuck.objective import Objective
from unstuck.remedies.escape import escape
from unstuck.remedies.records import End, Escape
from unstuck.training import Training
from unstuck.trials.side import validation_batches

# Gradients that an escape takes, roughly, the weakest saddles included.
_GRADIENTS = 300.0

# Share of the memory for the graphs that products with the Hessian are made over.
_GRAPHS = 0.35


@dataclass(frozen=True)
class Outward:
    """Where a way down has led.

    Attributes:
        objective: The loss that it was looked for on.
        found: What was done.
        before: The loss without weight decay on the data that judge, where it began.
        gain: By how much it is lower where it ended.
        on: The data that judge, in words.
        evaluations: Of the gradient of a batch.
    """

    objective: Objective
    found: Escape
    before: float
    gain: Estimate
    on: str
    evaluations: float

    @property
    def theta(self) -> Float[Tensor, " n"]:
        """The parameters it has led to."""
        return self.objective.theta + self.found.displacement

    @property
    def holds(self) -> bool:
        """Whether it leads down on the data that judge, beyond what their scatter could be."""
        return self.gain.value > 0.0 and (math.isinf(self.gain.stderr) or self.gain.surely_above(0.0))


def outward(training: Training, limits: Limits, over: Callable[[], bool]) -> Outward:
    """Look for a way down from where a training stands, and follow it as far as it holds on other data.

    Raises:
        TrainingError: The training cannot be evaluated; the message says why.
        MeasurementError: The loss is not finite where it begins.
        KeyboardInterrupt: At Ctrl-C.
    """
    drawn, sample = sampled(training, limits, gradients=_GRADIENTS)
    objective = Objective(training, drawn.batches)
    judge, on = _judge(training, objective, sample, limits.seed)
    finds, judges = judge.halves.finds, judge.halves.judges
    found = escape(
        judge.objective,
        only=finds,
        judges=() if finds == judges else judges,
        seed=limits.seed,
        over=over,
        memory=_GRAPHS * limits.memory,
    )
    if found.end is End.INTERRUPTED:
        raise KeyboardInterrupt
    bare = judge.bare
    moved = bool(found.displacement.any())
    gain = bare.gain(bare.look(objective.theta + found.displacement)) if moved else Estimate(0.0, 0.0)
    return Outward(objective, found, bare.judged(bare.base), gain, on, found.gradients * len(finds))


def _judge(training: Training, objective: Objective, sample: Sample, seed: int) -> tuple[Judge, str]:
    """The data that find and those that judge, and what to call these.

    Half of a sample judges. Where the sample is all the data the validation data do, if there are any: what is
    learnt by heart is no way down.
    """
    base = objective.values(objective.theta)
    halves = Halves.of(len(base), exhaustive=sample.exhaustive)
    if not sample.exhaustive:
        judging = sum(objective.batches[index].examples for index in halves.judges)
        on = f"{judging:,} training examples, on which the way down was not looked for"
        return Judge(objective, halves, base), on
    others = validation_batches(training, sample.examples, seed=seed)
    if others:
        wider = objective.beyond(others)
        apart = Halves(halves.finds, tuple(range(len(base), len(wider.batches))), exhaustive=True)
        on = f"{sum(batch.examples for batch in others):,} validation examples"
        with contextlib.suppress(TrainingError):  # where the loss cannot be had on them
            return Judge(wider, apart, wider.values(wider.theta)), on
    return Judge(objective, halves, base), f"all {sample.examples:,} training examples"
