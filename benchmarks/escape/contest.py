"""Every contestant from every saddle, exactly there and a little beside it."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.escape.problems import BESIDE, MAKERS, Problem, problem
from benchmarks.escape.rivals import RANDOM, RATES, RIVALS, Make, losses
from benchmarks.tables import Table
from unstuck.objective import Objective
from unstuck.remedies.escape import escape

PATIENCE = 1_000
SEEDS = range(3)

# Shares of the way from the saddle's loss to the bottom: left, and the target.
LEFT, TARGET = 0.1, 0.5

# The bottom is where Adam at this rate gets within the patience from this far beside the saddle.
_BOTTOM_RATE, _BOTTOM_FROM = 0.01, 0.03

OURS = "unstuck"
_NEVER = math.inf

# A rival whose loss is so many times the saddle's will not be back in time.
_DIVERGED = 100.0


@dataclass(frozen=True)
class Levels:
    """Losses to get below."""

    saddle: float
    left: float
    target: float


@dataclass(frozen=True)
class Place:
    """Where the contestants begin."""

    problem: Problem
    levels: Levels
    beside: float


@dataclass(frozen=True)
class Count:
    """Gradients spent until both losses were reached; infinite where they were not."""

    left: float = _NEVER
    target: float = _NEVER


class Watched(Objective):
    """Notes what had been spent when a loss was first reached."""

    def watch(self, levels: Levels) -> None:
        """Begin to count."""
        self.levels, self.begun, self.count = levels, self.ledger.examples, Count()

    def values(self, theta: Tensor, only: Sequence[int] | None = None) -> list[float]:
        """Evaluate, and note."""
        values = super().values(theta, only)
        self._note(sum(weight * value for weight, value in zip(self.weights, values, strict=True)))
        return values

    def value_and_gradient(self, *args: Any, **more: Any) -> tuple[float, Tensor]:
        """Evaluate, and note."""
        value, gradient = super().value_and_gradient(*args, **more)
        self._note(value)
        return value, gradient

    def _note(self, loss: float) -> None:
        self.count = _counted(
            self.count, self.levels, loss, (self.ledger.examples - self.begun) / self.examples
        )


def run() -> list[Table]:
    """Let all contestants leave all saddles."""
    counts: dict[tuple[str, float], dict[str, Count]] = {}
    about: list[list[object]] = []
    for name in MAKERS:
        made = problem(name)
        levels = _levels(made)
        about.append([made.name, made.size, levels.saddle, levels.left, levels.target])
        for beside in (0.0, BESIDE):
            counts[made.name, beside] = _contest(Place(made, levels, beside))
            print(made.name, beside, counts[made.name, beside], file=sys.stderr, flush=True)
    return [
        Table("The saddles", ("saddle", "parameters", "loss there", "left below", "target"), about),
        _table("Gradients to reach the target", counts, "target"),
        _table("Gradients to leave the saddle", counts, "left"),
        _summary(counts),
    ]


def _contest(place: Place) -> dict[str, Count]:
    found = {OURS: _median(_ours(place, seed) for seed in SEEDS)}
    for name, make in RIVALS.items():
        # Exactly at the saddle nothing is random but what a rival draws.
        seeds = SEEDS if place.beside or name in RANDOM else SEEDS[:1]
        tuned = _tuned(place, make, seeds)
        plain = [_rival(place, make, None, seed, PATIENCE) for seed in seeds]
        found[f"{name}, tuned"], found[f"{name}, default"] = _median(tuned), _median(plain)
    return found


def _ours(place: Place, seed: int) -> Count:
    objective = place.problem.objective(place.beside, seed, kind=Watched)
    assert isinstance(objective, Watched)
    objective.watch(place.levels)
    escape(objective, seed=seed, gradients=PATIENCE, over=lambda: objective.count.target < _NEVER)
    return objective.count


def _tuned(place: Place, make: Make, seeds: Sequence[int]) -> list[Count]:
    """Every seed at the rates that were best on the first, for each figure its own."""
    best, chosen = Count(), (RATES[0], RATES[0])
    for rate in RATES:
        # No rate that needs longer than the best so far can be the best.
        count = _rival(place, make, rate, seeds[0], min(best.target, PATIENCE))
        chosen = (
            rate if count.left < best.left else chosen[0],
            rate if count.target < best.target else chosen[1],
        )
        best = Count(min(best.left, count.left), min(best.target, count.target))
    further = [
        [_rival(place, make, rate, seed, PATIENCE) for rate in sorted(set(chosen))] for seed in seeds[1:]
    ]
    return [best, *(Count(min(c.left for c in some), min(c.target for c in some)) for some in further)]


def _rival(place: Place, make: Make, rate: float | None, seed: int, most: float) -> Count:
    count, levels = Count(), place.levels
    for spent, loss in enumerate(losses(place.problem, make, rate, beside=place.beside, seed=seed), start=1):
        count = _counted(count, levels, loss, spent)
        if count.target < _NEVER or spent >= most or not loss < _DIVERGED * levels.saddle:
            break
    return count


def _counted(count: Count, levels: Levels, loss: float, spent: float) -> Count:
    left = min(count.left, spent) if loss < levels.left else count.left
    target = min(count.target, spent) if loss < levels.target else count.target
    return Count(left, target)


def _levels(made: Problem) -> Levels:
    saddle = made.objective().value(made.objective().theta)
    lowest = saddle
    run_down = losses(
        made,
        lambda params, rate: torch.optim.Adam(params, lr=rate),
        _BOTTOM_RATE,
        beside=_BOTTOM_FROM,
        seed=0,
    )
    for _ in range(PATIENCE):
        lowest = min(lowest, next(run_down))
    return Levels(saddle, saddle - LEFT * (saddle - lowest), saddle - TARGET * (saddle - lowest))


def _median(counts: Iterable[Count]) -> Count:
    counts = list(counts)
    return Count(median(count.left for count in counts), median(count.target for count in counts))


def _table(title: str, counts: dict[tuple[str, float], dict[str, Count]], figure: str) -> Table:
    names = list(next(iter(counts.values())))
    rows = [
        [f"{name}{', beside' if beside else ''}", *(_shown(getattr(found[who], figure)) for who in names)]
        for (name, beside), found in counts.items()
    ]
    note = f"Medians of {len(SEEDS)} seeds; - where {PATIENCE} gradients were not enough."
    return Table(title, ("saddle", *names), rows, note)


def _summary(counts: dict[tuple[str, float], dict[str, Count]]) -> Table:
    names = [name for name in next(iter(counts.values())) if name != OURS]
    rows = [
        _compared(f"best of all {kind}", [name for name in names if name.endswith(kind)], counts)
        for kind in ("tuned", "default")
    ]
    rows += [_compared(name, [name], counts) for name in names]
    columns = (
        "against",
        "to leave: median of rival / unstuck",
        "lost",
        "to the target: median of rival / unstuck",
        "lost",
        "unstuck alone gets there",
        "the rival alone",
    )
    note = "A rival that does not get there is infinitely slower. Lost: starts, of all, that unstuck needs more for."
    return Table("Summary", columns, rows, note)


def _compared(
    title: str, names: list[str], counts: dict[tuple[str, float], dict[str, Count]]
) -> list[object]:
    row: list[object] = [title]
    for figure in ("left", "target"):
        pairs = [
            (min(getattr(found[name], figure) for name in names), getattr(found[OURS], figure))
            for found in counts.values()
        ]
        row.append(_shown(median(_ratio(its, ours) for its, ours in pairs)))
        row.append(f"{sum(ours > its for its, ours in pairs)} of {len(pairs)}")
    row.append(sum(math.isfinite(ours) and not math.isfinite(its) for its, ours in pairs))
    row.append(sum(math.isfinite(its) and not math.isfinite(ours) for its, ours in pairs))
    return row


def _ratio(its: float, ours: float) -> float:
    if math.isfinite(its):
        return its / ours
    return math.inf if math.isfinite(ours) else 1.0


def _shown(count: float) -> str:
    return f"{count:.3g}" if math.isfinite(count) else "-"
