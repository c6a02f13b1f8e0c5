"""What findings have in common: how numbers become evidence, confidence and words."""

import math
import sys
from collections.abc import Sequence

from scipy.special import ndtr

from unstuck.estimate import Estimate
from unstuck.findings.records import Evidence
from unstuck.measurements.records import Measurements

# Names that are written out.
_NAMED = 3

# No claim is made with more confidence than this, whatever the numbers say: models of noise are models.
MOST = 0.99


def confidence(ratio: float, threshold: float) -> float:
    """One half at the threshold, and surer the further beyond it."""
    return min(ratio / (ratio + threshold), MOST) if math.isfinite(ratio) else MOST


def surely_negative(estimate: Estimate) -> float:
    """Probability that the true value lies below zero."""
    if estimate.stderr == 0.0:
        return MOST
    return min(float(ndtr(-estimate.value / (estimate.margin() / 3.0))), MOST)


def estimated(name: str, estimate: Estimate) -> Evidence:
    """An estimate as evidence; without its error where that is not known."""
    return Evidence(name, estimate.value, estimate.stderr if math.isfinite(estimate.stderr) else None)


def share(gain: Estimate, measured: Measurements) -> Estimate:
    """A gain as a share of the loss."""
    return gain / max(measured.scale, sys.float_info.min)


def figure(value: float) -> str:
    """A number as people write it: two digits, and powers of ten only where there is no other way."""
    return f"{value:,.0f}" if 1e2 <= value < 1e6 else f"{value:.2g}"  # noqa: PLR2004


def named(names: Sequence[str]) -> str:
    """Name the first three, and say how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def of_what(measured: Measurements) -> str:
    """What percentages are of: where no outputs bring the loss to zero, what lies above the least they could."""
    floor = measured.outputs is not None and measured.outputs.room is not None
    return "what lies above the floor of the loss" if floor else "the loss"


def percent(gain: Estimate, measured: Measurements) -> str:
    """A gain in percent of what `of_what` says."""
    return f"{100 * share(gain, measured).value:.3g} %"


def gains_of(measured: Measurements) -> tuple[Evidence, ...]:
    """What the routes gain that steps are compared by, as evidence."""
    routes = [measured.route(name) for name in ("now", "ahead", "gradient", "krylov")]
    return tuple(estimated(f"{route.name}_gain", share(route.gain, measured)) for route in routes if route)
