"""What was measured: plain numbers, each with its error, no tensors."""

from unstuck.measurements.records.continuations import Arm, Continuations
from unstuck.measurements.records.labels import Labels
from unstuck.measurements.records.layers import Activation, Depth, Layers, ParameterScale
from unstuck.measurements.records.mixing import Mixing
from unstuck.measurements.records.order import Order, Reordered, Structure
from unstuck.measurements.records.outputs import Outputs
from unstuck.measurements.records.past import Past
from unstuck.measurements.records.point import (
    Cost,
    Division,
    Gradient,
    Measurements,
    Noise,
    Omission,
    Route,
    Sample,
    Slice,
    Spent,
    Subject,
)
from unstuck.measurements.records.stability import Stability
from unstuck.measurements.records.validation import Onward, Validation

__all__ = [
    "Activation",
    "Arm",
    "Continuations",
    "Cost",
    "Depth",
    "Division",
    "Gradient",
    "Labels",
    "Layers",
    "Measurements",
    "Mixing",
    "Noise",
    "Omission",
    "Onward",
    "Order",
    "Outputs",
    "ParameterScale",
    "Past",
    "Reordered",
    "Route",
    "Sample",
    "Slice",
    "Spent",
    "Stability",
    "Structure",
    "Subject",
    "Validation",
]
