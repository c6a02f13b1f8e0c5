"""The run gone on with on copies, and what that adds to what is known of the point."""

from collections.abc import Callable, Sequence

from unstuck import processes
from unstuck.measurements.known import Known
from unstuck.measurements.optimizer.continuing import FURTHER, Beyond, Pace, measure_continuations
from unstuck.measurements.records import Continuations, Measurements, Route
from unstuck.measurements.surveys import Limits
from unstuck.objective import Batch
from unstuck.objective.affordable import count_of, further
from unstuck.objective.sampling import total_bytes
from unstuck.training import Training


def go_on(
    known: Known,
    training: Training,
    limits: Limits,
    pace: Pace,
    explained: Callable[[Measurements], bool],
) -> None:
    """Go on as before, and at other rates where what is known by then leaves that open."""
    optimizer = training.optimizer
    if optimizer is None:
        return

    def asked(found: Continuations) -> bool:
        _take(known, found)
        return explained(known.measured())

    try:
        more = Beyond(_further(known, training, limits, pace), processes.agreed(count_of(training.data)))
        _take(known, measure_continuations(optimizer, known.judge, known.sample, pace, asked, beyond=more))
    except Exception as error:  # a stranger's optimizer may raise anything
        known.omit("continuations", error)


def _further(known: Known, training: Training, limits: Limits, pace: Pace) -> Sequence[Batch]:
    """Draw batches to train on beyond a sample that is but a part of the data."""
    if known.sample.whole:
        return ()
    batches = known.objective.batches
    room = limits.data - sum(total_bytes(batch.content) for batch in batches)
    return further(batches, training.data, seed=limits.seed, most=FURTHER, room=room, until=pace.over)


def _take(known: Known, found: Continuations) -> None:
    known.surveyed["continuations"] = found
    arm = found.going_on
    known.routes["ahead"] = Route(
        "ahead",
        arm.descent,
        slope=arm.descent.value,
        distance=0.0,
        multiple=float(arm.steps),
        steps=arm.steps,
    )
