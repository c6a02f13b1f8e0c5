"""Get a run moving again: the best proven remedy, applied to the user's own training, or a saddle left."""

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from unstuck import processes
from unstuck.diagnosis import Diagnosis
from unstuck.findings.records import Verdict
from unstuck.landscape.ground import limits_of
from unstuck.measurements.division import unwrapped
from unstuck.measurements.optimizer.schedule import rate_of
from unstuck.objective import Batch, Objective
from unstuck.objective.casts import casts_kept
from unstuck.objective.pace import threads_kept
from unstuck.objective.warned import warned_once
from unstuck.objective.whole import by_names, whole
from unstuck.progress import Told, untold
from unstuck.remedies.afterwards import LEFT, left, schedule_note
from unstuck.remedies.commit import commit, commit_point
from unstuck.remedies.records import End
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, NotApplicableError, Situation, Treatment
from unstuck.training import Training, check_training
from unstuck.trials import choice
from unstuck.trials.choice import TreatmentError
from unstuck.trials.course import Course, Held
from unstuck.trials.orders import Orders
from unstuck.trials.outward import outward
from unstuck.trials.sample import sampled
from unstuck.trials.side import Side, validation_batches

# Without a trial to go by: as many batches as a trial would take.
_STEPS = 80

_UNTIL = {
    End.STATIONARY: "no direction leads down any more",
    End.BUDGET: "the time was over",
    End.NO_WAY_DOWN: "no way down was found any more",
    End.BY_HEART: "what it gained no longer held on other data",
}

# Put by DistributedDataParallel before the names of what it holds.
_WRAPPED = "module."

# Its order is none of those that the proof rests on.
_ORDER = 1_000


@dataclass(frozen=True)
class Treated:
    """What was done to a training, which has it already.

    Attributes:
        remedy: Its name.
        change: What was changed, in a few words.
        code: The lines of code that make the change in the user's script.
        left: What is left to do with them, where `state` is loaded.
        notes: What else to know of going on: where the schedule leads, and what was passed over.
        before: The loss on the held sample, before; on the validation data, where the trials went by them.
        after: The same after.
        on: The data that both are the loss of, in words.
        steps: Gradient evaluations of a batch that were made, the remedy's own cost included.
        seconds: What it took.
        optimizer: The one to go on with: the training's own, if it has one, or another where the remedy puts one
            in its place.
        training: The training with that optimizer; without the scheduler of one that has been replaced.
        state: For `torch.save`: `model_state_dict`, `optimizer_state_dict`, and with a scheduler
            `scheduler_state_dict`; parameters in the type that the remedy has given them. Of a model that
            `fully_shard` has divided whole tensors, in the first process alone, and the optimizer's by the names of
            the parameters: as `set_optimizer_state_dict` of PyTorch loads it with `full_state_dict`.
    """

    remedy: str
    change: str
    code: tuple[str, ...]
    left: str
    notes: tuple[str, ...]
    before: float
    after: float
    on: str
    steps: float
    seconds: float
    optimizer: Optimizer | None
    training: Training
    state: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        # Of a loss that can be negative a share says nothing.
        lower = self.before - self.after
        share = f" ({100 * lower / self.before:.1f} % lower)" if 0.0 <= self.after < self.before else ""
        lines = [
            f"{self.remedy}: {self.change}",
            f"loss {self.before:.6g} -> {self.after:.6g}{share} on {self.on}",
            f"after {self.steps:.0f} gradient evaluations of a batch, {self.seconds:.1f} s",
        ]
        told = [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *told, f"{self.left}{':' if self.code else ''}", *self.code])


