"""How continuations ended that a process before this one has tried: they are not tried again."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import Optimizer

from unstuck import journal
from unstuck.measurements.records.trials import Curve
from unstuck.objective import Objective
from unstuck.remedies.treatment import Treatment
from unstuck.trials.course import Ended


@dataclass(frozen=True)
class Outcome:
    """Where a continuation, or a part of it, came to: the loss that it is compared by, and what is kept of it."""

    end: float
    ended: Ended | None = None

    def kept(self) -> Ended:
        """Give what is kept of one that has ended."""
        assert self.ended is not None  # noqa: S101  # as whoever asks knows
        return self.ended


class Memory:
    """Remembers by the journal, where one is kept.

    Args:
        objective: The point that all set out from.
        optimizer: Its state belongs to that point.
        seed: Of all randomness.
        over: Whether no time is left. What ends then is not at its end, and not remembered.
    """

    def __init__(
        self, objective: Objective, optimizer: Optimizer | None, *, seed: int, over: Callable[[], bool]
    ) -> None:
        self._over = over
        self._journal = journal.current()
        if self._journal is not None:
            state = [] if optimizer is None else [optimizer.state_dict(), type(optimizer).__qualname__]
            self._point = journal.digest(objective.digest(), state, seed)

    def decision(self, what: str, make: Callable[[], float]) -> float:
        """Decide as before what is decided by the clock."""
        if self._journal is None:
            return make()
        return float(self._journal.numbers(f"{what} {self._point}", make))

    def outcome(self, of: tuple[Treatment | None, int, str, float], make: Callable[[], Outcome]) -> Outcome:
        """Give the outcome of a treatment, on the order of that number, for that part of so many steps."""
        if self._journal is None:
            return make()
        treatment, *rest = of
        named = ("going on", "") if treatment is None else (treatment.name, treatment.change)
        written = self._journal.numbers(
            journal.digest("trial", self._point, named, rest),
            lambda: asdict(make()),
            final=lambda: not self._over(),
        )
        return _read(written)


def _read(written: dict[str, Any]) -> Outcome:
    ended = written["ended"]
    if ended is None:
        return Outcome(written["end"])
    curve = ended["curve"]
    return Outcome(
        written["end"],
        Ended(
            held=tuple(ended["held"]),
            validation=tuple(ended["validation"]),
            setup=ended["setup"],
            curve=Curve(tuple(curve["spent"]), tuple(curve["losses"]), curve["end"], curve["validation"]),
        ),
    )
