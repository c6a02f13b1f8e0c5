"""What was measured: plain numbers, each with its error, no tensors."""

from unstuck.measurements.records.continuations import Arm, Continuations
from unstuck.measurements.records.order import Order, Reordered, Structure
from unstuck.measurements.records.point import (
    Cost,
    Gradient,
    Measurements,
    Noise,
    Omission,
    Route,
    Sample,
    Slice,
    Subject,
)
from unstuck.measurements.records.validation import Onward, Validation

__all__ = [
    "Arm",
    "Continuations",
    "Cost",
    "Gradient",
    "Measurements",
    "Noise",
    "Omission",
    "Onward",
    "Order",
    "Reordered",
    "Route",
    "Sample",
    "Slice",
    "Structure",
    "Subject",
    "Validation",
]
