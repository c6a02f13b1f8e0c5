"""A copy of the run that a remedy may change: parameters, optimizer, and how batches become steps."""

import copy
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.errors import MeasurementError
from unstuck.measurements.optimizer.schedule import Schedule
from unstuck.measurements.optimizer.steps import Twin
from unstuck.objective import Objective
from unstuck.objective.sampling import Batch
from unstuck.objective.shards import local
from unstuck.training import Training

Update = tuple[Batch, ...]


class Run:
    """The training as it stands, on copies; the user's own is only read.

    Attributes:
        training: The user's.
        twin: Copies of the parameters, and of the optimizer that moves them.
        prepare: What is done to each batch that the data give, before anything else.
        regroup: From the batches that the data give to the batches of each update.
        factor: Multiple of the learning rate at each share of the way.
        shrink: What the parameters are multiplied by before each update.
        skip: Whether updates whose loss or gradient is not finite are left out.
        thawed: Names of frozen parameters that are trained too.
        dtype: What the loss is computed in, if not in the training's own types.
        average_from: The share of the way from which on the parameters are averaged; None: never.
        exchanged: Whether another optimizer has come into the place of the run's own, whose schedule ends with it.
    """

    def __init__(self, training: Training, objective: Objective) -> None:
        if training.optimizer is None:
            msg = "no remedy can be tried without `optimizer`: pass the one of the run to Training"
            raise MeasurementError(msg)
        self.training = training
        self.twin = Twin(objective, training.optimizer)
        self.prepare: Callable[[Batch], Batch] = _as_it_is
        self.regroup: Callable[[Sequence[Batch]], list[Update]] = _one_each
        self.factor: Callable[[float], float] = _constant
        self.shrink = 1.0
        self.skip = False
        self.average_from: float | None = None
        self.thawed: frozenset[str] = frozenset()
        self.dtype: torch.dtype | None = None
        self.exchanged = False
        self._schedule = Schedule(training, self.twin)

    @property
    def objective(self) -> Objective:
        """The loss over the sample."""
        return self.twin.objective

    @objective.setter
    def objective(self, other: Objective) -> None:
        self.twin.objective = other

    @property
    def optimizer(self) -> Optimizer:
        """The copy of the optimizer."""
        return self.twin.optimizer

    @optimizer.setter
    def optimizer(self, other: Optimizer) -> None:
        # Whatever scheduled the rates of the old one has nothing to say to the new one.
        self.twin.optimizer = other
        self.exchanged = True
        self._schedule.scheduler = None

    @property
    def scheduler(self) -> Any:
        """The copy of the scheduler; None where there is none, or where it does not suit the optimizer any more."""
        return self._schedule.scheduler

    def updates(self, batches: Sequence[Batch]) -> list[Update]:
        """Give the batches of each update."""
        return self.regroup([self.prepare(batch) for batch in batches])

    def theta(self) -> Float[Tensor, " n"]:
        """Give the parameters as they have become, as a flat vector."""
        return self.twin.theta()

    def move(self, displacement: Float[Tensor, " n"]) -> None:
        """Displace the parameters."""
        pieces = self.objective.parameters.pieces(displacement)
        with torch.no_grad():
            for parameter, piece in zip(self.twin.copies, pieces, strict=True):
                local(parameter).add_(piece.to(parameter.device, parameter.dtype))

    def change_rate(self, change: Callable[[Any], Any]) -> None:
        """Change every learning rate, and what a scheduler computes it from."""
        self._schedule.change_rate(change)

    def scale_rate(self, factor: float) -> None:
        """Multiply every learning rate, and what a scheduler computes it from."""
        self.change_rate(lambda rate: rate * factor)
        self.twin.scale_lengths(factor)

    def look_at(self, batches: Sequence[Batch]) -> None:
        """Put other batches into the sample, or the same ones for other parameters or another type."""
        self.objective = Objective(
            self.training, batches, dtype=self.dtype, ledger=self.objective.ledger, thawed=self.thawed
        )

    def widen(self, dtype: torch.dtype, *, loss: bool) -> None:
        """Keep the parameters and the optimizer's state in a wider type, and compute the `loss` in it or not."""
        if loss:
            self.dtype = dtype
            self.look_at(self.objective.batches)
        self.twin = Twin(self.objective, cast("Optimizer", self.training.optimizer), dtype)
        self._schedule.set_for(self.twin)

    def thaw(self, names: AbstractSet[str]) -> list[Tensor]:
        """Let frozen parameters of these names be part of it; gives all the copies that the optimizer lacks."""
        old = dict(
            zip((slot.name for slot in self.objective.parameters.slots), self.twin.copies, strict=True)
        )
        self.thawed = frozenset(names)
        self.look_at(self.objective.batches)
        self.twin.copies = [
            old.get(slot.name, slot.parameter.detach().clone().requires_grad_())
            for slot in self.objective.parameters.slots
        ]
        # The copied optimizer may hold a frozen parameter itself: it was no slot when it was copied.
        own = dict(
            zip((id(s.parameter) for s in self.objective.parameters.slots), self.twin.copies, strict=True)
        )
        real = cast("Optimizer", self.training.optimizer)
        for group, original in zip(self.optimizer.param_groups, real.param_groups, strict=False):
            pairs = zip(group["params"], original["params"], strict=True)
            group["params"] = [own.get(id(theirs), mine) for mine, theirs in pairs]
        held = {id(tensor) for group in self.optimizer.param_groups for tensor in group["params"]}
        return [copied for copied in self.twin.copies if id(copied) not in held]

    def forget(self) -> None:
        """Let the optimizer begin anew with the rates and settings that it has."""
        self.twin.optimizer = forgotten(self.optimizer)
        self._schedule.set_for(self.twin)

    def step(self, update: Update, share: float, spend: Callable[[Batch], None]) -> None:
        """Make one update, `share` of the way; only inside a session of the objective."""
        factor = self.factor(share)
        if factor == 0.0:  # whatever the kind of optimizer: no step
            for batch in update:
                spend(batch)
        else:
            with self.twin.scaled(factor):
                self._update(update, spend)
        self._schedule.step()

    def _update(self, update: Update, spend: Callable[[Batch], None]) -> None:
        if self.skip:
            value, gradient = self._evaluate(self.theta(), update, spend)
            if math.isfinite(value) and self.objective.space.finite(gradient):
                self.twin.step_by(lambda _: (value, gradient))
            return
        if self.shrink != 1.0:
            with torch.no_grad():
                for parameter in self.twin.copies:
                    parameter.mul_(self.shrink)
        self.twin.step_by(lambda theta: self._evaluate(theta, update, spend))

    def _evaluate(
        self, theta: Float[Tensor, " n"], update: Update, spend: Callable[[Batch], None]
    ) -> tuple[float, Float[Tensor, " n"]]:
        examples = sum(batch.examples for batch in update)
        value, total = 0.0, torch.zeros_like(theta)
        for batch in update:
            spend(batch)
            loss, gradient = self.objective.replay.gradient(batch, theta)
            value += loss * batch.examples / examples
            total.add_(gradient, alpha=batch.examples / examples)
        return value, total


def settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Give the groups of an optimizer, without what a scheduler has noted there."""
    return [
        {key: value for key, value in group.items() if key != "initial_lr"}
        for group in optimizer.param_groups
    ]


def like(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> Optimizer:
    """Make an optimizer of the same kind for other groups, with the defaults that its kind takes.

    AdamW notes among them that its decay is decoupled, which only Adam takes.
    """
    kind = cast("Any", type(optimizer))
    taken = inspect.signature(kind).parameters.values()
    whatever = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken)
    names = {each.name for each in taken}
    return kind(
        groups, **{name: value for name, value in optimizer.defaults.items() if whatever or name in names}
    )


def forgotten(optimizer: Optimizer) -> Optimizer:
    """Give an optimizer of the same kind, parameters and settings that has not made a step yet."""
    groups = settings(optimizer)
    try:
        fresh = like(optimizer, groups)
    except Exception:  # a stranger's optimizer may want other arguments
        fresh = copy.copy(optimizer)
        fresh.state = defaultdict(dict)
        return fresh
    for group, kept in zip(fresh.param_groups, optimizer.param_groups, strict=True):
        group.update({key: value for key, value in kept.items() if key != "params"})
    return fresh


def forgetting(optimizer: Optimizer | None) -> tuple[str, ...]:
    """The lines of code that let an optimizer begin anew with the rates that it has, its schedule with it."""
    if isinstance(optimizer, torch.optim.Adagrad):  # makes its state with itself
        return (
            "for group in optimizer.param_groups:",
            '    for p in group["params"]:',
            '        optimizer.state[p]["step"].zero_()',
            '        optimizer.state[p]["sum"].fill_(group["initial_accumulator_value"])',
        )
    return ("optimizer.state.clear()",)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _one_each(batches: Sequence[Batch]) -> list[Update]:
    return [(batch,) for batch in batches]


def _constant(share: float) -> float:
    del share
    return 1.0
