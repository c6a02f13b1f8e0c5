"""The sample of data that a verdict rests on, drawn again for its trials."""

import contextlib

from unstuck.errors import TrainingError
from unstuck.findings.records import Verdict
from unstuck.objective import Batch, Objective, draw
from unstuck.training import Training

# Batches that are looked at for those on which the loss is finite.
_LOOKED_AT = 80


def sampled(training: Training, verdict: Verdict, *, seed: int) -> Objective:
    """Give the loss over the sample that the verdict rests on, in the training's own types."""
    if verdict.measured.non_finite is not None:
        return finite(training, seed)
    sample = verdict.measured.sample
    drawn = draw(
        training.data,
        seed=seed,
        enough=lambda _, examples: not sample.whole and examples >= sample.examples,
    )
    return Objective(training, drawn.batches)


def finite(training: Training, seed: int) -> Objective:
    """Give the loss over the batches on which it is finite; the diagnosis ended at the first on which it is not."""
    good: list[Batch] = []
    for batch in draw(training.data, seed=seed, enough=lambda batches, _: batches >= _LOOKED_AT).batches:
        with contextlib.suppress(TrainingError):
            Objective(training, [batch])
            good.append(batch)
    if not good:
        msg = "the loss is finite on no batch: mend first the place where it breaks"
        raise TrainingError(msg)
    return Objective(training, good)
