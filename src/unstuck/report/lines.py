"""Lines that every report has: what was looked at, and what that cost."""

from unstuck.measurements.records import Cost, Omission, Subject
from unstuck.report.numbers import count, memory, seconds
from unstuck.report.words import engine_name


def subject_line(subject: Subject) -> str:
    """What was looked at, in one line."""
    return " \u00b7 ".join((subject.model, parameters_of(subject), f"{subject.dtype} on {subject.device}"))


def parameters_of(subject: Subject) -> str:
    """How many parameters were looked at, and of how many which ones, where not all were."""
    if subject.trainable is None:
        return count(subject.parameters, "parameter")
    whole, names = count(subject.trainable, "parameter"), ", ".join(subject.only)
    return f"{subject.parameters:,} of {whole}: only {names}, the others held fixed"


def cost_line(cost: Cost) -> str:
    """What it cost to find out, in one line."""
    products = f"{count(cost.products, 'Hessian-vector product')}"
    if cost.engine:
        products += f" ({engine_name(cost.engine)})"
    return ", ".join(
        (count(cost.gradients, "gradient"), products, seconds(cost.seconds), memory(cost.peak_bytes))
    )


def left_out(omitted: tuple[Omission, ...], labels: dict[str, str]) -> tuple[str, ...]:
    """What could not be measured, and why; what has the same reason stands together."""
    reasons: dict[str, list[str]] = {}
    for omission in omitted:
        reasons.setdefault(omission.reason, []).append(labels[omission.name])
    return tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
