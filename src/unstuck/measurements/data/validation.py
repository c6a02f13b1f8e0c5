"""The loss on data that the run does not train on, beside the training loss, both as one evaluates a model."""

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck import processes
from unstuck.errors import MeasurementError, TrainingError
from unstuck.estimate import Estimate, weighted_mean
from unstuck.measurements.bill import Claim, unlimited
from unstuck.measurements.data.collating import pooled
from unstuck.measurements.data.evaluating import Buffers, carrying, evaluating, ignoring_inputs
from unstuck.measurements.judging import Judge
from unstuck.measurements.optimizer.steps import Twin
from unstuck.measurements.records import Onward, Validation
from unstuck.objective import Batch, Draw, Objective, draw
from unstuck.objective import ledger as price
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import counted, total_bytes
from unstuck.training import Loss, Training

# Validation data are read up to this many times the sample and this many bytes; what is evaluated are batches
# from all over them, of as many examples as the sample has.
_READ, _BYTES = 4, 2**26

# But so many are evaluated if there are as many: it costs little, and what all of them say is beyond chance.
_FEWEST_EXAMPLES = 1024

# Losses are compared over so many batches at least; fewer, as one large batch, are split.
_FEWEST_BATCHES = 16

# One batch that cannot be split says nothing of others unless it is of so many examples: a graph of as many nodes.
_MANY = 30

# Going on: two passes over the sample within these numbers of steps, looked at so often in their last half.
_PASSES, _FEWEST_STEPS, _MOST_STEPS, _LOOKS = 2, 32, 256, 3

# What it costs to evaluate the losses here, and those of outputs that ignore the inputs, in looks at both sides.
_HERE = 3.0

# The radius of Sharpness-Aware Minimization (Foret et al., 2021, section 3: the default on CIFAR and ImageNet).
_RADIUS = 0.05


