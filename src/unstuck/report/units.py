"""Nonlinearities as people count them: one that is used again and again, as in time, is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.measurements.records import Activation


@dataclass(frozen=True)
class Units:
    """One nonlinearity with all its uses; shares are means over them.

    Attributes:
        label: What it is and where: "relu after layer 0", "tanh after rnn (8 uses)".
        passed: Least of all uses.
    """

    label: str
    rectifier: bool
    units: int
    dead: float
    saturated: float
    flat: float
    slope: float
    passed: float | None


def counted(activations: Sequence[Activation]) -> tuple[Units, ...]:
    """Put the uses of each nonlinearity together, in the order of their first."""
    found: dict[tuple[str, str, int], list[Activation]] = {}
    for each in activations:
        found.setdefault((each.name, each.op, each.units), []).append(each)
    return tuple(_together(uses) for uses in found.values())


def place_name(name: str) -> str:
    """What a module is called; a bare number, as in a Sequential, is a layer."""
    return f"layer {name}" if name.replace(".", "").isdigit() else name


def _together(uses: Sequence[Activation]) -> Units:
    first, many = uses[0], len(uses)
    passed = [each.passed for each in uses if each.passed is not None]
    return Units(
        label=f"{first.op} after {place_name(first.name)}" + (f" ({many} uses)" if many > 1 else ""),
        rectifier=first.kind == "rectifier",
        units=first.units,
        dead=sum(each.dead for each in uses) / many,
        saturated=sum(each.saturated for each in uses) / many,
        flat=sum(each.flat for each in uses) / many,
        slope=sum(each.slope for each in uses) / many,
        passed=min(passed, default=None),
    )
