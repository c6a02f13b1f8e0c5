"""Heights between those that were evaluated: predicted, and believed only where evaluations bear them out.

The loss on a plane is a smooth function up to what the kinks of single units add to it. So its heights at some places
tell those at others: by the surface that bends least, a sum of $|r|^5$ around the known places and a polynomial of
second degree (radial basis functions; Duchon, 1977). How good that is depends on the loss, so nothing is believed
unseen. On a plane the surface is compared with the real loss where it is least sure of itself, and at places drawn at
random. On a line, of which few places are evaluated, each of them is predicted from all others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

Array = NDArray[np.float64]
Place = tuple[int, ...]


# A picture may be off by this share of the height that is drawn, between the lowest loss and where it is cut off: a
# plane by a twentieth of the space between two of its twelve lines of equal loss, far less than an eye sees, a line
# by as much as it is itself wide.
PLANE, LINE = 4e-3, 1e-2

# Where it was not compared with the loss it may be off by so many times what it was off by where it was. Measured
# with the loss at all places: on planes through a perceptron, a conv net and a transformer, ten times each, at most
# 2.3; on 240 lines through ten networks at most 2.5.
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


def guess(known: Sequence[Place], heights: Array, wanted: Sequence[Place], degree: int) -> Guess | None:
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
            for kernel, degree in (("quintic", degree), ("cubic", 1))
        )
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not np.isfinite(smooth).all() or not np.isfinite(rough).all():
        return None
    return Guess(smooth, np.abs(smooth - rough).max(axis=1))


def believed(off: float, tolerance: float) -> bool:
    """Whether what was off by this share of what is drawn may stand for the loss."""
    return allowance(off) <= tolerance


def allowance(off: float) -> float:
    """Give what it may be off by elsewhere."""
    return _MARGIN * off


def missed(known: Sequence[Place], heights: Array, degree: int) -> Array:
    """By how much the height of each place but the first and the last is missed by the surface through all others."""
    here = np.array(known, dtype=float)

    def predicted(left: int) -> Array:
        others = np.arange(len(here)) != left
        surface = RBFInterpolator(here[others], heights[others], kernel="quintic", degree=degree)
        return surface(here[left : left + 1])[0]

    try:
        return np.array([predicted(left) - heights[left] for left in range(1, len(here) - 1)])
    except (ValueError, np.linalg.LinAlgError):
        return np.full_like(heights, math.inf)
