"""What was measured: plain numbers, each with its error, no tensors."""

from unstuck.measurements.records.continuations import Arm, Continuations
from unstuck.measurements.records.point import (
    Cost,
    Gradient,
    Measurements,
    Omission,
    Route,
    Sample,
    Slice,
    Subject,
)

__all__ = [
    "Arm",
    "Continuations",
    "Cost",
    "Gradient",
    "Measurements",
    "Omission",
    "Route",
    "Sample",
    "Slice",
    "Subject",
]