def measure_validation(
    training: Training, judge: Judge, *, seed: int = 0, claim: Claim = unlimited
) -> Validation:
    """Measure the loss on validation and training data in eval mode, and what going on does to both.

    Costs about six gradients over the judge's sample, and more over one of a few examples only, if `claim` allows
    that.

    Raises:
        MeasurementError: There are no validation data, or the loss cannot be evaluated on them.
    """
    if training.validation is None:
        msg = "no validation data were given"
        raise MeasurementError(msg)
    objective = judge.objective
    try:
        drawn = _read(training.validation, judge, seed)
        evaluator = _replay(training, evaluating(training.loss, Buffers()), objective)
        held = _spread(_split(list(drawn.batches), evaluator), max(objective.examples, _FEWEST_EXAMPLES))
        trained = _spread(_split(list(objective.batches), evaluator), max(objective.examples // 2, 1))
        whole = drawn.exhausted and sum(batch.examples for batch in held) == drawn.examples
        sides = _Sides(training, objective, trained, held)
        claim(sides.price)
        here = sides.look(sides.theta, None)
        constant = sides.constant()
        onward = None if training.optimizer is None else _onward(training.optimizer, sides, here, whole=whole)
    except TrainingError as error:
        msg = f"the loss on validation data cannot be had: {error}"
        raise MeasurementError(msg) from error
    if not all(map(math.isfinite, (*here.trained, *here.held))):
        msg = "the loss on validation or training data is not finite in eval mode"
        raise MeasurementError(msg)
    all_trained = isinstance(training.data, Sized) and len(training.data) == len(objective.batches)
    training_loss, undivided = _one_side(sides.trained, here.trained, whole=all_trained)
    validation_loss, undivided_too = _one_side(sides.held, here.held, whole=drawn.exhausted)
    return Validation(
        examples=sum(batch.examples for batch in held),
        training=training_loss,
        validation=validation_loss,
        gap=_difference(validation_loss, training_loss),
        constant=constant,
        rise=_rise(judge),
        radius=_RADIUS,
        onward=onward,
        undivided=undivided or undivided_too,
    )


def _one_side(batches: Sequence[Batch], losses: Sequence[float], *, whole: bool) -> tuple[Estimate, bool]:
    """Give the loss, and whether all there is is one batch that cannot be split, as a graph of many nodes.

    What that costs is a fact; what another one would cost no spread tells.
    """
    if whole and len(batches) == 1 and batches[0].examples >= _MANY:
        return Estimate(losses[0], 0.0), True
    return _mean(batches, losses), False


@dataclass(frozen=True)
class _Look:
    trained: list[float]
    held: list[float]


class _Sides:
    """Looks at the loss on both sides, in eval mode and without weight decay."""

    def __init__(
        self, training: Training, objective: Objective, trained: Sequence[Batch], held: Sequence[Batch]
    ) -> None:
        self.objective = objective
        self.training = training
        self.trained, self.held = trained, held
        self._buffers = Buffers()
        self._replay = _replay(training, evaluating(training.loss, self._buffers), objective)
        self.theta = self._replay.parameters.current()

    @property
    def price(self) -> float:
        """What all of it costs, in gradients over the sample."""
        examples = sum(batch.examples for batch in (*self.trained, *self.held))
        look = price.VALUE * examples / self.objective.examples
        return (_HERE + _LOOKS) * look + price.GRADIENT * self.steps / len(self.objective.batches)

    @property
    def steps(self) -> int:
        """How far to go on."""
        return min(max(_PASSES * len(self.objective.batches), _FEWEST_STEPS), _MOST_STEPS)

    def look(self, theta: Float[Tensor, " n"], buffers: dict[str, Tensor] | None) -> _Look:
        """Give each batch's loss with these buffers, or with the model's own."""
        self._buffers.values = buffers
        return _Look(_values(self._replay, self.trained, theta), _values(self._replay, self.held, theta))

    def constant(self) -> float | None:
        """Give the lowest positive loss of outputs that ignore the inputs: zero, or the mean output."""
        found: list[float] = []
        for factor in (0.0, 1.0):
            try:
                replay = _replay(self.training, ignoring_inputs(self.training.loss, factor), self.objective)
                values = _values(replay, self.held, self.theta)
            except (MeasurementError, TrainingError):
                return None
            found.append(_mean(self.held, values).value)
        return min((value for value in found if 0.0 < value < math.inf), default=None)


def _replay(training: Training, loss: Loss, objective: Objective) -> Replay:
    return Replay(replace(training, loss=loss), dtype=None, ledger=objective.ledger)


def _values(replay: Replay, batches: Sequence[Batch], theta: Float[Tensor, " n"]) -> list[float]:
    values: list[float] = []
    with replay.session():
        for batch in batches:
            replay.ledger.spend(price.VALUE, batch.examples)
            values.append(replay.value(batch, theta))
    return values


def _mean(batches: Sequence[Batch], values: Sequence[float]) -> Estimate:
    return weighted_mean(values, [float(batch.examples) for batch in batches])


def _onward(optimizer: Optimizer, sides: _Sides, here: _Look, *, whole: bool) -> Onward | None:
    """Go on over the sample's batches in their order, running statistics included."""
    training, sample, buffers = sides.training, sides.objective, Buffers()
    carried = replace(training, loss=carrying(training.loss, buffers))
    objective = Objective(carried, sample.batches, ledger=sample.ledger)
    buffers.values = None  # what making the objective left there
    count = len(sample.batches)
    steps = sides.steps
    marks = {steps - (steps // 2) * turn // _LOOKS for turn in range(_LOOKS)}
    twin, looks = Twin(objective, optimizer), list[_Look]()
    for taken in range(1, steps + 1):
        displacement = twin.step([(taken - 1) % count])
        if taken in marks:
            looks.append(sides.look(objective.theta + displacement, buffers.values))
    if not all(math.isfinite(value) for look in looks for value in (*look.trained, *look.held)):
        return None
    held = _mean(sides.held, _less(here.held, [look.held for look in looks]))
    lasts = [_mean(sides.held, look.held).value for look in looks]
    return Onward(
        steps=steps,
        epochs=steps / count,
        training_gain=_mean(sides.trained, _less(here.trained, [look.trained for look in looks])),
        validation_gain=_unsteady(held, lasts) if whole else held,
    )


def _unsteady(gain: Estimate, looks: Sequence[float]) -> Estimate:
    """Give the gain on all the validation data, where only how it varies from look to look is chance.

    By the standard deviation, not that of a mean: neighbouring looks are much alike.
    """
    mean = math.fsum(looks) / len(looks)
    return Estimate(gain.value, math.sqrt(math.fsum((look - mean) ** 2 for look in looks) / (len(looks) - 1)))


def _less(before: Sequence[float], looks: Sequence[Sequence[float]]) -> list[float]:
    """By how much each batch's loss is lower, averaged over the looks."""
    later = [math.fsum(each) / len(looks) for each in zip(*looks, strict=True)]
    return [one - other for one, other in zip(before, later, strict=True)]


def _rise(judge: Judge) -> Estimate | None:
    """Measure how the loss rises along the gradient, found on one half and judged on the other."""
    objective = judge.objective
    gradient = objective.gradient(objective.theta, judge.halves.finds)
    norm = objective.space.norm(gradient)
    if norm == 0.0 or not math.isfinite(norm):
        return None
    rise = -judge.gain(judge.look(objective.theta + (_RADIUS / norm) * gradient))
    return rise if math.isfinite(rise.value) else None


def _difference(one: Estimate, other: Estimate) -> Estimate:
    degrees = (
        min(e.degrees for e in (one, other) if e.stderr > 0.0) if one.stderr or other.stderr else math.inf
    )
    return Estimate(one.value - other.value, math.hypot(one.stderr, other.stderr), degrees)


def _read(validation: Any, judge: Judge, seed: int) -> Draw:
    room = float(_BYTES)
    most = max(_READ * judge.objective.examples, _FEWEST_EXAMPLES)
    try:
        first = draw(validation, seed=seed, enough=lambda batches, _: batches >= 1)
        size = processes.agreed(float(max(total_bytes(first.batches[0].content), 1)))
        return draw(
            validation, seed=seed, enough=lambda batches, examples: examples >= most or batches * size > room
        )
    except TrainingError as error:
        raise TrainingError(str(error).replace("`data`", "`validation`")) from error


def _split(batches: list[Batch], evaluator: Replay) -> list[Batch]:
    """Split few batches into more: in eval mode the mean over examples stays what it is.

    Of what is one whole, as a graph is, pieces are no batches, and their loss cannot be evaluated.
    """
    if len(batches) >= _FEWEST_BATCHES:
        return batches
    parts = -(-_FEWEST_BATCHES // len(batches))
    try:
        pieces = [piece for batch in batches for piece in _pieces(batch, parts)]
        _values(evaluator, pieces[:1], evaluator.parameters.current())
    except (MeasurementError, TrainingError):
        return batches
    return pieces


def _pieces(batch: Batch, parts: int) -> list[Batch]:
    take = processes.together(lambda: pooled([batch.content], [batch.here]))
    rows = torch.arange(batch.here)
    parts = int(processes.least(float(min(parts, batch.here))))
    # Every so many rows, so that an order within the batch does not separate the pieces.
    pieces = [rows[turn::parts] for turn in range(parts)]
    return [counted(take(piece), len(piece), batch.seed) for piece in pieces]


def _spread(batches: list[Batch], examples: int) -> list[Batch]:
    """Take batches from all over, of so many examples together."""
    total = sum(batch.examples for batch in batches)
    wanted = max(len(batches) * examples // total, _FEWEST_BATCHES)
    return list(_every(batches, wanted))


def _every(batches: Sequence[Batch], wanted: int) -> Sequence[Batch]:
    """Take so many, evenly spaced."""
    if wanted >= len(batches):
        return batches
    return [batches[index * len(batches) // wanted] for index in range(wanted)]
