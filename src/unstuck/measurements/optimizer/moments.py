"""The second moment that an adaptive optimizer keeps, beside that of the present gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from unstuck.estimate import Estimate
from unstuck.measurements.optimizer.second_moments import as_number, holds, is_known, share_added, weight
from unstuck.measurements.optimizer.steps import State
from unstuck.objective import Objective
from unstuck.objective.decay import by_parameter
from unstuck.objective.parameters import Slot
from unstuck.objective.shards import local
from unstuck.optim import Rule, reading

# The error comes from the jackknife over so many sets of batches: each costs one copy of the parameters.
_GROUPS = 4

# Parameters to take the median over: its own error at a million is a thousandth of their spread.
_MOST = 1_000_000


@dataclass(frozen=True)
class Squares:
    """Squared gradients of some batches: their sum (or their largest) for each slot, and how many there are."""

    totals: list[Tensor]
    count: int


class Moments:
    r"""$\sigma^2$ of each parameter, how to measure the present one, and how to put it in its place.

    Compared is the mean that it stands for: of Adam the debiased $v / (1 - \beta_2^t)$ (the largest so far
    for AMSGrad), of Adagrad the sum over the number of steps, of Adamax $u^2$ against the largest square.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, key: str) -> None:
        self._objective = objective
        self._key = key
        self._largest = key == "exp_inf"
        groups = by_parameter(optimizer)
        self._slots: tuple[Slot, ...] = objective.parameters.slots
        self._groups: list[State] = [groups.get(id(slot.parameter), {}) for slot in self._slots]
        self._states: list[State] = [
            cast("State", optimizer.state[slot.parameter]) if holds(optimizer, slot.parameter, key) else {}
            for slot in self._slots
        ]
        self._decoupled = isinstance(optimizer, torch.optim.AdamW) or not is_known(optimizer)

    def present(self, only: Sequence[int]) -> list[Squares]:
        """Measure the squared gradient of each batch as the optimizer sees it, in a few sets of batches."""
        theta = self._objective.theta
        found: list[Squares] = []
        for number, index in enumerate(only):
            gradient = self._objective.value_and_gradient(theta, [index], decayed=False)[1]
            pieces = self._objective.parameters.pieces(gradient)
            squares = [
                (piece + self._coupled(group) * slot.here.to(piece)).square()
                for piece, group, slot in zip(pieces, self._groups, self._slots, strict=True)
            ]
            if number < _GROUPS:
                found.append(Squares(squares, 1))
            else:
                found[number % _GROUPS] = self._together([found[number % _GROUPS], Squares(squares, 1)])
        return found

    def ratio(self, groups: Sequence[Squares]) -> Estimate | None:
        r"""Give the weighted median of $\log(\sigma / \text{present})$; None where nothing can be compared.

        The weights are the present root mean squares. The error is that of the jackknife, leaving out one
        set of batches at a time: $s^2 = \frac{m-1}{m} \sum_i (x_{(i)} - \bar x)^2$ (Efron & Stein, 1981).
        """
        whole = self._median(self._together(groups))
        if whole is None:
            return None
        without = [self._median(self._together([*groups[:i], *groups[i + 1 :]])) for i in range(len(groups))]
        values = [value for value in without if value is not None]
        if len(groups) == 1 or len(values) < len(groups):
            return Estimate(whole, math.inf)
        mean = math.fsum(values) / len(values)
        spread = math.hypot(*(value - mean for value in values))
        degrees = len(values) - 1
        return Estimate(whole, math.sqrt(degrees / len(values)) * spread, float(degrees))

    def added(self, groups: Sequence[Squares]) -> float:
        """Give which share of sigma no gradient has made: the mean, weighted by the present root mean squares."""
        present, space = self._together(groups), self._objective.space
        totals = torch.zeros(2, dtype=torch.float64)
        for number, state in enumerate(self._states):
            if not state or not present.count:
                continue
            stored = local(state.get(f"max_{self._key}", state[self._key]).detach()).double()
            meant = self._mean(present, number).to(stored).sqrt()
            share = share_added(self._groups[number], stored, self._factor(number))
            known = share.isfinite() & meant.isfinite()
            totals += torch.stack([(share * meant)[known].sum(), meant[known].sum()]).cpu()
        part, whole = space.reduce(totals).tolist()
        return part / whole if whole > 0.0 else 0.0

    def refresh(self, states: Sequence[State], groups: Sequence[Squares]) -> None:
        """Put the present mean of squares in the place of the second moment, and begin the momentum anew.

        What is left of a burst in the momentum would be divided by a sigma that knows nothing of it.
        """
        present = self._together(groups)
        for number, state in enumerate(states):
            if self._states[number]:
                stored = self._mean(present, number) * self._factor(number)
                stored = stored.sqrt() if self._largest else stored
                for key in (self._key, f"max_{self._key}"):
                    if key in state:
                        state[key] = self._slots[number].whole(stored.to(local(state[key]), copy=True))
                # A centred one subtracts the square of the mean.
                for key in ("grad_avg", "exp_avg", "momentum_buffer"):
                    if isinstance(state.get(key), Tensor):
                        state[key] = torch.zeros_like(state[key])

    def _together(self, groups: Sequence[Squares]) -> Squares:
        if len(groups) == 1:
            return groups[0]
        add = torch.maximum if self._largest else torch.add
        totals = [tensor.clone() for tensor in groups[0].totals] if groups else []
        for group in groups[1:]:
            totals = [add(total, other, out=total) for total, other in zip(totals, group.totals, strict=True)]
        return Squares(totals, sum(group.count for group in groups))

    def _median(self, present: Squares) -> float | None:
        generator = torch.Generator().manual_seed(0)
        logs: list[Tensor] = []
        weights: list[Tensor] = []
        for number, state in enumerate(self._states):
            if not state or not present.count:
                continue
            now = self._mean(present, number).reshape(-1)
            stored = local(state.get(f"max_{self._key}", state[self._key]).detach())
            stored = stored.reshape(-1).to(now.device)
            share = math.ceil(_MOST * len(now) / self._objective.size)
            if share < len(now):
                chosen = torch.randint(len(now), (share,), generator=generator).to(now.device)
                now, stored = now[chosen], stored[chosen]
            now, stored = now.double(), stored.double()
            used = stored.square() if self._largest else stored / self._factor(number)
            meant = (now > 0.0) & (used > 0.0) & now.isfinite() & used.isfinite()
            logs.append(0.5 * (used[meant] / now[meant]).log())
            weights.append(now[meant].sqrt())
        empty, space = [torch.empty(0, dtype=torch.float64)], self._objective.space
        values, order = space.collected(torch.cat(logs or empty)).sort()
        if not len(values):
            return None
        passed = space.collected(torch.cat(weights or empty))[order].cumsum(0)
        return float(values[min(int((passed < 0.5 * passed[-1]).sum()), len(values) - 1)])

    def _mean(self, present: Squares, number: int) -> Tensor:
        return present.totals[number] / (1 if self._largest else present.count)

    def _factor(self, number: int) -> float:
        return weight(self._groups[number], self._states[number], self._key)

    def _coupled(self, group: State) -> float:
        """Weight decay that enters the gradient; of strangers' optimizers nobody knows."""
        if isinstance(rule := group.get("rule"), Rule):
            return reading.decays(rule)[0]
        apart = self._decoupled or group.get("decoupled_weight_decay", False)
        return 0.0 if apart else as_number(group.get("weight_decay"))
