"""Where the eigenvectors lead: along negative curvature, from beside the point, and the loss along the ends."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.records import Curvature
from unstuck.errors import MeasurementError
from unstuck.measurements.descent import along_curvature, onward, shaken
from unstuck.measurements.known import Known
from unstuck.measurements.slices import look_along, natural_reach
from unstuck.measurements.surveys import Limits

# Negative curvature is compared with plain descent when it gains this many times what the slope does.
_COMPARED = 2.0


def follow(
    known: Known,
    curvature: Curvature,
    judges: Float[Tensor, " n"],
    told: Callable[[str, float], None],
    limits: Limits,
    *,
    descending: bool,
) -> None:
    """Look where the eigenvectors lead as long as there is time, and add it to what is known.

    Args:
        known: Is added to.
        curvature: Eigenvalues with their vectors.
        judges: The gradient on the half that judges.
        told: Hears what is done next.
        limits: How long it may take, and the seed of the move at random.
        descending: The slope leads down beyond doubt: no escape is called for.

    Raises:
        MeasurementError: The time was over first.
    """
    told("the way down along negative curvature", 0.8)
    if not descending:
        with known.bill.item("curvature"):
            _descend_by_curvature(known, curvature, judges, limits)
        with known.bill.item("shake"):
            _shake(known, curvature, judges, limits)
    _check(limits)
    told("the loss along the eigenvectors", 0.9)
    with known.bill.item("slices"):
        _look(known, curvature, judges)


def _check(limits: Limits) -> None:
    if limits.spent():
        msg = "the time was over"
        raise MeasurementError(msg)


def _descend_by_curvature(
    known: Known, curvature: Curvature, judges: Float[Tensor, " n"], limits: Limits
) -> None:
    lowest, judge = curvature.spectrum.lambda_min, known.judge
    if lowest >= 0.0:
        return
    _check(limits)
    reach = natural_reach(0.1 * known.scale(), lowest, known.length)
    route, displacement = along_curvature(judge, curvature.lowest, judges, reach)
    known.routes["curvature"] = route
    if route.distance == 0.0:
        return
    _try(known, "escape", displacement, judges, limits)


def _try(
    known: Known, name: str, displacement: Float[Tensor, " n"], judges: Float[Tensor, " n"], limits: Limits
) -> None:
    """Descend from there, and if that gains much, from here: what is cut short compares with nothing."""
    routes, judge = known.routes, known.judge
    routes[name] = route = onward(name, judge, displacement, judges, limits.spent)
    if route.gain.value > _COMPARED * known.slope() and "control" not in routes:
        nowhere = torch.zeros_like(displacement)
        routes["control"] = onward("control", judge, nowhere, judges, limits.spent)
        if limits.spent():
            del routes[name], routes["control"]
            _check(limits)


def _shake(known: Known, curvature: Curvature, judges: Float[Tensor, " n"], limits: Limits) -> None:
    """Where curvature decides nothing in some direction, higher derivatives might: look around at random."""
    escape = known.routes.get("escape")
    if curvature.spectrum.floor.bound > 0.0 or (escape and escape.gain.value > 0.0):
        return
    _check(limits)
    _try(
        known, "shake", shaken(known.objective.parameters, known.objective.theta, limits.seed), judges, limits
    )


def _look(known: Known, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
    ends = (
        ("lowest", curvature.lowest, curvature.spectrum.lambda_min),
        ("highest", curvature.highest, curvature.spectrum.lambda_max),
    )
    walked = known.routes["curvature"].distance if "curvature" in known.routes else 0.0
    for name, direction, eigenvalue in ends:
        reach = natural_reach(known.scale(), eigenvalue, known.length)
        if name == "lowest" and walked:
            reach = 1.25 * walked
        known.slices.append(look_along(known.judge, name, direction, judges, reach=reach))
