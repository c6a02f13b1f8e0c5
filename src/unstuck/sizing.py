"""Which batch size to take, in every form that somebody may want it."""

import math
from dataclasses import dataclass

import psutil

from unstuck import processes
from unstuck.batch.records import Sizing
from unstuck.batch.size import Request, measure_sizes
from unstuck.errors import UnstuckError
from unstuck.objective.casts import casts_kept
from unstuck.objective.warned import warned_once
from unstuck.progress import Told, untold
from unstuck.report.answer import Answer, Forms
from unstuck.report.batch.document import to_json
from unstuck.report.batch.figures import figure
from unstuck.report.batch.page import to_html
from unstuck.report.batch.terminal import render, to_text
from unstuck.training import Training, check_budget, check_training


@dataclass(frozen=True, repr=False)
class BatchSize(Answer):
    """What batch size to take and what that rests on; `print` it, or write it as a page or as JSON.

    Attributes:
        sizing: Everything, as plain records.
    """

    _forms = Forms(to_text, render, to_html, to_json, figure)

    sizing: Sizing

    @property
    def _record(self) -> Sizing:
        return self.sizing

    @property
    def low(self) -> int | None:
        """The smallest of the recommended sizes; None where the data cannot decide, or the rate comes first."""
        return self.sizing.decision.low

    @property
    def high(self) -> int | None:
        """The largest of the recommended sizes."""
        return self.sizing.decision.high

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it: it then holds what was known by then."""
        return self.sizing.interrupted


@processes.alone()
def batch_size(
    training: Training,
    *,
    budget: float = 20.0,
    target: float | None = None,
    seed: int = 0,
    memory: float | None = None,
    progress: Told | None = None,
) -> BatchSize:
    r"""Help to decide on a batch size, by what it costs and brings on this very model, data and machine.

    Updates of each size are timed; the gradient noise scale is measured (McCandlish et al., 2018); and copies of the
    run are continued from where it stands, at several sizes, each with the learning rate that suits it, for the same
    time (branches; Merrill et al., 2025). Sizes are recommended by the time to a loss. Where the learning rate is far
    off, that is said instead. Nothing of the training is changed, not by one bit.

    Args:
        training: Whose; without an optimizer nothing can be continued, and only time and noise are measured.
        budget: Seconds to spend, roughly; the longer, the further the branches go.
        target: The loss that the run wants to get to; by default as far as the budget lets half of the sizes get.
        seed: Of all randomness.
        memory: Bytes to use beyond what is in use now; by default what is free.
        progress: Is told what is done next, and which share of the whole is behind.

    Raises:
        TrainingError: The training cannot be evaluated; the message says why.
        KeyboardInterrupt: Only when it came before anything was known.
    """
    check_training(training)
    check_budget(budget)
    if target is not None and not math.isfinite(target):
        msg = f"`target` must be a finite loss, not {target!r}"
        raise UnstuckError(msg)
    room = float(psutil.virtual_memory().available) if memory is None else memory
    with warned_once(), casts_kept(training) as casting:
        return BatchSize(measure_sizes(casting, Request(budget, target, room, seed, progress or untold)))
