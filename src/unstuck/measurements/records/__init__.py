"""What was measured: plain numbers, each with its error, no tensors."""

from unstuck.measurements.records.point import (
    Cost,
    Gradient,
    Measurements,
    Route,
    Sample,
    Slice,
    Subject,
)

__all__ = ["Cost", "Gradient", "Measurements", "Route", "Sample", "Slice", "Subject"]
