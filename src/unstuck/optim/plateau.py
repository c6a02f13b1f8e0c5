"""The schedule that waits until the loss has stopped falling: a pure function of the losses so far."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any, SupportsFloat, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unstuck.optim.errors import OptimizerError
from unstuck.optim.schedule import Schedule, drawn
from unstuck.optim.values import nonnegative, share

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Seen:
    """What is left of the losses so far: all that the next factor depends on.

    Attributes:
        factor: The present factor.
        best: The best loss.
        bad: How many losses since have not been better.
        cooling: How many are not counted yet.
        steps: How many steps there were, with a loss or without.
    """

    factor: float = 1.0
    best: float = math.inf
    bad: int = 0
    cooling: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Plateau:
    r"""Lower the rate by a factor whenever the loss has not become better for a while.

    A loss is better if $l < (1 - \tau)\, l_{best}$, or $l < l_{best} - \tau$ where not `relative`. After more than
    `patience` losses in a row that are not, the rate is multiplied by `factor`, down to `least` of the base rate.
    It is `torch.optim.lr_scheduler.ReduceLROnPlateau`, step for step. The rate at a step is a function of the losses
    before it, `plateau(losses)`; `plateau.scheduler(optimizer)` applies it to any optimizer. To go by what should
    rise, such as an accuracy, give its negative, and `relative=False`.

    Attributes:
        factor: $\gamma$.
        patience: How many losses that are not better are borne.
        threshold: $\tau$.
        relative: Whether $\tau$ is a share of the loss.
        cooldown: How many losses are not counted after the rate has been lowered.
        least: The smallest factor.
        eps: The smallest change of the factor that is made.
        before: The schedule that comes first, whose steps' losses are not counted; made by `Schedule.then`.

    Raises:
        OptimizerError: `factor` is not between 0 and 1, another number is negative, or `before` has no end.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    relative: bool = field(default=True, kw_only=True)
    cooldown: int = field(default=0, kw_only=True)
    least: float = field(default=0.0, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)
    before: Schedule | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not 0.0 < self.factor < 1.0:
            msg = f"`factor` lowers the rate: between 0 and 1, not {self.factor}"
            raise OptimizerError(msg)
        nonnegative(self, "patience", "threshold", "cooldown", "eps")
        share("least", self.least)
        if self.before is not None and self.before.length is None:
            msg = f"{self.before!r} has no end that a plateau could follow: give it its length by `steps`"
            raise OptimizerError(msg)

    def __call__(self, losses: Sequence[float | None]) -> float:
        """Give the factor after some steps: that of the next one.

        Args:
            losses: Of every step so far, None where none was measured.

        Raises:
            OptimizerError: They are no sequence: a plateau is no function of the step, as LambdaLR wants one.
        """
        if not isinstance(cast("object", losses), Sequence):
            msg = f"a plateau needs the losses so far, not {losses!r}: apply it by `plateau.scheduler(optimizer)`"
            raise OptimizerError(msg)
        return self.rate(reduce(self.seen, losses, Seen()))

    def rate(self, seen: Seen) -> float:
        """Give the factor of the rate after what has been seen, with that of the schedule that comes first."""
        if self.before is not None and seen.steps < (self.before.length or 0):
            return self.before(seen.steps)
        return seen.factor

    def seen(self, seen: Seen, loss: float | None) -> Seen:
        """Go on by one step."""
        early = self.before is not None and seen.steps < (self.before.length or 0)
        seen = replace(seen, steps=seen.steps + 1)
        if loss is None or early:
            return seen
        better = loss < (seen.best * (1.0 - self.threshold) if self.relative else seen.best - self.threshold)
        best, bad, cooling = (loss, 0, seen.cooling) if better else (seen.best, seen.bad + 1, seen.cooling)
        if cooling > 0:
            bad, cooling = 0, cooling - 1
        if bad <= self.patience:
            return replace(seen, best=best, bad=bad, cooling=cooling)
        lower = max(seen.factor * self.factor, self.least)
        factor = lower if seen.factor - lower > self.eps else seen.factor
        return replace(seen, factor=factor, best=best, bad=0, cooling=self.cooldown)

    def scheduler(self, optimizer: Optimizer) -> "PlateauLR":
        """Apply it to an optimizer."""
        return PlateauLR(optimizer, self)

    def figure(self, losses: Sequence[float | None], *, lr: float = 1.0) -> "go.Figure":
        """Draw the rate that these losses lead to."""
        past = accumulate(losses, self.seen, initial=Seen())
        return drawn(list(range(len(losses) + 1)), [lr * self.rate(seen) for seen in past], repr(self))

    def after(self, other: Schedule, end: int) -> "Plateau":
        """Follow a schedule from a step on."""
        before = other if self.before is None else other.then(self.before)
        return replace(self, before=before.steps(end) if before.length is None else before)


class PlateauLR(ReduceLROnPlateau):
    """A `Plateau` on an optimizer, told the loss by `step`; what knows PyTorch's scheduler of this kind knows it.

    `step(loss)` after each evaluation; where a schedule comes first, or steps are counted without a loss, `step()`.

    Args:
        optimizer: Any optimizer of PyTorch, or of this package. The base is each group's `initial_lr`, or its `lr`
            where there is none, as PyTorch's schedulers have it.
        plateau: The rule.
    """

    def __init__(self, optimizer: Optimizer, plateau: Plateau) -> None:
        super().__init__(optimizer, factor=plateau.factor, patience=plateau.patience)
        self._plateau = plateau
        self._seen = Seen()
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self._set()

    def step(self, metrics: SupportsFloat | None = None, epoch: int | None = None) -> None:
        """Go on by one step.

        Args:
            metrics: The loss, or None where none was measured.
            epoch: Not used; PyTorch's has it.
        """
        del epoch
        self._seen = self._plateau.seen(self._seen, None if metrics is None else float(metrics))
        self._set()

    def _set(self) -> None:
        self.last_epoch = self._seen.steps
        self._last_lr: list[Any] = []
        for group in self.optimizer.param_groups:
            rate = group.setdefault("initial_lr", float(group["lr"])) * self._plateau.rate(self._seen)
            if isinstance(group["lr"], float | int):
                group["lr"] = rate
            else:
                group["lr"].fill_(rate)
            self._last_lr.append(group["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Give what has been seen, as plain data."""
        return asdict(self._seen)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the optimizer's own state holds its rates.

        Raises:
            OptimizerError: It is the state of another scheduler.
        """
        if set(state_dict) != set(asdict(Seen())):
            msg = "this is not the state of a plateau schedule of unstuck.optim: it has " + ", ".join(
                state_dict
            )
            raise OptimizerError(msg)
        self._seen = Seen(**state_dict)
        self._set()
