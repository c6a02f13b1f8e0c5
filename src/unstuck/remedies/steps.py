"""Longer and shorter steps, and steps whose length changes on the way."""

import math
from collections.abc import Callable, Sequence

import torch
from torch.optim import Optimizer

from unstuck.findings.progress import ABOUT_EQUAL
from unstuck.findings.records import Cause
from unstuck.measurements.optimizer.steps import LENGTHS
from unstuck.measurements.records import Arm
from unstuck.remedies.run import Run, forgetting
from unstuck.remedies.treatment import Left, Situation, Treatment

# Where nothing was measured that tells a better factor, the next power of ten.
_DOWN, _UP = 0.1, 10.0

# With which to begin where nothing tells another rate.
_FIRST = 1e-3

# A linear warm-up over this share of the way; the usual few per cent of a whole training would be a step or two here.
_WARMING = 0.3

_RATE = 'for group in optimizer.param_groups:\n    group["lr"] *= {factor:g}'

# Rprop and ASGD begin with their rate and then keep lengths of their own, Rprop within bounds. Those of ASGD decay by
# lr times lambd.
_LENGTHS = 'for state in optimizer.state.values():\n    state["{key}"] *= {factor:g}'
_DECAYING = _RATE + '\n    group["lambd"] /= {factor:g}\n'
_BOUNDED = (
    "for group in optimizer.param_groups:\n"
    '    group["step_sizes"] = tuple({factor:g} * bound for bound in group["step_sizes"])\n'
)


def smaller_step(known: Situation) -> Sequence[Treatment]:
    """Multiply the learning rate by the best lower factor that was looked at, and by one further down."""
    if not _has_rate(known):
        return []
    best = _best(known, lambda factor: factor < 1.0) or _DOWN
    treats = frozenset({Cause.STEP_TOO_LARGE, Cause.GRADIENT_NOISE})
    return [_scaled("smaller-step", treats, factor, known) for factor in (best, best * _DOWN)]


def larger_step(known: Situation) -> Sequence[Treatment]:
    """Multiply the learning rate by the best higher factor that was looked at, and by one further up."""
    if not _has_rate(known):
        return []
    treats = frozenset({Cause.STEP_TOO_SMALL, Cause.PLATEAU, Cause.VANISHING_GRADIENT})
    wiring = known.measured.wiring
    if wiring is not None and wiring.standing:
        return [_begun(treats, rate) for rate in _beginnings(known)]
    best = _best(known, lambda factor: factor > 1.0) or _UP
    factors = (best, best * _UP) if best > _UP else (best, best * _UP, best / 3.0)
    return [_scaled("larger-step", treats, factor, known) for factor in factors]


def decay(known: Situation) -> Sequence[Treatment]:
    """Let the rate fall to zero along a line: the noise of the steps dies away with them."""
    del known

    def apply(run: Run) -> None:
        run.factor = lambda share: max(1.0 - share, 0.0)

    return [
        Treatment(
            "decay",
            frozenset({Cause.STEP_TOO_LARGE, Cause.GRADIENT_NOISE}),
            "learning rate falling to 0 along a line",
            (
                "scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, total_iters=STEPS_LEFT)",
                "# scheduler.step() after each optimizer.step()",
            ),
            "Robbins & Monro, 1951; Defazio et al., 2023 (linear decay)",
            apply,
            left=Left.ALWAYS,
        )
    ]


def warm_up(known: Situation) -> Sequence[Treatment]:
    """Begin the optimizer's state anew, and let the rate rise from zero while it is unreliable."""

    def apply(run: Run) -> None:
        run.forget()
        run.factor = lambda share: min(share / _WARMING, 1.0)

    return [
        Treatment(
            "warm-up",
            frozenset({Cause.STALE_SECOND_MOMENT, Cause.STEP_TOO_LARGE}),
            "a fresh optimizer state, and the rate rising from 0 to what it is",
            (
                *forgetting(known.training.optimizer),
                "scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, total_iters=WARM_UP_STEPS)",
            ),
            "Goyal et al., 2017, section 2.2; Liu et al., 2020 (RAdam)",
            apply,
        )
    ]


def _has_rate(known: Situation) -> bool:
    """Whether there is anything to multiply; a stranger's optimizer may call its rate otherwise."""
    optimizer = known.training.optimizer
    return optimizer is not None and any("lr" in group for group in optimizer.param_groups)


def _scaled(name: str, treats: frozenset[Cause], factor: float, known: Situation) -> Treatment:
    rate, bounded = known.measured.subject.rate, isinstance(known.training.optimizer, torch.optim.Rprop)
    told = "" if rate is None or bounded else f": {rate:.3g} becomes {rate * factor:.3g}"
    what = "step sizes and their bounds" if bounded else "learning rate"
    return Treatment(
        name,
        treats,
        f"{what} times {_times(factor)}{told}",
        (_line(known.training.optimizer, factor),),
        "line search (Nocedal & Wright, 2006, chapter 3) and trials at several rates",
        lambda run: run.scale_rate(factor),
        rated=True,
    )


def _times(factor: float) -> str:
    """Large factors are powers of ten, and read as such in full."""
    return f"{factor:,.0f}" if factor >= 1e3 else f"{factor:.3g}"  # noqa: PLR2004


def _line(optimizer: Optimizer | None, factor: float) -> str:
    states = list(optimizer.state.values()) if optimizer else []
    key = next((key for key in LENGTHS if any(key in state for state in states)), None)
    first = _BOUNDED if isinstance(optimizer, torch.optim.Rprop) else ""
    first = _DECAYING if isinstance(optimizer, torch.optim.ASGD) else first
    return (first + _LENGTHS if key else _RATE).format(factor=factor, key=key)


def _beginnings(known: Situation) -> list[float]:
    """Rates to begin with where all are 0: what the schedule began with, else the optimizer's own, and more."""
    optimizer = known.training.optimizer
    groups = optimizer.param_groups if optimizer else []
    given = [group.get("initial_lr") for group in groups]
    given.append(optimizer.defaults.get("lr") if optimizer else None)
    first = next((float(rate) for rate in given if rate is not None and float(rate) > 0.0), _FIRST)
    return [first, first * _UP]


def _begun(treats: frozenset[Cause], rate: float) -> Treatment:
    return Treatment(
        "larger-step",
        treats,
        f"learning rate {rate:.3g} instead of 0",
        (f'for group in optimizer.param_groups:\n    group["lr"] = {rate:g}',),
        "with a learning rate of 0 nothing is learnt",
        lambda run: run.change_rate(lambda _: rate),
        rated=True,
    )


def _best(known: Situation, wanted: Callable[[float], bool]) -> float | None:
    """The factor nearest to 1 of those that gained about most when the run was continued at several rates."""
    found = known.measured.continuations
    arms: list[Arm] = (
        [arm for arm in found.arms if arm.name == "rate" and wanted(arm.factor)] if found else []
    )
    gaining = [arm for arm in arms if arm.extra.value > 0.0]
    enough = ABOUT_EQUAL * max((arm.extra.value for arm in gaining), default=0.0)
    near = [arm.factor for arm in gaining if arm.extra.value >= enough]
    return min(near, key=lambda factor: abs(math.log(factor)), default=None)
