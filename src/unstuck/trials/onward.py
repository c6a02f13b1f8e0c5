"""Where the run goes from here: a copy of it continued, and the weights at every step."""

from collections.abc import Callable, Sequence
from itertools import cycle, islice

from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError, TrainingError
from unstuck.objective import Batch, Objective
from unstuck.objective import ledger as price
from unstuck.objective.ledger import Ledger
from unstuck.remedies.run import Run
from unstuck.training import Training

Places = list[Float[Tensor, " n"]]


def walked(  # noqa: PLR0913 - what goes on, how far, and who counts it
    training: Training,
    batches: Sequence[Batch],
    *,
    steps: int,
    every: int,
    ledger: Ledger,
    over: Callable[[], bool],
    only: Sequence[str] = (),
) -> Places:
    """Continue a copy of the run by so many steps, one a batch, with its optimizer and schedule.

    Args:
        training: Is only read.
        batches: What it goes on with, again and again.
        steps: At most so many.
        every: After each so many of them the weights are kept.
        ledger: Where gradients are counted.
        over: Ends it earlier.
        only: Patterns of the parameters that move; none: all do.

    Returns:
        The weights before the first step, and on the way to where they are not finite any more.

    Raises:
        MeasurementError: There is no optimizer, or it cannot be copied.
    """
    if training.optimizer is None:
        msg = "without `optimizer` no copy can go on: pass the one of the run to Training, or a recorded run"
        raise MeasurementError(msg)
    run = Run(training, Objective(training, batches, ledger=ledger, among=only))
    places: Places = [run.theta()]

    def spend(batch: Batch) -> None:
        ledger.spend(price.GRADIENT, batch.examples)

    with run.objective.replay.session():
        for number, update in enumerate(islice(cycle(run.updates(batches)), steps)):
            if over():
                break
            try:
                run.step(update, number / steps, spend)
            except TrainingError:
                break
            theta = run.theta()
            if not run.objective.space.finite(theta):
                break
            if (number + 1) % every == 0:
                places.append(theta)
    return places
