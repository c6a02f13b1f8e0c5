"""What it cost to find out, as a whole and measurement by measurement."""

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Spent
from unstuck.report.numbers import count, memory, seconds, significant
from unstuck.report.words import engine_name, measurement_name

# The terminal names so many of the dearest measurements; the page all of them.
_NAMED = 3


def cost_line(verdict: Verdict) -> str:
    """What it cost to find out, in one line."""
    cost = verdict.cost
    products = f"{count(cost.products, 'Hessian-vector product')} ({engine_name(cost.engine)})"
    if not cost.products:
        products = "no Hessian-vector product"
    return ", ".join(
        (count(cost.gradients, "gradient"), products, seconds(cost.seconds), memory(cost.peak_bytes))
    )


def dearest(verdict: Verdict) -> str:
    """The measurements that cost most, in one line; empty where none was made."""
    ranked = sorted(_named(verdict), key=lambda spent: -spent.gradients)
    parts = (f"{measurement_name(spent.name)} {significant(spent.gradients)}" for spent in ranked[:_NAMED])
    return f"most of it for {', '.join(parts)}" if ranked else ""


def cost_rows(verdict: Verdict) -> tuple[tuple[str, str, str], ...]:
    """Each measurement with its gradients and its time, and what is left of the whole."""
    return tuple(
        (measurement_name(spent.name), significant(spent.gradients), seconds(spent.seconds))
        for spent in verdict.cost.measurements
    )


def _named(verdict: Verdict) -> list[Spent]:
    return [spent for spent in verdict.cost.measurements if spent.name != "other" and spent.gradients > 0.0]
