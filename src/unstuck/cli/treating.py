"""What `unstuck treat` does, once its arguments have been read."""

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from unstuck import processes
from unstuck.cli.loading import loaded, say
from unstuck.cli.output import OutputError, prepare, put
from unstuck.cli.progress import shown
from unstuck.pipeline import diagnose
from unstuck.remedies.afterwards import ALONE, UNSAVED
from unstuck.report.headline import headline
from unstuck.target import holds_optimizer, like, write_checkpoint
from unstuck.training import Training
from unstuck.treating import Treated, escape, treat
from unstuck.trials.choice import check_optimizer, check_remedy

DONE = 0


@dataclass(frozen=True)
class Escape:
    """What was asked for; the fields are the options of the command."""

    target: str
    out: str | None
    checkpoint: str | None
    steps: int
    budget: float
    seed: int


@dataclass(frozen=True)
class Treat:
    """What was asked for; the fields are the options of the command."""

    target: str
    out: str
    checkpoint: str | None
    steps: int
    remedy: str | None
    more: int | None
    budget: float
    seed: int


def run(request: Treat) -> int:
    """Diagnose, apply the best proven remedy, write the checkpoint and say what to change in the script.

    Raises:
        UnstuckError: The target or a file is no good, or no remedy is proved to help; nothing is written then.
    """
    check_remedy(request.remedy)
    speaks = processes.speaks()
    out = prepare(request.out) if speaks else None
    errors = Console(stderr=True, quiet=not speaks)
    # Whatever the user's own code prints must not get between the lines of the answer.
    with redirect_stdout(sys.stderr):
        training = loaded(request.target, request.checkpoint, request.steps, errors, together=True)
        check_optimizer(training)
        with shown(errors) as progress:
            diagnosis = diagnose(training, budget=request.budget, seed=request.seed, progress=progress)
        head = headline(diagnosis.verdict)
        sure = f", {head.sureness}" if head.sureness else ""
        say(errors, f"diagnosis: {head.title}{sure}")
        with shown(errors) as progress:
            treated = treat(
                training,
                diagnosis,
                remedy=request.remedy,
                steps=request.more,
                seed=request.seed,
                progress=progress,
            )
    return _delivered(out, request, training, treated)


def leave(request: Escape) -> int:
    """Leave the saddle point that a training stands at, and write the checkpoint if that is asked for.

    Raises:
        UnstuckError: The target or a file is no good, or there is no way down; nothing is written then.
    """
    speaks = processes.speaks()
    out = prepare(request.out) if request.out and speaks else None
    errors = Console(stderr=True, quiet=not speaks)
    with redirect_stdout(sys.stderr):
        training = loaded(request.target, request.checkpoint, request.steps, errors, together=True)
        with shown(errors) as progress:
            escaped = escape(training, budget=request.budget, seed=request.seed, progress=progress)
    return _delivered(out, request, training, escaped)


def _delivered(out: Path | None, request: Treat | Escape, training: Training, treated: Treated) -> int:
    """Write and say what was done; of several processes the first does."""
    if processes.speaks():
        wrote = ""
        if out is None:
            treated = replace(treated, left=UNSAVED)
        else:
            whole = _write(out, request, training, treated)
            wrote = f"wrote {out}\n"
            if treated.code and not whole:
                treated = replace(treated, left=ALONE)
        put(f"{treated}\n{wrote}", sys.stdout)
    processes.leave()
    return DONE


def _write(out: Path, request: Treat | Escape, training: Training, treated: Treated) -> bool:
    """In the form of the checkpoint that was loaded, if one was; whether the optimizer's state is in it."""
    state = treated.state
    same = request.checkpoint is not None and Path(request.checkpoint).is_file()
    unscheduled = training.scheduler is not None and treated.training.scheduler is None
    try:
        if same:
            state = like(str(request.checkpoint), training.model, state, unscheduled=unscheduled)
        write_checkpoint(out, state)
    except (OSError, RuntimeError) as error:
        msg = f"cannot write {request.out}: {' '.join(str(error).split()):.200}"
        raise OutputError(msg) from error
    return holds_optimizer(out, state)
