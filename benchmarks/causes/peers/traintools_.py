"""traintools in the loop of its README: batches, gradients, noise scale, activations, early stopping; and confusion.

What it prints at a step is taken for said if it is printed at half the steps or more, non-finite numbers always.
The noise scale is advice on the batch, and confusion an option, so both are notes. It has no order of its own:
causes come here before what follows from them.
"""

import contextlib
from collections import Counter
from typing import Any

import torch

from benchmarks.causes.continuing import Run, size_of
from benchmarks.causes.peers.watching import (
    Moment,
    Said,
    Whole,
    Words,
    as_it_comes,
    inputs_and_labels,
    moments,
    rate_of,
)
from unstuck import Cause

WORDS: Words = {
    "non-finite": (Cause.NON_FINITE,),
    "no gradients found": (Cause.FROZEN_PARAMETERS,),
    "dominant class covers": (Cause.UNSHUFFLED_DATA,),
    "targets is nearly constant": (Cause.UNSHUFFLED_DATA, Cause.UNINFORMATIVE_LABELS),
    "plasticity: dormant": (Cause.DEAD_UNITS,),
    "plasticity: rank": (Cause.DEAD_UNITS,),
    "gradient appears vanished": (Cause.VANISHING_GRADIENT, Cause.FROZEN_PARAMETERS),
    "gradient is very large": (Cause.STEP_TOO_LARGE,),
    "update/weight ratio is high": (Cause.STEP_TOO_LARGE,),
    "update/weight ratio is tiny": (Cause.STEP_TOO_SMALL,),
    "abs max": (Cause.ILL_CONDITIONED, Cause.SATURATED_UNITS),
    "nearly constant": (),
    "stop: no improvement": (Cause.LOCAL_MINIMUM, Cause.GENERALIZATION_GAP),
    "under-batched": (Cause.GRADIENT_NOISE,),
    "conflicting gradients": (Cause.UNINFORMATIVE_LABELS, Cause.GRADIENT_NOISE),
}
EVERY = 50  # steps between two looks at noise, activations and confusion
SPLITS = 2  # of a batch for the noise scale, its default; smaller batches go by eights
TOGETHER = 8


def ask(run: Run) -> list[Said]:
    """Watch the run with all that the README's loop has."""
    watch = _Watch(run)
    for now in moments(run):
        watch.look(now)
    return watch.said()


class _Watch:
    def __init__(self, run: Run) -> None:
        from traintools import (
            BatchInspector,
            GNSEstimator,
            GradientConfusionMonitor,
            GradientHealthMonitor,
        )
        from traintools.callbacks.pytorch import TraintoolsTracker

        self._run = run
        self._whole = Whole(run, run.steps[0])
        self._batches, self._gradients = BatchInspector(), GradientHealthMonitor()
        self._confusion = GradientConfusionMonitor()
        self._estimator, self._small = GNSEstimator(), []
        self._tracker = TraintoolsTracker(
            self._whole, as_it_comes, gns_freq=EVERY, plasticity_freq=EVERY, verbose=False
        )
        self._printed: Counter[str] = Counter()
        self._confused: list[bool] = []
        self._steps, self._stop = 0, False

    def look(self, now: Moment) -> None:
        self._steps += 1
        inputs, labels = inputs_and_labels(now.batch)
        warnings = self._batches.inspect(inputs, labels, step=now.number).warnings
        lr = rate_of(self._run.optimizer)
        warnings = warnings + self._gradients.inspect(self._run.model, step=now.number, lr=lr).warnings
        self._printed.update({_known(warning) for warning in warnings})
        self._whole._batch = now.batch  # noqa: SLF001 - our own
        every = torch.arange(size_of(now.batch))
        decision = self._tracker.step(self._steps, every, every, val_loss=now.held)
        if now.held is not None:
            self._stop = decision is not None  # it says so again as long as it holds
        if len(every) < 2 * SPLITS:
            self._noise_of_small(len(every))
        if self._steps % EVERY == 0:
            self._confuse(every)

    def said(self) -> list[Said]:
        kept = {
            words
            for words, count in self._printed.items()
            if words == "non-finite" or 2 * count >= self._steps
        }
        kept |= {f"plasticity: {flag}" for flag in self._critical()}
        kept |= {"stop: no improvement"} if self._stop else set()
        noise = self._tracker.gns_history.results
        notes = {"under-batched"} if noise and noise[-1].regime == "under-batched" else set()
        if self._confused and 2 * sum(self._confused) > len(self._confused):
            notes.add("conflicting gradients")
        return [
            Said(words, causes, note=words in notes)
            for words, causes in WORDS.items()
            if words in kept | notes
        ] + [Said(words, ()) for words in kept - set(WORDS)]

    def _critical(self) -> set[str]:
        measured = self._tracker.plasticity_history.results
        flags = [flag.lower() for layer in measured[-1].layers if layer.is_critical() for flag in layer.flags]
        return {"dormant" if flag.startswith("dormant") else "rank" for flag in flags}

    def _confuse(self, every: Any) -> None:
        with contextlib.suppress(ValueError, RuntimeError):  # a batch too small, or without gradients
            report = self._confusion.estimate(self._whole, as_it_comes, every, every)
            self._confused.append(not report.ok)

    def _noise_of_small(self, size: int) -> None:
        """Give the estimator gradients of successive batches, where one batch cannot be split."""
        found = [one.grad.reshape(-1) for one in self._run.model.parameters() if one.grad is not None]
        self._small.append(torch.cat(found).float().clone())
        if len(self._small) == TOGETHER:
            stacked, self._small = torch.stack(self._small), []
            self._tracker.gns_history.record(self._estimator.update(stacked, size, size, step=self._steps))


def _known(warning: str) -> str:
    return next((words for words in WORDS if words in warning), warning)
