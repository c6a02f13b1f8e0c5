"""The measurements that stand by themselves, in the order in which they are made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unstuck.measurements.judging import Judge
from unstuck.measurements.labels import measure_labels
from unstuck.measurements.layers import measure_layers
from unstuck.measurements.order import measure_order
from unstuck.measurements.outputs import measure_outputs
from unstuck.measurements.updates import measure_precision, measure_second_moment
from unstuck.measurements.validation import measure_validation
from unstuck.measurements.wiring import measure_wiring
from unstuck.training import Training


@dataclass(frozen=True)
class Limits:
    """What may be spent.

    Attributes:
        left: Seconds that are left, asked before each product.
        graphs: Bytes for kept graphs.
        capacity: Most vectors that a Lanczos run may hold.
        seed: Of all randomness.
    """

    left: Callable[[], float]
    graphs: float
    capacity: int
    seed: int

    def over(self) -> bool:
        """Whether no time is left."""
        return self.left() <= 0.0


# A measurement that stands by itself: its field in `Measurements`, what is said meanwhile, and how it is made.
Stage = tuple[str, str, Callable[[Training, Judge, Limits], Any]]

EARLY: tuple[Stage, ...] = (
    ("wiring", "whom the updates reach", lambda training, judge, _: measure_wiring(training, judge)),
    ("precision", "what rounding leaves", lambda training, judge, _: measure_precision(training, judge)),
    (
        "second_moment",
        "the optimizer's state",
        lambda training, judge, _: measure_second_moment(training, judge),
    ),
)
LATE: tuple[Stage, ...] = (
    ("outputs", "whether outputs fit the loss", lambda training, judge, _: measure_outputs(training, judge)),
    ("layers", "activations and gradients", lambda training, judge, _: measure_layers(training, judge)),
    (
        "labels",
        "what predicts the labels",
        lambda training, judge, limits: measure_labels(training, judge, seed=limits.seed),
    ),
    ("order", "the order of the data", lambda training, judge, _: measure_order(training, judge)),
    (
        "validation",
        "the loss on validation data",
        lambda training, judge, limits: measure_validation(training, judge, seed=limits.seed),
    ),
)
