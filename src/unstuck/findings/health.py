"""The run is not stuck: it goes on gaining as it is, and no other rate gains far more."""

from unstuck.findings import order
from unstuck.findings.phrases import figure, gains_of, percent, share, surely_negative
from unstuck.findings.progress import FASTER, SIGMAS, ahead, creeps, going_on, improves, undoes
from unstuck.findings.rates import best_rate, borne
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.findings.steps import step_too_large, step_too_small
from unstuck.measurements.records import Arm, Measurements

# How sure it is that a run that creeps is in good health where there was no time to try higher rates, one that a
# lower rate would get much further, one on batches of one class each, and any where hooks may change the gradients of
# its own steps.
UNTRIED = 0.6


def healthy(point: Point, measured: Measurements) -> Finding | None:
    """The optimizer goes on gaining, and no other rate gains far more."""
    arm = going_on(measured)
    others = (step_too_small, step_too_large)
    if (
        arm is None
        or not improves(measured)
        or undoes(measured)
        or any(check(point, measured) for check in others)
    ):
        return None
    best = _faster(measured)
    known = not creeps(measured) or best_rate(measured, higher=True) is not None
    bounces = best is not None and best.factor < 1.0
    perhaps = _perhaps_faster(measured) if best is None and creeps(measured) else None
    sure = surely_negative(-arm.trend)
    doubtful = measured.subject.hooked or order.surely_costs(measured.order)
    unsure = bounces or not known or perhaps is not None or doubtful
    return Finding(
        Cause.HEALTHY,
        min(sure, UNTRIED) if unsure else sure,
        (Evidence("gain_per_step", share(arm.gain, measured).value / arm.steps), *gains_of(measured)),
        f"The run is not stuck: {ahead(measured)} {_sooner(best, perhaps, measured, known=known)}",
        f"Go on; about {figure(borne(best, measured))} times the learning rate may get there sooner."
        if best
        else "Go on.",
    )


def _faster(measured: Measurements) -> Arm | None:
    """A higher rate, or else a lower one, that surely gains several times more, though the present one gains."""
    own, rates = going_on(measured), (best_rate(measured, higher=higher) for higher in (True, False))
    found = (
        best
        for best in rates
        if own and best and best.extra.surely_above(0.0) and best.gain.surely_above(FASTER * own.gain.value)
    )
    return next(found, None)


def _perhaps_faster(measured: Measurements) -> Arm | None:
    """The lowest higher rate that gains several times more by what was measured, though that is not sure."""
    own, found = going_on(measured), measured.continuations
    higher = [arm for arm in found.arms if arm.name == "rate" and arm.factor > 1.0] if found else []
    probably = (
        arm
        for arm in sorted(higher, key=lambda arm: arm.factor)
        if own and arm.gain.value > FASTER * own.gain.value and arm.extra.value > SIGMAS * arm.extra.stderr
    )
    return next(probably, None)


def _sooner(best: Arm | None, perhaps: Arm | None, measured: Measurements, *, known: bool) -> str:
    if best is None and perhaps is not None:
        return (
            f"At {figure(perhaps.factor)} times the rate the same steps may gain {percent(perhaps.gain, measured)}, "
            "but that is not sure."
        )
    if best is None:
        return "No remedy is called for." if known else "Whether a higher rate would gain more was not tried."
    return (
        f"At {figure(best.factor)} times the rate the same steps would gain {percent(best.gain, measured)}."
    )


CHECKS = (healthy,)
