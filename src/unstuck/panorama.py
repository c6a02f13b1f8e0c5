"""Pictures of the loss around the place where a training stands, and what each can say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from unstuck import processes
from unstuck.errors import MeasurementError, UnstuckError
from unstuck.interrupts import cut_short
from unstuck.landscape.ground import Ground, limits_of, sampled
from unstuck.landscape.paths import Trajectory
from unstuck.landscape.pictures import View
from unstuck.landscape.viewer import Viewer
from unstuck.measurements.division import unwrapped
from unstuck.objective import Draw
from unstuck.objective.looking import looking
from unstuck.objective.parameters import check_names
from unstuck.progress import Told, untold
from unstuck.report.answer import Answer, Forms
from unstuck.report.surface.document import to_json
from unstuck.report.surface.figures import figure
from unstuck.report.surface.page import to_html
from unstuck.report.surface.terminal import render, to_text
from unstuck.training import Training, check_training
from unstuck.trials.onward import walked
from unstuck.watching.defaults import FEWEST_PLACES
from unstuck.watching.files.trodden import Snapshot, snapshots

# What may be looked along; the command's option says "all" for all of them.
ALONG = ("random", "hessian", "path")
ALL = "all"

# What the pictures cost together, roughly, in gradients: some 300 places each (all of 17 by 17, or what is evaluated
# of 33 by 33), on half of the sample and as many validation data, and some 60 for the eigenvectors.
_TYPICAL_COST = 700.0

# Without a recorded run a copy goes on for so many steps, or this share of the time that is left.
_STEPS, _WALKING = 200, 0.15

# Share of the memory for the weights of a path, of which three copies are held; and so many show it well enough.
_PLACES, _MOST_PLACES = 0.1, 100


@dataclass(frozen=True, repr=False)
class Surface(Answer):
    """What the loss looks like around a place; `print` it, or write it as a page or as JSON.

    Its figures are "random", "random-surface", "hessian", and so on, and "slices".

    Attributes:
        view: Everything, as plain records.
        interrupted: Ctrl-C ended it; the view holds what was seen by then.
    """

    _forms = Forms(to_text, render, to_html, to_json, figure)

    view: View
    interrupted: bool = False

    @property
    def _record(self) -> View:
        return self.view


def surface(  # noqa: PLR0913 - what is looked along, and what may be spent
    training: Training,
    *,
    along: str = ALL,
    run: str | Path | None = None,
    budget: float = 60.0,
    seed: int = 0,
    memory: float | None = None,
    only: Sequence[str] = (),
    exact: bool = False,
    resume: str | PathLike[str] | None = None,
    progress: Told | None = None,
) -> Surface:
    """Show what the loss looks like around the weights as they are.

    Coarse at first, then finer while there is time. The loss is the training's without weight decay, with the model
    in the mode (train or eval) it is handed in. Nothing of the training is changed, not by one bit, also after an
    exception or Ctrl-C.

    Args:
        training: What is looked at.
        along: "random" directions, scaled like the filters (Li et al., 2018); those of the "hessian", the
            eigenvectors of its largest and its smallest eigenvalue; the "path" of the weights; or "all".
        run: A recorded run, or a folder of runs, whose path is looked along, if it was kept (`unstuck run --path`).
            Without one a copy of the training is continued for some steps, and that path is looked along.
        budget: Seconds to spend, roughly; the sample of data is chosen to fit.
        seed: Of all randomness; another one draws other random directions.
        memory: Bytes to use beyond what is in use now; by default what is free.
        only: Patterns of names, as in a shell, such as `"h.11.*"`, matched from the beginning or after a dot: these
            parameters alone are looked at, the others held fixed. By default all are.
        exact: Evaluate the loss at every place. By default, in grids finer than 9 by 9, heights are interpolated if
            the loss is smooth: if a surface through some heights is right to 1/1000 of the height of the picture
            at other places, where it is compared with the loss. Which heights those are, and what they may be off
            by, is in the answer.
        resume: A folder that keeps what is evaluated, and what it holds is not evaluated again: after the end of a
            process, by whatever, the same call goes on where that was.
        progress: Is told what is done next, and which share of the whole is behind.

    Raises:
        TrainingError: The training cannot be evaluated; the message says why.
        MeasurementError: The loss or its gradient is not finite.
        RunError: There is no such run, or its path was not kept.
        KeyboardInterrupt: Only when it came before anything was known.
    """
    check_training(training)
    if along not in {*ALONG, ALL}:
        msg = f"`along` must be one of {', '.join(ALONG)} or {ALL}, not {along!r}"
        raise UnstuckError(msg)
    training = replace(training, model=unwrapped(training.model))
    limits = limits_of(budget, memory, seed, only, exact=exact)
    check_names(training.model, limits.only)
    told = progress or untold
    with looking(training, resume=resume, memory=limits.memory) as training:
        told("reading the data", 0.0)
        kept = () if run is None else processes.together(lambda: snapshots(run))

        def path(ground: Ground) -> Trajectory:
            return _recorded(ground, kept) if kept else _continued(training, drawn, ground)

        drawn, sample = sampled(training, limits, gradients=_TYPICAL_COST)
        told("the gradient", 0.02)
        viewer = Viewer(training, drawn, sample, limits, ALONG if along == ALL else (along,), path)
        interrupted = cut_short(lambda: viewer.run(told))
        told("done", 1.0)
        return Surface(viewer.view(), interrupted)


def _recorded(ground: Ground, kept: Sequence[Snapshot]) -> Trajectory:
    """Read the path of a recorded run, thinned to what fits the memory."""
    parameters = ground.objective.parameters
    if parameters.sharded:
        msg = "of a divided model no path is read from a run: without one, a copy's is looked along"
        raise MeasurementError(msg)
    wanted = {slot.name: tuple(slot.parameter.shape) for slot in parameters.slots}
    stride = -(-len(kept) // _most(ground))
    chosen = [*kept[:-1:stride], kept[-1]]
    places = processes.together(lambda: [parameters.flatten(each.weights(wanted)) for each in chosen])
    return Trajectory("run", tuple(each.step for each in chosen), places)


def _continued(training: Training, drawn: Draw, ground: Ground) -> Trajectory:
    """Go on on a copy."""
    until, every = (1.0 - _WALKING) * ground.limits.left(), -(-_STEPS // _most(ground))
    places = walked(
        training,
        drawn.batches,
        steps=_STEPS,
        every=every,
        ledger=ground.ledger,
        only=ground.limits.only,
        over=lambda: ground.limits.left() < until,
    )
    return Trajectory("copy", tuple(every * number for number in range(len(places))), places)


def _most(ground: Ground) -> int:
    """How many places fit the memory."""
    fitting = _PLACES * ground.limits.memory / ground.theta.nbytes
    return int(min(max(fitting, FEWEST_PLACES), _MOST_PLACES))