def treat(
    training: Training,
    diagnosis: Diagnosis,
    *,
    remedy: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: Told | None = None,
) -> Treated:
    """Apply the best proven remedy to the training, in place, and go on with it for a while.

    It is made on copies, from where the training stands; only when the loss on the held sample is lower there is the
    training changed: parameters, buffers, state of optimizer and scheduler, all or nothing. A remedy that puts
    another optimizer in the place of the present one gives it back in the result.

    Where a process group of `torch.distributed` is there, all processes must call it, as `diagnose`.

    Args:
        training: The one that was diagnosed.
        diagnosis: Of it, with trials.
        remedy: Name of the one to apply; by default the best that is proved to help.
        steps: Batches to go on for; by default as many as the trials took.
        seed: As given to `diagnose`.
        progress: Is told what is done and which share of the whole is behind.

    Raises:
        TreatmentError: No remedy is proved to help, there is none of that name, or the loss was not lower
            after it; the training is as it was.
    """
    check_training(training)
    choice.check_remedy(remedy)
    choice.check_optimizer(training)
    with _bare(training) as bare:
        done = _treated(bare, diagnosis.verdict, remedy, steps, seed, progress or untold)
    return _handed_back(done, training)


def escape(
    training: Training,
    *,
    budget: float = 60.0,
    seed: int = 0,
    progress: Told | None = None,
) -> Treated:
    """Leave the saddle point that a training stands at, in place: one remedy alone, without a diagnosis.

    Displaced at random, along negative curvature, and down, until no way down is left or the time is over; see
    `unstuck.remedies.escape`. It goes no further than the loss of data falls on which the way was not looked for:
    half of the sample, or where that is all the data, the validation data. The optimizer begins anew from there.
    Where a process group of `torch.distributed` is there, all processes must call it.

    Args:
        training: Where it stands.
        budget: Seconds to spend, roughly.
        seed: Of all randomness.
        progress: Is told what is done.

    Raises:
        TreatmentError: No way down was found; the training is as it was.
        KeyboardInterrupt: At Ctrl-C; the training is as it was.
    """
    check_training(training)
    told = progress or untold
    begun = time.monotonic()
    limits = limits_of(budget, None, seed)
    told("looking for a way down", 0.0)

    def over() -> bool:
        left = limits.left()
        told("looking for a way down", min(1.0 - left / budget, 0.99))
        return left <= 0.0

    with threads_kept(), _bare(training) as bare:
        led = outward(bare, limits, over)
        found = led.found
        if not led.holds:
            hint = "; a larger budget may find one" if found.end is End.BUDGET else ""
            msg = (
                f"nothing was changed: no way down from loss {led.before:.6g} on {led.on} ({found.end}){hint}"
            )
            raise TreatmentError(msg)
        side = Side(bare, led.objective, ())
        side.objective.values(led.theta)
        commit_point(bare, led.objective.parameters, led.theta, side.buffers)
        state = _state(bare, led.objective, led.theta, training.optimizer)
    ways = ", ".join(dict.fromkeys(round_.way for round_ in found.rounds))
    done = Treated(
        remedy="escape",
        change=f"a way down by {ways}, until {_UNTIL[found.end]}",
        code=(),
        left=LEFT[Left.NOTHING],
        notes=(),
        before=led.before,
        after=led.before - led.gain.value,
        on=led.on,
        steps=led.evaluations,
        seconds=time.monotonic() - begun,
        optimizer=training.optimizer,
        training=bare,
        state=state,
    )
    return _handed_back(done, training)


@contextmanager
def _bare(training: Training) -> Generator[Training]:
    """Give the training without what sums gradients over processes or casts by itself: both are done here."""
    model = unwrapped(training.model)
    own = replace(training, model=model)
    with processes.interrupts_end_all(), warned_once(), casts_kept(own) as bare:
        yield bare


def _handed_back(done: Treated, training: Training) -> Treated:
    """Put the user's own loss and model in, and name the parameters as that does."""
    state, model = done.state, training.model
    if model is not done.training.model:
        prefixed = {f"{_WRAPPED}{name}": value for name, value in state["model_state_dict"].items()}
        state = {**state, "model_state_dict": prefixed}
    return replace(done, state=state, training=replace(done.training, loss=training.loss, model=model))


