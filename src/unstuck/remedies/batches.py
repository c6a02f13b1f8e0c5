"""Other batches: larger, smaller, drawn anew, without what is not finite; and gradients kept short."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from unstuck import processes
from unstuck.errors import MeasurementError
from unstuck.findings.records import Cause
from unstuck.measurements.data.collating import Take, pooled
from unstuck.objective.sampling import Batch, counted
from unstuck.remedies.run import Run, Update
from unstuck.remedies.treatment import Left, NotApplicableError, Situation, Treatment

LARGER, SMALLER = 8, 4

# Gradients are kept to what is usual: this quantile of the lengths met.
_USUAL = 0.5


def larger_batch(known: Situation) -> Sequence[Treatment]:
    """Average the gradients of eight batches in each update; each update then costs eight."""
    if known.measured.sample.whole and known.measured.sample.batches == 1:
        return []

    def regroup(batches: Sequence[Batch]) -> list[Update]:
        return [tuple(batches[start : start + LARGER]) for start in range(0, len(batches), LARGER)]

    def apply(run: Run) -> None:
        run.regroup = regroup

    return [
        Treatment(
            "larger-batch",
            frozenset({Cause.GRADIENT_NOISE}),
            f"gradients averaged over {LARGER} batches in each update",
            (f"DataLoader(..., batch_size={LARGER} * batch_size)  # or accumulate {LARGER} backward passes",),
            "McCandlish et al., 2018; Smith et al., 2018",
            apply,
            left=Left.ALWAYS,
        )
    ]


def smaller_batch(known: Situation) -> Sequence[Treatment]:
    """Cut each batch into four: each update then costs a quarter, and is noisier."""
    if known.measured.sample.examples < 2 * SMALLER * known.measured.sample.batches:
        return []

    def regroup(batches: Sequence[Batch]) -> list[Update]:
        return [(piece,) for batch in batches for piece in _pieces(batch)]

    def apply(run: Run) -> None:
        run.regroup = regroup

    return [
        Treatment(
            "smaller-batch",
            frozenset({Cause.STEP_TOO_SMALL, Cause.SADDLE_POINT}),
            f"each batch cut into {SMALLER}, one update each",
            (f"DataLoader(..., batch_size=batch_size // {SMALLER})",),
            "Keskar et al., 2017; Masters & Luschi, 2018",
            apply,
            left=Left.ALWAYS,
        )
    ]


def shuffle(known: Situation) -> Sequence[Treatment]:
    """Draw the examples of each pass in random order, in batches of the present sizes."""
    if known.measured.sample.batches == 1:
        return []

    def apply(run: Run) -> None:
        run.regroup = lambda batches: [(batch,) for batch in _shuffled(batches, known.seed)]

    return [
        Treatment(
            "shuffle",
            frozenset({Cause.UNSHUFFLED_DATA}),
            "the examples in random order",
            ("DataLoader(..., shuffle=True)",),
            "Bengio, 2012, section 3.1; Bottou, 2009",
            apply,
            left=Left.ALWAYS,
        )
    ]


def clip(known: Situation) -> Sequence[Treatment]:
    """Shorten gradients that are longer than usual."""
    arms = known.measured.continuations.arms if known.measured.continuations else ()
    slopes = sorted(slope for arm in arms[:1] for slope in arm.slopes if 0.0 < slope < math.inf)
    if not slopes:
        return []
    most = slopes[int(_USUAL * len(slopes))]

    def apply(run: Run) -> None:
        run.twin.clip = most

    return [
        Treatment(
            "clip",
            frozenset({Cause.STEP_TOO_LARGE, Cause.NON_FINITE}),
            f"gradients no longer than {most:.3g}, half of those met",
            (
                f"torch.nn.utils.clip_grad_norm_(model.parameters(), {most:.3g})  # between backward() and step()",
            ),
            "Pascanu et al., 2013; Zhang et al., 2020",
            apply,
            left=Left.ALWAYS,
        )
    ]


def skip(known: Situation) -> Sequence[Treatment]:
    """Leave out updates whose loss or gradient is NaN or infinite."""
    if known.measured.non_finite is None:
        return []

    def apply(run: Run) -> None:
        run.skip = True

    return [
        Treatment(
            "skip",
            frozenset({Cause.NON_FINITE}),
            "batches whose loss or gradient is not finite are left out",
            ("if not loss.isfinite():\n    continue  # before backward(); better still, mend the data",),
            "Micikevicius et al., 2018, section 3.2 (dynamic loss scaling leaves such steps out too)",
            apply,
            left=Left.ALWAYS,
        )
    ]


def _pieces(batch: Batch) -> list[Batch]:
    take = _taking([batch])
    parts = int(processes.least(float(min(SMALLER, batch.here))))
    rows = torch.arange(batch.here).tensor_split(parts) if parts else ()
    return [counted(take(piece), len(piece), batch.seed + number * 7919) for number, piece in enumerate(rows)]


def _shuffled(batches: Sequence[Batch], seed: int) -> list[Batch]:
    """Exchange the examples between the batches at random; each batch keeps its size, in each process.

    Passes over small data are mixed with one another: no example is lost, and each comes as often as before.
    """
    take = _taking(batches)
    drawn = torch.Generator().manual_seed(seed)
    order = torch.randperm(sum(batch.here for batch in batches), generator=drawn)
    parts = order.split([batch.here for batch in batches])
    return [replace(batch, content=take(part)) for batch, part in zip(batches, parts, strict=True)]


def _taking(batches: Sequence[Batch]) -> Take:
    try:
        # The last batch of a process whose data had ended is not its own.
        own = [batch for batch in batches if batch.here]
        return processes.together(lambda: pooled([b.content for b in own], [b.here for b in own]))
    except MeasurementError as error:
        msg = f"the batches cannot be taken apart: {error}"
        raise NotApplicableError(msg) from error
