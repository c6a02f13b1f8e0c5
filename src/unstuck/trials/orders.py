"""The batches that the run would see next, several times over: as its own data give them, each time another order."""

from dataclasses import replace

from unstuck import processes
from unstuck.measurements.records import Sample
from unstuck.objective import Batch, draw
from unstuck.objective.sampling import alike, moved
from unstuck.training import Training

# Two draws are told apart by their first batches.
_STRIDE = 1_000_003

# Places in a fixed order from which passes begin, as shares of it: far from one another however many there are.
_GOLDEN = 0.6180339887


class Orders:
    """Draws the batches of each order from the training's own data.

    Data that are drawn anew each epoch are drawn anew here. Data that come in the same order each epoch keep it,
    and the orders differ in where in it they begin. Every step has its own seed for dropout.

    Args:
        training: Whose data.
        sample: What the loss is looked at on; unless that is all the data, every other batch of a fixed order is
            left out, since those judge.
        batches: Of each order.
        seed: Of the first order.
    """

    def __init__(self, training: Training, sample: Sample, batches: int, seed: int) -> None:
        self._training = training
        self._sample = sample
        self._count = batches
        self._seed = seed
        self._fixed: list[Batch] | None = None
        self._last: tuple[int, list[Batch]] | None = None
        first, again = self._draw(seed, 1), self._draw(seed + _STRIDE, 1)
        if processes.every(true=alike(first[0], again[0])):
            drawn = self._draw(seed, batches if sample.whole else 2 * batches)
            self._fixed = drawn if sample.whole else drawn[::2]

    def __call__(self, number: int) -> list[Batch]:
        """Give the batches of one order; those of the last one asked for are kept, since all are tried on it."""
        if self._last is None or self._last[0] != number:
            self._last = number, self._order(number)
        return self._last[1]

    def _order(self, number: int) -> list[Batch]:
        if self._fixed is not None:
            start = int(number * _GOLDEN * len(self._fixed))
            chosen = [self._fixed[(start + step) % len(self._fixed)] for step in range(self._count)]
        else:
            chosen: list[Batch] = []
            while len(chosen) < self._count:
                seed = self._seed + (number + 1) * _STRIDE + len(chosen)
                chosen += self._draw(seed, self._count - len(chosen))
        seeds = range(self._seed + (number + 1) * _STRIDE, self._seed + (number + 1) * _STRIDE + len(chosen))
        device = next(self._training.model.parameters()).device
        return [
            replace(batch, content=moved(batch.content, device), seed=seed)
            for batch, seed in zip(chosen, seeds, strict=True)
        ]

    def _draw(self, seed: int, count: int) -> list[Batch]:
        drawn = draw(self._training.data, seed=seed, enough=lambda batches, _: batches >= count, anew=True)
        return list(drawn.batches)
