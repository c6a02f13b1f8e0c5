"""Beside a continuation: the model's buffers as they go on, and the loss on validation data with them."""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from unstuck.errors import TrainingError
from unstuck.measurements.data.evaluating import Buffers, carrying, evaluating
from unstuck.objective import Batch, Objective, draw
from unstuck.objective import ledger as price
from unstuck.objective.replay import Replay
from unstuck.remedies.run import Run
from unstuck.training import Training


class Side:
    """Follows the running statistics of a model from step to step, and looks at validation data with them.

    Attributes:
        training: The training whose loss carries its buffers from one evaluation to the next.
        objective: Its loss over the sample.
        weights: Shares of the validation batches; empty where there are none.
    """

    def __init__(self, training: Training, sample: Objective, validation: Sequence[Batch]) -> None:
        self._buffers = Buffers()
        self._original, self._validation = training, validation
        self.weights = tuple(float(batch.examples) for batch in validation)
        self.training = replace(training, loss=carrying(training.loss, self._buffers))
        self.objective = Objective(self.training, sample.batches, ledger=sample.ledger)
        self._buffers.values = None  # what making the objective left there

    @property
    def buffers(self) -> dict[str, Tensor] | None:
        """The buffers as they have become, by name; None: as the model's own."""
        return self._buffers.values

    @contextmanager
    def undisturbed(self) -> Generator[None]:
        """Look at the loss without a trace in the buffers."""
        before = self._buffers.values
        try:
            yield
        finally:
            self._buffers.values = before

    def look(self, run: Run, theta: Float[Tensor, " n"]) -> list[float]:
        """Give the loss of each validation batch in eval mode; infinite where it cannot be had."""
        loss = evaluating(self._original.loss, self._buffers)
        try:
            replay = Replay(
                replace(self._original, loss=loss),
                dtype=run.dtype,
                ledger=run.objective.ledger,
                thawed=run.thawed,
            )
            return [self._value(replay, run.prepare(batch), theta) for batch in self._validation]
        except TrainingError:
            return [math.inf] * len(self._validation)

    def mean(self, values: Sequence[float]) -> float | None:
        """The loss over all of them; None where there are none."""
        if not values:
            return None
        mean = sum(weight * value for weight, value in zip(self.weights, values, strict=True)) / sum(
            self.weights
        )
        return mean if math.isfinite(mean) else math.inf

    def _value(self, replay: Replay, batch: Batch, theta: Float[Tensor, " n"]) -> float:
        replay.ledger.spend(price.VALUE, batch.examples)
        with replay.session():
            return replay.value(batch, theta)


def validation_batches(training: Training, examples: int, *, seed: int) -> tuple[Batch, ...]:
    """Draw about so many examples of the validation data; none where there are none or they cannot be had."""
    if training.validation is None:
        return ()
    try:
        drawn = draw(training.validation, seed=seed, enough=lambda _, seen: seen >= examples)
    except TrainingError:  # said by the measurement of the validation data
        return ()
    return drawn.batches