def _treated(
    training: Training, verdict: Verdict, remedy: str | None, steps: int | None, seed: int, told: Told
) -> Treated:
    begun = time.monotonic()
    sample = sampled(training, verdict, seed=seed)
    batch = sample.examples / len(sample.batches)
    usual = round(verdict.trials.horizon) if verdict.trials else _STEPS
    count = steps or usual
    # What was proved was made for the length of its trial.
    horizon = usual if remedy is None else count
    known = Situation(training, verdict.measured, verdict.findings, seed, horizon * batch)
    chosen = choice.chosen(known, verdict, remedy)
    told(f"applying {chosen.name}", 0.0)
    side = Side(training, sample, _judges(training, verdict, sample, seed))
    run = Run(side.training, side.objective)
    validation = side.mean(side.look(run, run.theta())) if side.weights else None
    base = sample.bare.value(sample.theta) if validation is None else validation
    paid = side.objective.ledger.examples
    try:
        chosen.apply(run)
    except NotApplicableError as error:
        msg = f"nothing was changed by {chosen.name}, {error}; more `steps` may help, or another remedy"
        raise TreatmentError(msg) from error
    setup = side.objective.ledger.examples - paid
    rate = rate_of(run.optimizer)
    course = Course(
        run,
        Orders(training, verdict.measured.sample, math.ceil(count), seed)(_ORDER),
        count * batch + (setup if steps else 0.0),
        Held(tuple(range(len(sample.batches))), sample.weights),
        setup,
        side,
    )

    def keep_going() -> bool:
        told(f"going on with {chosen.name}", course.share)
        return False

    course.advance(1.0, keep_going)
    done = _finished(training, chosen, course, (base, batch, begun))
    notes = (
        schedule_note(training.scheduler, run, (rate, rate_of(run.optimizer))),
        choice.passed_over(verdict, chosen),
    )
    return replace(done, notes=tuple(note for note in notes if note))


def _finished(
    training: Training, chosen: Treatment, course: Course, facts: tuple[float, float, float]
) -> Treated:
    before, batch, begun = facts
    validation = course.validation()
    after = course.held.mean(course.looks[-1][1]) if validation is None else validation
    if not after < before:
        msg = (
            f"nothing was changed: after {chosen.name} the loss was {after:.6g}, not below {before:.6g}; "
            "diagnose again, or choose another remedy"
        )
        raise TreatmentError(msg)
    theta, side = course.theta(), course.side
    optimizer = commit(training, course.run, theta, side.buffers if side else None)
    scheduler = None if course.run.exchanged else training.scheduler
    training = replace(training, optimizer=optimizer, scheduler=scheduler)
    return Treated(
        remedy=chosen.name,
        change=chosen.change,
        code=chosen.code,
        left=left(chosen),
        notes=(),
        before=before,
        after=after,
        on=f"{course.run.objective.examples:,} training examples"
        if validation is None
        else f"{round(sum(course.side.weights)) if course.side else 0:,} validation examples",
        steps=course.spent / batch,
        seconds=time.monotonic() - begun,
        optimizer=optimizer,
        training=training,
        state=_state(training, course.run.objective, theta, optimizer),
    )


def _state(
    training: Training, objective: Objective, theta: Tensor, optimizer: Optimizer | None
) -> dict[str, Any]:
    """What goes into a checkpoint; parameters in the type that the remedy has given them."""
    state: dict[str, Any] = {"model_state_dict": _parameters(training.model, objective, theta)}
    if optimizer is not None:
        state["optimizer_state_dict"] = optimizer.state_dict()
    if training.scheduler is not None:
        state["scheduler_state_dict"] = training.scheduler.state_dict()
    if objective.parameters.sharded is None:
        return state
    state = whole(state)
    if optimizer is not None:
        state["optimizer_state_dict"] = by_names(state["optimizer_state_dict"], optimizer, training.model)
    return state


def _parameters(model: nn.Module, objective: Objective, theta: Tensor) -> dict[str, Any]:
    held = model.state_dict()
    if objective.parameters.sharded is not None:  # in their own type
        return held
    wide = dict(
        zip(
            (slot.name for slot in objective.parameters.slots),
            objective.parameters.pieces(theta),
            strict=True,
        )
    )
    return {
        name: wide.get(name, value).detach().clone() if isinstance(value, Tensor) else value
        for name, value in held.items()
    }


def _judges(training: Training, verdict: Verdict, sample: Objective, seed: int) -> tuple[Batch, ...]:
    """The validation data, where the trials went by them; the training loss judges else."""
    if verdict.trials is None or not verdict.trials.by_validation:
        return ()
    return validation_batches(training, sample.examples, seed=seed)
