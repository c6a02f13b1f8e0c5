"""Where the eigenvectors lead: along negative curvature, from beside the point, and the loss along the ends."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.curvature.records import Curvature
from unstuck.measurements.descent import along_curvature, onward, shaken
from unstuck.measurements.known import Known
from unstuck.measurements.slices import look_along, natural_reach

# Negative curvature is compared with plain descent when it gains this many times what the slope does.
_COMPARED = 2.0


def follow(
    known: Known,
    curvature: Curvature,
    judges: Float[Tensor, " n"],
    told: Callable[[str, float], None],
    *,
    descending: bool,
    seed: int,
) -> None:
    """Look where the eigenvectors lead, and add it to what is known.

    Args:
        known: Is added to.
        curvature: Eigenvalues with their vectors.
        judges: The gradient on the half that judges.
        told: Hears what is done next.
        descending: The slope leads down beyond doubt: no escape is called for.
        seed: Of the move at random.
    """
    told("the way down along negative curvature", 0.8)
    if not descending:
        with known.bill.item("curvature"):
            _descend_by_curvature(known, curvature, judges)
        with known.bill.item("shake"):
            _shake(known, curvature, judges, seed)
    told("the loss along the eigenvectors", 0.9)
    with known.bill.item("slices"):
        _look(known, curvature, judges)


def _descend_by_curvature(known: Known, curvature: Curvature, judges: Float[Tensor, " n"]) -> None:
    lowest, judge = curvature.spectrum.lambda_min, known.judge
    if lowest >= 0.0:
        return
    reach = natural_reach(0.1 * known.scale(), lowest, known.length)
    route, displacement = along_curvature(judge, curvature.lowest, judges, reach)
    known.routes["curvature"] = route
    if route.distance == 0.0:
        return
    escape = onward("escape", judge, displacement, judges)
    known.routes["escape"] = escape
    if escape.gain.value > _COMPARED * known.slope():
        known.routes["control"] = onward("control", judge, torch.zeros_like(displacement), judges)


def _shake(known: Known, curvature: Curvature, judges: Float[Tensor, " n"], seed: int) -> None:
    """Where curvature decides nothing in some direction, higher derivatives might: look around at random."""
    escape = known.routes.get("escape")
    if curvature.spectrum.floor.bound > 0.0 or (escape and escape.gain.value > 0.0):
        return
    displacement = shaken(known.objective.parameters, known.objective.theta, seed)
    known.routes["shake"] = shake = onward("shake", known.judge, displacement, judges)
    if shake.gain.value > _COMPARED * known.slope() and "control" not in known.routes:
        known.routes["control"] = onward("control", known.judge, torch.zeros_like(displacement), judges)


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
