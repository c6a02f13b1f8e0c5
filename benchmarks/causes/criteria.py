"""What must be true of each cause, in numbers: fixed before the cases were made, and the same for all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.causes.changes import (
    GOING_ON,
    GREATER,
    OPTIMIZERS,
    RATES,
    REMEDY,
    SMALLER,
)
from benchmarks.causes.continuing import Outcome
from unstuck import Cause

HELPS = 0.2  # a remedy must end this much below going on
STUCK = 0.05  # what is stuck falls by less than this when it goes on, and what is healthy by more
NOTHING = 0.01  # at a minimum no change gains more
MULTIPLE = 3.0  # no change may fall this many times as far as a healthy run that goes on
SHARE = 0.5  # other changes must gain less than this part of what the label's own remedy gains
NEGATIVE = 1e-3  # of the largest eigenvalue: a way down
CONSTANT, LEARNT = 0.96, 0.8  # of a constant output's held-out loss: nothing is learnt, something is
GAP = 2.0  # held-out loss over training loss
GRADIENTS = 0.01  # of the largest gradient of a weight matrix: the smallest has vanished
UNITS = 0.5  # of a layer


@dataclass
class Evidence:
    """What the changes of one run came to, and what was measured of its state."""

    outcomes: dict[str, Outcome]
    facts: dict[str, float | None] = field(default_factory=dict)

    def fall(self, name: str = GOING_ON) -> float:
        """Give the relative decrease since the start."""
        one = self.outcomes[name]
        return _relative(one.start, one.end)

    def gain(self, *names: str) -> float:
        """Give what the best of the changes ends below going on, relative to it."""
        going = self.outcomes[GOING_ON].end
        return max(_relative(going, self.outcomes[name].end) for name in names if name in self.outcomes)

    def fact(self, name: str, missing: float = float("nan")) -> float:
        """Give a measured number."""
        value = self.facts.get(name)
        return missing if value is None else value


@dataclass(frozen=True)
class Check:
    """One statement that must be true for the label, with the number it rests on."""

    text: str
    value: float
    holds: bool


Criterion = Callable[[Evidence], list[Check]]


def at_least(text: str, value: float, bound: float) -> Check:
    """State that a value is no less than a bound."""
    return Check(f"{text} >= {bound:.3g}", value, value >= bound)


def below(text: str, value: float, bound: float) -> Check:
    """State that a value is below a bound."""
    return Check(f"{text} < {bound:.3g}", value, value < bound)


def _relative(before: float, after: float) -> float:
    if before == float("inf"):
        return 0.0 if after == float("inf") else 1.0
    return (before - after) / max(abs(before), 1e-12)


def _stuck(e: Evidence, bound: float = STUCK) -> Check:
    return below("fall when going on", e.fall(), bound)


def _remedy(e: Evidence) -> Check:
    return at_least("gain of own remedy", e.gain(REMEDY), HELPS)


def _others(e: Evidence, *names: str) -> Check:
    return below("gain of other changes", e.gain(*names), SHARE * e.gain(REMEDY))


def _healthy(e: Evidence) -> list[Check]:
    names = [name for name in e.outcomes if name not in ("initialised", GOING_ON)]
    best = max(names, key=e.fall)
    going = e.outcomes[GOING_ON]
    checks = [
        at_least("fall when going on", e.fall(), STUCK),
        below(f"best fall ({best}) over that", e.fall(best) / max(e.fall(), 1e-9), MULTIPLE),
    ]
    if going.held is not None and going.held_start is not None:
        checks.append(below("held-out loss after/before", going.held / going.held_start, 1.02))
    return checks


def _saddle(e: Evidence) -> list[Check]:
    names = (*RATES, *OPTIMIZERS, "batch x8", "whole batch", "fresh state")
    low = e.fact("lambda_min") / max(e.fact("lambda_max"), 1e-12)
    return [_stuck(e), _remedy(e), _others(e, *names), below("lambda_min / lambda_max", low, -NEGATIVE)]


def _minimum(e: Evidence) -> list[Check]:
    names = [name for name in e.outcomes if name not in ("initialised", GOING_ON)]
    best = max(names, key=e.gain)
    low = e.fact("lambda_min") / max(e.fact("lambda_max"), 1e-12)
    return [
        below("fall when going on", e.fall(), NOTHING),
        below(f"best gain ({best})", e.gain(best), NOTHING),
        at_least("lambda_min / lambda_max", low, -NEGATIVE),
    ]


def _maximum(e: Evidence) -> list[Check]:
    high = e.fact("lambda_max") / max(abs(e.fact("lambda_min")), 1e-12)
    return [
        _stuck(e),
        below("lambda_max / |lambda_min|", high, NEGATIVE),
        at_least("gain of own remedy", e.gain(REMEDY), HELPS),
        at_least("gain of a perturbation", e.gain("perturbed"), 0.0),
    ]


def _plateau(e: Evidence) -> list[Check]:
    return [
        _stuck(e),
        _remedy(e),
        _others(e, *RATES, "momentum 0.9", "perturbed"),
        below("gradient over that under own remedy", e.fact("gradient ratio to cured"), GRADIENTS),
        below("curvature over that under own remedy", e.fact("curvature ratio to cured"), GRADIENTS),
    ]


def _too_large(e: Evidence) -> list[Check]:
    smaller = e.gain(*SMALLER)
    return [
        _stuck(e),
        at_least("gain of a smaller rate", smaller, HELPS),
        below("gain of all data a step, or shuffled", e.gain("whole batch", "shuffled"), SHARE * smaller),
    ]


def _too_small(e: Evidence) -> list[Check]:
    greater = e.gain(*GREATER)
    return [
        _stuck(e),
        at_least("gain of a greater rate", greater, HELPS),
        below("part of Adam's gain that a rate misses", 1 - greater / max(e.gain(*OPTIMIZERS), 1e-9), 0.3),
    ]


def _ill(e: Evidence) -> list[Check]:
    return [_stuck(e, 2 * STUCK), _remedy(e), _others(e, *RATES)]


def _noise(e: Evidence) -> list[Check]:
    return [_stuck(e), at_least("gain of all data a step", e.gain("whole batch"), HELPS)]


def _vanishing(e: Evidence) -> list[Check]:
    small = below("smallest gradient over largest", e.fact("gradient ratio"), GRADIENTS)
    return [_stuck(e), _remedy(e), _others(e, *RATES), small]


def _dead(e: Evidence) -> list[Check]:
    share = at_least("dead share of a layer", e.fact("dead share"), UNITS)
    return [_stuck(e), _remedy(e), _others(e, *RATES, *OPTIMIZERS), share]


def _saturated(e: Evidence) -> list[Check]:
    share = at_least("saturated share of a layer", e.fact("saturated share", 1.0), UNITS)
    return [_stuck(e), _remedy(e), _others(e, *RATES, "momentum 0.9"), share]


def _stale(e: Evidence) -> list[Check]:
    return [_stuck(e), at_least("gain of a fresh state", e.gain("fresh state"), HELPS)]


def _precision(e: Evidence) -> list[Check]:
    return [_stuck(e), at_least("gain of float64", e.gain("float64"), HELPS)]


def _non_finite(e: Evidence) -> list[Check]:
    going, cured = e.outcomes[GOING_ON], e.outcomes[REMEDY]
    return [
        at_least("numbers that are not finite", e.fact("not finite"), 1),
        Check("going on is stuck or not finite", going.end, e.fall() < STUCK or going.end == float("inf")),
        at_least("fall under own remedy", _relative(cured.start, cured.end), STUCK),
        _remedy(e),
    ]


def _frozen(e: Evidence) -> list[Check]:
    return [_remedy(e), _others(e, *RATES, *OPTIMIZERS)]


def _mismatched(e: Evidence) -> list[Check]:
    return [_remedy(e), _others(e, *RATES, *OPTIMIZERS, "initialised")]


def _uninformative(e: Evidence) -> list[Check]:
    return [
        at_least("held-out loss over a constant's", e.fact("learnable"), CONSTANT),
        below("the same with the remedy's labels", e.fact("learnable, cured"), LEARNT),
    ]


def _unshuffled(e: Evidence) -> list[Check]:
    return [_stuck(e), at_least("gain of shuffling", e.gain("shuffled"), HELPS)]


def _gap(e: Evidence) -> list[Check]:
    going, cured = e.outcomes[GOING_ON], e.outcomes[REMEDY]
    held, before, after = (value or float("nan") for value in (going.held, going.held_start, cured.held))
    return [
        at_least("fall when going on", e.fall(), STUCK),
        at_least("held-out loss over training loss", held / going.end, GAP),
        at_least("held-out loss after/before", held / before, 0.98),
        below("held-out loss under own remedy/going on", after / held, 1 - HELPS),
    ]


CRITERIA: dict[Cause, Criterion] = {
    Cause.HEALTHY: _healthy,
    Cause.SADDLE_POINT: _saddle,
    Cause.LOCAL_MINIMUM: _minimum,
    Cause.LOCAL_MAXIMUM: _maximum,
    Cause.PLATEAU: _plateau,
    Cause.STEP_TOO_LARGE: _too_large,
    Cause.STEP_TOO_SMALL: _too_small,
    Cause.ILL_CONDITIONED: _ill,
    Cause.GRADIENT_NOISE: _noise,
    Cause.VANISHING_GRADIENT: _vanishing,
    Cause.DEAD_UNITS: _dead,
    Cause.SATURATED_UNITS: _saturated,
    Cause.STALE_SECOND_MOMENT: _stale,
    Cause.PRECISION_STALL: _precision,
    Cause.NON_FINITE: _non_finite,
    Cause.FROZEN_PARAMETERS: _frozen,
    Cause.MISMATCHED_LOSS: _mismatched,
    Cause.UNINFORMATIVE_LABELS: _uninformative,
    Cause.UNSHUFFLED_DATA: _unshuffled,
    Cause.GENERALIZATION_GAP: _gap,
}

# What a criterion looks at, for a quick look at one label.
_RULES = (*RATES, *OPTIMIZERS)
NEEDED: dict[Cause, tuple[str, ...]] = {
    Cause.HEALTHY: _RULES,
    Cause.SADDLE_POINT: _RULES,
    Cause.LOCAL_MINIMUM: (*_RULES, "perturbed", "whole batch", "shuffled", "float64"),
    Cause.LOCAL_MAXIMUM: ("perturbed",),
    Cause.PLATEAU: (*RATES, "momentum 0.9", "perturbed"),
    Cause.STEP_TOO_LARGE: (*SMALLER, "whole batch", "shuffled"),
    Cause.STEP_TOO_SMALL: (*GREATER, *OPTIMIZERS),
    Cause.ILL_CONDITIONED: tuple(RATES),
    Cause.GRADIENT_NOISE: ("whole batch", *SMALLER),
    Cause.VANISHING_GRADIENT: tuple(RATES),
    Cause.DEAD_UNITS: _RULES,
    Cause.SATURATED_UNITS: (*RATES, "momentum 0.9"),
    Cause.STALE_SECOND_MOMENT: ("fresh state",),
    Cause.PRECISION_STALL: ("float64",),
    Cause.FROZEN_PARAMETERS: (*_RULES, "unfrozen"),
    Cause.MISMATCHED_LOSS: (*_RULES, "initialised"),
    Cause.UNSHUFFLED_DATA: ("shuffled", *SMALLER),
}


def judge(evidence: Evidence, cause: Cause) -> Sequence[Check]:
    """Hold a label to its criterion."""
    return CRITERIA[cause](evidence)
