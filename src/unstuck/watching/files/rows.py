"""The rows of a run's file: one for each optimizer, step and sample, fewer where there are many steps."""

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from unstuck.watching.files import schema
from unstuck.watching.files.store import Store
from unstuck.watching.follower import Follower
from unstuck.watching.sampled import Group, Sample

# Each of so many first steps is written down; afterwards means over 2, 4, 8, ... of them.
_EACH = 100_000


class Rows:
    """Puts what is known of the optimizers that are followed into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def optimizer(self, follower: Follower, optimizer: Optimizer, model: str | None, size: int) -> None:
        """Introduce one that moves so many parameters of a model, or change what was said of it."""
        self._store.put(schema.OPTIMIZERS, (follower.number, type(optimizer).__name__, model, size))

    def step(self, follower: Follower, step: int, now: float, loss: float | None, rate: float | None) -> None:
        """Write a step down, or add it to those that make one row with it."""
        # SQLite keeps NaN as NULL, and so what is not known: which of them it is stands beside it.
        broken = int(loss is not None and math.isnan(loss))
        if step <= _EACH:
            self._store.put(schema.STEPS, (follower.number, step, now, 1, loss, rate, broken))
            return
        together = follower.together
        together[0] += 1
        together[1] += math.nan if loss is None else loss
        together[2] += broken
        count, total, broken = together
        if count >= 1 << (step // _EACH).bit_length() - 1:
            self._store.put(schema.STEPS, (follower.number, step, now, count, total / count, rate, broken))
            follower.together = [0, 0.0, 0]

    def sample(self, follower: Follower, optimizer: Optimizer, sample: Sample, now: float) -> None:
        """Write down what a close look at a step has shown, of all weights, of each layer and group."""
        pace = follower.seconds_per_step()
        where = (follower.number, follower.step)
        self._store.put(
            schema.SAMPLES,
            (
                *where,
                now,
                sample.gradient_norm,
                sample.weight_norm,
                sample.update_norm,
                sample.gradient_cosine,
                sample.descent_cosine,
                sample.signal,
                sample.noise,
                sample.sigma,
                sample.sigma_ratio,
                sample.unchanged,
                sample.overshoot,
                1.0 / pace if pace > 0.0 else None,
                follower.cost,
            ),
        )
        for layer, group in sample.layers.items():
            self._store.put(schema.LAYERS, (*where, layer, *_lengths(group)))
        if len(sample.groups) > 1:
            for number, group in enumerate(sample.groups):
                rate = as_number(optimizer.param_groups[number].get("lr"))
                self._store.put(schema.GROUPS, (*where, number, rate, *_lengths(group)))


def as_number(value: Any) -> float | None:
    """Give what may be a tensor, or nothing at all, as a number."""
    return float(value) if isinstance(value, int | float | Tensor) else None


def _lengths(group: Group) -> tuple[float, float, float]:
    return group.gradient_norm, group.weight_norm, group.update_norm
