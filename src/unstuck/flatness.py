"""How sharp is the place where a training stands: every measure of it, and what each can say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

from unstuck.interrupts import cut_short
from unstuck.landscape.ground import limits_of, sampled
from unstuck.landscape.records import Measure, Survey
from unstuck.landscape.survey import Surveyor
from unstuck.measurements.division import unwrapped
from unstuck.objective.looking import looking
from unstuck.objective.parameters import check_names
from unstuck.progress import Told, untold
from unstuck.report.answer import Answer, Forms
from unstuck.report.sharpness.document import to_json
from unstuck.report.sharpness.figures import figure
from unstuck.report.sharpness.page import to_html
from unstuck.report.sharpness.terminal import render, to_text
from unstuck.training import Training, check_training

# What all measures cost together, roughly, in gradients.
_TYPICAL_COST = 400.0


@dataclass(frozen=True, repr=False)
class Sharpness(Answer):
    """How sharp a place is; `print` it, or write it as a page or as JSON.

    Its figures are "profiles" and "widths".

    Attributes:
        survey: Everything, as plain records.
        interrupted: Ctrl-C ended it; the survey holds what was known by then.
    """

    _forms = Forms(to_text, render, to_html, to_json, figure)

    survey: Survey
    interrupted: bool = False

    @property
    def _record(self) -> Survey:
        return self.survey

    @property
    def measures(self) -> dict[str, Measure]:
        """Every measure by its name: `lambda_max`, `trace`, `keskar`, `sam`, `asam` and variants of them."""
        return {measure.name: measure for measure in self.survey.measures}


def sharpness(  # noqa: PLR0913 - what is spent, on what, and who hears of it
    training: Training,
    *,
    budget: float = 60.0,
    seed: int = 0,
    memory: float | None = None,
    only: Sequence[str] = (),
    exact: bool = False,
    resume: str | PathLike[str] | None = None,
    progress: Told | None = None,
) -> Sharpness:
    """Tell how sharp the loss is around the weights as they are, in several measures, each with its error.

    The loss is the training's without weight decay, with the model in the mode (train or eval) it is handed in.
    Nothing of the training is changed, not by one bit, also after an exception or Ctrl-C.

    Where a process group of `torch.distributed` is there, all processes must call it, each with its shard of the
    data; all get the same answer. Ctrl-C then ends all of them.

    Args:
        training: What is looked at.
        budget: Seconds to spend, roughly; the sample of data is chosen to fit.
        seed: Of all randomness.
        memory: Bytes to use beyond what is in use now; by default what is free.
        only: Patterns of names, as in a shell, such as `"h.11.*"`, matched from the beginning or after a dot: these
            parameters alone are looked at, the others held fixed. By default all are.
        exact: Evaluate the loss at every place of the lines that are drawn. By default heights are interpolated where
            the loss is smooth: where each of those that were evaluated is predicted by the others. Which heights
            those are, and what they may be off by, is in the answer.
        resume: A folder that keeps what is evaluated, and what it holds is not evaluated again: after the end of a
            process, by whatever, the same call goes on where that was.
        progress: Is told what is done next, and which share of the whole is behind.

    Raises:
        TrainingError: The training cannot be evaluated; the message says why.
        MeasurementError: The loss or its gradient is not finite.
        KeyboardInterrupt: Only when it came before anything was known.
    """
    check_training(training)
    training = replace(training, model=unwrapped(training.model))
    limits = limits_of(budget, memory, seed, only, exact=exact)
    check_names(training.model, limits.only)
    told = progress or untold
    with looking(training, resume=resume, memory=limits.memory) as training:
        told("reading the data", 0.0)
        drawn, sample = sampled(training, limits, gradients=_TYPICAL_COST)
        told("the gradient", 0.05)
        surveyor = Surveyor(training, drawn, sample, limits)
        interrupted = cut_short(lambda: surveyor.run(told))
        told("done", 1.0)
        return Sharpness(surveyor.survey(), interrupted)
