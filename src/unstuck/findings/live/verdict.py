"""Why the loss of a run stands still, from what the run shows while it goes on: its record, and a look at its graph.

Less can be said here than by `diagnose`, which has the data: nothing is tried, and a look sees a few batches. So each
check asks for more than doubt, and what it cannot tell it leaves open.
"""

from collections.abc import Callable

from unstuck.findings.live.creeping import creeping, cut_short
from unstuck.findings.live.curvature import ill_conditioned, plateau, saddle_point
from unstuck.findings.live.glance import (
    critical,
)
from unstuck.findings.live.logged import (
    cut_off,
    dead_units,
    mismatched_loss,
    no_slope,
    non_finite,
    precision_stall,
    stale_second_moment,
    vanishing_gradient,
    zero_layers,
)
from unstuck.findings.live.steps import gradient_noise, step_too_large, step_too_small
from unstuck.findings.live.strides import overreaching, thrown
from unstuck.findings.live.units import saturated_units, vanishing_in_time
from unstuck.findings.live.wiring import frozen_parameters
from unstuck.findings.records import Finding
from unstuck.measurements.records.live import Look, Recent

Check = Callable[[Recent, Look | None], Finding | None]


def conclude_live(recent: Recent, look: Look | None) -> tuple[Finding, ...]:
    """Every cause that the record and the look bear out, what explains the others first."""
    found = [check(recent, look) for check in CHECKS]
    return tuple(finding for finding in found if finding is not None)


def conclude_last(recent: Recent, look: Look | None) -> tuple[Finding, ...]:
    """What may have brought a run to where nothing else is found."""
    found = None if no_way_down(recent, look) else thrown(recent)
    return () if found is None else (found,)


def conclude_moving(recent: Recent) -> Finding | None:
    """What all steps together bear out however noisy the loss is: it need not stand still."""
    # Without any gradient the loss cannot move.
    silent = zero_layers(recent, None) if recent.gradient_norm == 0.0 else None
    return creeping(recent, None) or silent or cut_off(recent)


def conclude_logged(recent: Recent) -> tuple[Finding, ...]:
    """Those that no look could gainsay."""
    found = [check(recent, None) for check in LOGGED]
    return tuple(finding for finding in found if finding is not None)


def no_way_down(recent: Recent, look: Look | None) -> bool:
    """Whether nothing is to be gained in any way that was looked at: it may be a minimum, or a saddle point yet."""
    return look is not None and critical(recent, look)


CHECKS: tuple[Check, ...] = (
    non_finite,
    mismatched_loss,
    dead_units,
    saturated_units,
    precision_stall,
    plateau,
    vanishing_gradient,
    stale_second_moment,
    step_too_large,
    no_slope,
    step_too_small,
    saddle_point,
    gradient_noise,
    ill_conditioned,
    vanishing_in_time,
    frozen_parameters,
)

# Bouncing is told from a round trip of few batches by a look alone, if there is one.
LOGGED: tuple[Check, ...] = (
    non_finite,
    mismatched_loss,
    dead_units,
    saturated_units,
    zero_layers,
    precision_stall,
    vanishing_gradient,
    stale_second_moment,
    overreaching,
    no_slope,
    creeping,
    cut_short,
    vanishing_in_time,
    frozen_parameters,
)
