"""How the loss bends along all directions where a training stands: both ends of the spectrum, and all between."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

from unstuck.errors import UnstuckError
from unstuck.interrupts import cut_short
from unstuck.landscape.bending import Bender
from unstuck.landscape.bends import Bending
from unstuck.landscape.blocks import Blocks
from unstuck.landscape.ground import Ground, Limits, limits_of, sampled
from unstuck.measurements.division import unwrapped
from unstuck.objective.looking import looking
from unstuck.objective.parameters import check_names
from unstuck.progress import Told, untold
from unstuck.report.answer import Answer, Forms
from unstuck.report.spectrum.document import to_json
from unstuck.report.spectrum.figures import figure
from unstuck.report.spectrum.page import to_html
from unstuck.report.spectrum.terminal import render, to_text
from unstuck.training import Training, check_training

# Share of the time for the spectrum of all layers together, where they are looked at one by one too.
_WHOLE = 0.5


# What it costs, roughly, in gradients over the sample: some 400 products of two gradients each, on half of it, and as
# many in the metric of an adaptive optimizer.
_TYPICAL_COST = 800.0


@dataclass(frozen=True, repr=False)
class Spectrum(Answer):
    """How the loss bends; `print` it, or write it as a page or as JSON.

    Its figures are "hessian", "metric" and "blocks".

    Attributes:
        bending: Everything, as plain records.
        interrupted: Ctrl-C ended it; what was known by then is there.
    """

    _forms = Forms(to_text, render, to_html, to_json, figure)

    bending: Bending
    interrupted: bool = False

    @property
    def _record(self) -> Bending:
        return self.bending


def spectrum(  # noqa: PLR0913 - what is spent, on what, and who hears of it
    training: Training,
    *,
    top: int = 10,
    budget: float = 60.0,
    seed: int = 0,
    memory: float | None = None,
    only: Sequence[str] = (),
    blocks: bool = False,
    resume: str | PathLike[str] | None = None,
    progress: Told | None = None,
) -> Spectrum:
    """Tell the eigenvalues of the loss's Hessian: both ends one by one, and how many lie between.

    Of an adaptive optimizer in its own metric as well, which sets the stable step. The loss is the one the optimizer
    minimises, weight decay included, with the model in the mode (train or eval) it is handed in. The Hessian is
    formed only where it is small; else it is multiplied with some hundred vectors. Nothing of the training is
    changed, not by one bit, also after an exception or Ctrl-C.

    Where a process group of `torch.distributed` is there, all processes must call it, each with its shard of the
    data; all get the same answer. Ctrl-C then ends all of them.

    Args:
        training: What is looked at.
        top: How many eigenvalues at each end.
        budget: Seconds to spend, roughly; the sample of data is chosen to fit.
        seed: Of all randomness.
        memory: Bytes to use beyond what is in use now; by default what is free.
        only: Patterns of names, as in a shell, such as `"h.11.*"`, matched from the beginning or after a dot: these
            parameters alone are looked at, the others held fixed. By default all are.
        blocks: Look at every layer by itself as well, the others held fixed, in half of the time.
        resume: A folder that keeps what is evaluated, and what it holds is not evaluated again: after the end of a
            process, by whatever, the same call goes on where that was.
        progress: Is told what is done next, and which share of the whole is behind.

    Raises:
        TrainingError: The training cannot be evaluated; the message says why.
        MeasurementError: The loss or its gradient is not finite.
        KeyboardInterrupt: Only when it came before anything was known.
    """
    check_training(training)
    if top < 1:
        msg = f"`top` must be a number of eigenvalues above 0, not {top!r}"
        raise UnstuckError(msg)
    training = replace(training, model=unwrapped(training.model))
    limits = limits_of(budget, memory, seed, only)
    check_names(training.model, limits.only)
    told = progress or untold
    with looking(training, resume=resume, memory=limits.memory) as training:
        return _bent(training, limits, top, told, blocks=blocks)


def _bent(training: Training, limits: Limits, top: int, told: Told, *, blocks: bool) -> Spectrum:
    told("reading the data", 0.0)
    share = _WHOLE if blocks else 1.0
    drawn, sample = sampled(training, limits, gradients=_TYPICAL_COST / share)
    told("the gradient", 0.02)
    reserve = (1.0 - share) * limits.left()
    first = replace(limits, left=lambda: limits.left() - reserve)
    ground = Ground(training, drawn, sample, first, decayed=True)
    bender = Bender(training, ground, top)
    layered = Blocks(training, drawn, sample, limits, ground.ledger) if blocks else None

    def run() -> None:
        bender.run(lambda stage, behind: told(stage, share * behind))
        if layered is not None:
            layered.run(lambda stage, behind: told(stage, share + (1.0 - share) * behind))

    interrupted = cut_short(run)
    told("done", 1.0)
    bending = bender.bending()
    return Spectrum(bending if layered is None else layered.beside(bending), interrupted)
