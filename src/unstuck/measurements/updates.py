"""What the optimizer's update would be without rounding, and with a scale that fits the present gradients."""

import contextlib
import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from unstuck.errors import UnstuckError
from unstuck.estimate import Estimate
from unstuck.measurements.judging import Judge
from unstuck.measurements.records.updates import Precision, SecondMoment
from unstuck.objective import Objective
from unstuck.objective.parameters import Slot
from unstuck.training import Training

State = dict[str, Any]

# Steps to compare over: rounding and scale act at every step, so that a few show it; dearer than one gradient
# over the sample it shall not be, unless the sample has next to no batches.
_MOST_STEPS, _FEWEST_STEPS = 16, 4

# Unless this share of the exact update is lost, or sigma is off by this factor, several steps need not be tried.
_WORTH_TRYING_LOST, _WORTH_TRYING_RATIO = 0.25, math.log(3.0)

# Rounding of a wider type than this is not the cause of anything at the size of a step.
_EXACT = torch.float64


class Walker:
    """A copy of the optimizer that moves copies of the parameters, in another type or with another state.

    Args:
        objective: Whose parameters.
        optimizer: Is copied with its state, without hooks.
        dtype: Of the copies and of every state tensor that has the shape of its parameter; None for their own.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, dtype: torch.dtype | None = None) -> None:
        self.objective = objective
        self._start = objective.theta.double()
        slots = objective.parameters.slots
        own = [slot.parameter.detach().clone() for slot in slots]
        self._copies = [tensor.to(dtype or tensor.dtype).requires_grad_() for tensor in own]
        memo: dict[int, Any] = {
            id(slot.parameter): copied for slot, copied in zip(slots, self._copies, strict=True)
        }
        self._optimizer = copy.deepcopy(optimizer, memo)
        for name in vars(optimizer).keys() - vars(self._optimizer).keys() - {"step", "_opt_called"}:
            with contextlib.suppress(Exception):  # a logger or a lock, which no step needs
                vars(self._optimizer)[name] = copy.deepcopy(vars(optimizer)[name], memo)
        for parameter, state in self._optimizer.state.items():
            for key, value in state.items():
                if dtype and _is_like(value, parameter):
                    state[key] = value.to(dtype)

    def states(self) -> list[State]:
        """The copied state of each parameter, to be changed at will."""
        return [cast("State", self._optimizer.state.get(parameter, {})) for parameter in self._copies]

    def step(self, only: Sequence[int]) -> Float[Tensor, " n"]:
        """Take one step on the batches `only`; give the displacement since the beginning, in float64."""
        parameters = self.objective.parameters

        def closure() -> float:
            theta = parameters.flatten(self._copies)
            value, gradient = self.objective.value_and_gradient(theta, only, decayed=False)
            for parameter, piece in zip(self._copies, parameters.pieces(gradient), strict=True):
                parameter.grad = piece.to(parameter.device, parameter.dtype)
            return value

        with torch.enable_grad():
            self._optimizer.step(closure)
        moved = [tensor.detach().reshape(-1).to(parameters.device, _EXACT) for tensor in self._copies]
        return torch.cat(moved) - self._start

    def walk(self, order: Sequence[int]) -> Float[Tensor, " n"]:
        """Take one step on each batch of `order`."""
        return [self.step([index]) for index in order][-1]


def measure_precision(training: Training, judge: Judge) -> Precision | None:
    """Compare the optimizer's next steps with the same ones in float64; None if they cannot be had.

    Costs two gradients of one batch, and three over the sample where rounding takes a good part.
    """
    objective, optimizer = judge.objective, training.optimizer
    if optimizer is None or all(slot.parameter.dtype == _EXACT for slot in objective.parameters.slots):
        return None
    with _failing():
        first = [judge.halves.finds[0]]
        rounded = Walker(objective, optimizer).step(first)
        exact = Walker(objective, optimizer, _EXACT).step(first)
        measured = _compared(objective, rounded, exact)
        if measured is None or measured.lost < _WORTH_TRYING_LOST:
            return measured
        return _with_gains(training, judge, measured)
    return None


def _compared(
    objective: Objective, rounded: Float[Tensor, " n"], exact: Float[Tensor, " n"]
) -> Precision | None:
    lengths = float(rounded.norm()), float(exact.norm())
    if not lengths[1] or not all(map(math.isfinite, lengths)):
        return None
    meant = exact != 0.0
    product = max(lengths[0] * lengths[1], torch.finfo(_EXACT).tiny)
    dtypes = {str(slot.parameter.dtype).removeprefix("torch.") for slot in objective.parameters.slots}
    return Precision(
        dtype="+".join(sorted(dtypes)),
        lost=float((rounded[meant] == 0.0).double().mean()),
        length=lengths[0] / lengths[1],
        cosine=float(rounded @ exact) / product,
    )


def _with_gains(training: Training, judge: Judge, measured: Precision) -> Precision:
    objective = judge.objective
    precise = Objective(training, objective.batches, dtype=_EXACT, ledger=objective.ledger)
    optimizer, order = cast("Optimizer", training.optimizer), _order(judge)
    rounded = Walker(objective, optimizer).walk(order)
    exact = Walker(precise, optimizer, _EXACT).walk(order)
    # Both are judged by the loss in float64: what half precision sees of it is too coarse to compare.
    base = Judge(precise, judge.halves, precise.values(precise.theta))
    gains = _gains(base, rounded, exact)
    return Precision(measured.dtype, measured.lost, measured.length, measured.cosine, len(order), *gains)


def measure_second_moment(training: Training, judge: Judge) -> SecondMoment | None:
    """Compare sigma with the present root mean square of batch gradients, and the steps with either.

    None without an optimizer. Costs half a gradient over the sample, and three more where they differ.
    """
    optimizer = training.optimizer
    if optimizer is None:
        return None
    name = type(optimizer).__name__
    key = next((key for kind, key in _KEYS.items() if type(optimizer) is kind), None)
    if key is None:
        return SecondMoment(name, None, "the state of this optimizer is not known here")
    known = _Scales(judge.objective, optimizer, key)
    squares = known.present(judge.halves.finds) if any(known.states) else []
    ratio = known.ratio(squares) if squares else None
    if ratio is None:
        reason = "no gradient to compare with" if squares else "the optimizer has made no step yet"
        return SecondMoment(name, None, reason)
    if abs(ratio.value) < _WORTH_TRYING_RATIO:
        return SecondMoment(name, ratio)
    return _with_fresh(known, squares, judge, optimizer, SecondMoment(name, ratio))


def _with_fresh(
    known: "_Scales",
    squares: Sequence[Sequence[Tensor]],
    judge: Judge,
    optimizer: Optimizer,
    measured: SecondMoment,
) -> SecondMoment:
    with _failing():
        order = _order(judge)
        present = Walker(judge.objective, optimizer).walk(order)
        refreshed = Walker(judge.objective, optimizer)
        known.refresh(refreshed.states(), squares)
        gains = _gains(judge, present, refreshed.walk(order))
        return SecondMoment(measured.optimizer, measured.ratio, "", len(order), *gains)
    return SecondMoment(measured.optimizer, measured.ratio, "its steps could not be repeated")


# Subclasses may mean something else by the same key, so that classes are compared and not asked for kinship.
_KEYS: dict[type[Optimizer], str] = {
    torch.optim.Adagrad: "sum",
    torch.optim.RMSprop: "square_avg",
    torch.optim.Adadelta: "square_avg",
    torch.optim.Adam: "exp_avg_sq",
    torch.optim.AdamW: "exp_avg_sq",
    torch.optim.NAdam: "exp_avg_sq",
    torch.optim.RAdam: "exp_avg_sq",
    torch.optim.Adamax: "exp_inf",
}


class _Scales:
    """Sigma squared per parameter tensor, how to measure the present one, and how to put it in."""

    def __init__(self, objective: Objective, optimizer: Optimizer, key: str) -> None:
        self._objective = objective
        self._key = key
        groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        self.slots: tuple[Slot, ...] = objective.parameters.slots
        self._groups = [groups.get(id(slot.parameter), {}) for slot in self.slots]
        found = [optimizer.state.get(slot.parameter, {}) for slot in self.slots]
        self.states: list[State] = [state if key in state else {} for state in found]
        self._decoupled = isinstance(optimizer, torch.optim.AdamW)

    def present(self, only: Sequence[int]) -> list[list[Tensor]]:
        """Give the squared gradient of each batch, one tensor a slot."""
        theta = self._objective.theta
        found: list[list[Tensor]] = []
        for index in only:
            gradient = self._objective.value_and_gradient(theta, [index], decayed=False)[1]
            pieces = self._objective.parameters.pieces(gradient)
            found.append(
                [
                    (piece + self._coupled(group) * slot.parameter.detach().to(piece)).square()
                    for piece, group, slot in zip(pieces, self._groups, self.slots, strict=True)
                ]
            )
        return found

    def ratio(self, squares: Sequence[Sequence[Tensor]]) -> Estimate | None:
        """Give the weighted median of log(sigma / present), with its error over the batches."""
        whole = self._median(squares)
        if whole is None:
            return None
        halves = [self._median(part) for part in (squares[::2], squares[1::2]) if part]
        values = [value for value in halves if value is not None]
        if len(values) < 2:  # noqa: PLR2004
            return Estimate(whole, math.inf)
        return Estimate(whole, 0.5 * abs(values[0] - values[1]), 1.0)

    def refresh(self, states: Sequence[State], squares: Sequence[Sequence[Tensor]]) -> None:
        """Put the present mean of squares in the place of the second moment."""
        for number, state in enumerate(states):
            if self.states[number]:
                stored = self._mean(squares, number) * self._factor(number)
                stored = stored.sqrt() if self._key == "exp_inf" else stored
                for key in (self._key, f"max_{self._key}"):
                    if key in state:
                        state[key] = stored.to(state[key], copy=True)
                if "grad_avg" in state:  # a centred one subtracts the square of the mean
                    state["grad_avg"] = torch.zeros_like(state["grad_avg"])

    def _median(self, squares: Sequence[Sequence[Tensor]]) -> float | None:
        logs: list[Tensor] = []
        weights: list[Tensor] = []
        for number, state in enumerate(self.states):
            if not state:
                continue
            now = self._mean(squares, number).double()
            stored = state.get(f"max_{self._key}", state[self._key]).to(now)
            used = stored.square() if self._key == "exp_inf" else stored / self._factor(number)
            meant = (now > 0.0) & (used > 0.0) & now.isfinite() & used.isfinite()
            logs.append(0.5 * (used[meant] / now[meant]).log())
            weights.append(now[meant].sqrt())
        if not logs or not sum(map(len, logs)):
            return None
        values, order = torch.cat(logs).sort()
        passed = torch.cat(weights)[order].cumsum(0)
        return float(values[min(int((passed < 0.5 * passed[-1]).sum()), len(values) - 1)])

    def _mean(self, squares: Sequence[Sequence[Tensor]], number: int) -> Tensor:
        stacked = torch.stack([batch[number] for batch in squares])
        return stacked.amax(0) if self._key == "exp_inf" else stacked.mean(0)

    def _factor(self, number: int) -> float:
        """What is stored for gradients whose mean square is 1 throughout."""
        state, group = self.states[number], self._groups[number]
        step = max(float(state.get("step", 1.0)), 1.0)
        if self._key == "sum":
            return step
        return 1.0 - group["betas"][1] ** step if self._key == "exp_avg_sq" else 1.0

    def _coupled(self, group: State) -> float:
        apart = self._decoupled or group.get("decoupled_weight_decay", False)
        return 0.0 if apart else float(group.get("weight_decay", 0.0))


def _gains(
    judge: Judge, before: Float[Tensor, " n"], after: Float[Tensor, " n"]
) -> tuple[Estimate, Estimate, Estimate]:
    """What either displacement gains, and what the second gains more than the first."""
    theta = judge.objective.theta
    values = [judge.objective.values(theta + moved.to(theta)) for moved in (before, after)]
    extra = Judge(judge.objective, judge.halves, values[0]).gain(values[1])
    return judge.gain(values[0]), judge.gain(values[1]), extra


def _order(judge: Judge) -> list[int]:
    count = min(_MOST_STEPS, max(_FEWEST_STEPS, len(judge.base)))
    finds = judge.halves.finds
    return [finds[number % len(finds)] for number in range(count)]


def _is_like(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.shape == parameter.shape


def _failing() -> contextlib.AbstractContextManager[None]:
    """A stranger's optimizer or model may not bear another type; then there is nothing to say."""
    return contextlib.suppress(UnstuckError, RuntimeError, TypeError, ValueError, KeyError, AttributeError)
