"""Heights between those that were evaluated: predicted, and believed only where evaluations bear them out.

The loss on a plane is a smooth function up to what the kinks of single units add to it. So its heights at some places
tell those at others: by the surface that bends least, a sum of $|r|^5$ around the known places and a polynomial of
second degree (radial basis functions; Duchon, 1977). How good that is depends on the loss, so nothing is believed
unseen: where the surface is least sure of itself, and at places drawn at random, it is compared with the real loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

Array = NDArray[np.float64]

# A picture may be off by this share of the height that is drawn, between the lowest loss and where it is cut off: a
# twentieth of the space between two of its twelve lines of equal loss, far less than an eye sees.
TOLERANCE = 4e-3

# At the places that are left the surface may be off by so many times what it was off by at those that were checked.
# Measured on planes through a perceptron, a conv net and a transformer, ten times each, at all places of 33 by 33: at
# most by 2.3 times as much.
_MARGIN = 4.0

# Places that are checked in a round: so many where the surface is least sure and as many at random, or this share of
# those that are known; and when so many of all are known, the others are evaluated too.
_LEAST, _SHARE, MOST = 16, 12, 0.75


@dataclass(frozen=True)
class Guess:
    """What the known heights say about other places.

    Attributes:
        heights: A row for each place, a column for each kind of height.
        doubt: How far two such surfaces are apart, the smoother and one with $|r|^3$.
    """

    heights: Array
    doubt: Array

    def chosen(self, known: int, generator: torch.Generator) -> list[int]:
        """Choose places to be checked, by their number."""
        count = max(_LEAST, known // _SHARE)
        order = np.argsort(-self.doubt, kind="stable")
        rest = order[count:]
        drawn = torch.randperm(len(rest), generator=generator)[:count].numpy()
        return [*order[:count].tolist(), *rest[drawn].tolist()]


def guess(
    known: Sequence[tuple[int, int]], heights: Array, wanted: Sequence[tuple[int, int]]
) -> Guess | None:
    """Predict heights at the places `wanted`; None where the known ones are too few, or too wild."""
    if not known:
        return None
    scale = max(max(place) for place in known) or 1
    here, there = np.array(known) / scale, np.array(wanted) / scale
    size = np.abs(heights).max(axis=0)
    unit = np.where(size > 0.0, size, 1.0)
    try:
        smooth, rough = (
            RBFInterpolator(here, heights / unit, kernel=kernel, degree=degree)(there) * unit
            for kernel, degree in (("quintic", 2), ("cubic", 1))
        )
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not np.isfinite(smooth).all() or not np.isfinite(rough).all():
        return None
    return Guess(smooth, np.abs(smooth - rough).max(axis=1))


def believed(off: float) -> bool:
    """Whether a surface that was off by this share of what is drawn may stand for the loss."""
    return _MARGIN * off <= TOLERANCE


def allowance(off: float) -> float:
    """Give what it may be off by elsewhere."""
    return _MARGIN * off
