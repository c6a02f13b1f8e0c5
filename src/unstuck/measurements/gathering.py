"""The sample of all processes, and a divided model, brought to the first one, for what looks at every example."""

from collections.abc import Sequence
from typing import Any

import torch

from unstuck import processes
from unstuck.errors import MeasurementError
from unstuck.measurements.assembling import assembled
from unstuck.measurements.data.collating import pooled
from unstuck.measurements.judging import Halves, Judge
from unstuck.objective import Batch, Objective
from unstuck.objective.sampling import total_bytes
from unstuck.training import Training

# So many batches are brought whatever the room: one to find, one to judge.
_FEWEST = 2

# A divided model is put together where the room is this many times its size: it, its gradient, the optimizer's state
# and what evaluations keep of it.
_TIMES = 6


class Gathered:
    """The first process's own judge, over the batches of all; made when it is first asked for.

    Args:
        training: Of this process.
        judge: Of all processes together.
        room: Bytes for the batches that are brought.
        whole: Bytes for a divided model.

    Attributes:
        training: That of this process; in the first one, with a model that is whole.
        possible: Whether the first process has the room for all of the model.
    """

    def __init__(self, training: Training, judge: Judge, room: float, whole: float) -> None:
        self.training, self._judge, self._room = training, judge, room
        self._made: Judge | None = None
        self._brought = False
        self._divided = judge.objective.space.parts is not None
        bytes_of_all = judge.objective.space.size * judge.objective.theta.element_size()
        self.possible = not self._divided or processes.every(true=_TIMES * bytes_of_all <= whole)

    def bring(self) -> None:
        """Bring the batches, once; what every process has to do at the same time."""
        if self._brought or processes.count() == 1:
            return
        if self._divided:
            try:
                self.training = processes.together(lambda: assembled(self.training)) or self.training
            except Exception:  # a stranger's module may refuse to be copied: that is not tried a second time
                self.possible = False
                raise
        self._brought = True
        batches = self._judge.objective.batches
        size = max(processes.agreed(float(total_bytes(batches[0].content))) * processes.count(), 1.0)
        chosen = batches[: max(int(self._room / size), _FEWEST)]
        parts = processes.brought([(batch.content, batch.here) for batch in chosen])
        if parts is not None:
            with processes.alone():
                self._made = self._alone([batch.seed for batch in chosen], parts)

    def judge(self) -> Judge:
        """Give it; after `bring`, and only in the first process."""
        return self._made or self._judge

    def _alone(self, seeds: Sequence[int], parts: Sequence[Sequence[tuple[Any, int]]]) -> Judge:
        batches = [
            batch
            for seed, turn in zip(seeds, zip(*parts, strict=True), strict=True)
            for batch in _whole([part for part in turn if part[1]], seed)
        ]
        shared = self._judge.objective
        objective = Objective(self.training, batches, ledger=shared.ledger)
        all_of_them = len(seeds) == len(shared.batches)
        halves = Halves.of(len(batches), exhaustive=self._judge.halves.exhaustive and all_of_them)
        return Judge(objective, halves, objective.values(objective.theta))


def _whole(parts: Sequence[tuple[Any, int]], seed: int) -> list[Batch]:
    """Put the parts of a batch together; where they do not fit, each is a batch."""
    contents, sizes = zip(*parts, strict=True)
    try:
        take = pooled(contents, sizes)
    except MeasurementError:
        return [Batch(content, size, seed) for content, size in parts]
    return [Batch(take(torch.arange(sum(sizes))), sum(sizes), seed)]
