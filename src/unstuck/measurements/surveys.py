"""The measurements that stand by themselves, in the order in which they are made."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from unstuck import processes
from unstuck.curvature.vectors import Room
from unstuck.errors import MeasurementError
from unstuck.measurements.data.labels import measure_labels
from unstuck.measurements.data.order import look_at_order, measure_order
from unstuck.measurements.data.pairs import measure_pairs
from unstuck.measurements.data.validation import measure_validation
from unstuck.measurements.judging import Judge
from unstuck.measurements.loss.mixing import measure_mixing
from unstuck.measurements.loss.outputs import measure_outputs
from unstuck.measurements.model.layers import measure_layers
from unstuck.measurements.model.sight import measure_sight
from unstuck.measurements.model.wiring import measure_wiring
from unstuck.measurements.optimizer.forgetting import measure_forgetting
from unstuck.measurements.optimizer.momenta import measure_momentum
from unstuck.measurements.optimizer.updates import measure_precision, measure_second_moment
from unstuck.training import Training

# What one dear measurement may take of the time that is left, as others come after it; and one that can do with less.
_SHARE, _PART = 0.5, 0.1


@dataclass(frozen=True)
class Limits:
    """What may be spent.

    Attributes:
        left: Seconds that are left, asked before each product.
        graphs: Bytes for kept graphs.
        room: For the vectors of a Lanczos run.
        seed: Of all randomness.
        data: Bytes for examples that are brought from other processes.
        rest: Seconds that are left for what follows the products.
        gradient: Seconds that one gradient over the sample takes.
    """

    left: Callable[[], float]
    graphs: float
    room: Room
    seed: int
    data: float = 0.0
    rest: Callable[[], float] = lambda: math.inf
    gradient: float = 0.0

    def over(self) -> bool:
        """Whether no time is left for products."""
        return self.left() <= 0.0

    def spent(self) -> bool:
        """Whether no time is left for anything."""
        return self.rest() <= 0.0

    @property
    def affordable(self) -> float:
        """Gradients over the sample that one of many measurements may cost."""
        return _PART * self.rest() / self.gradient if self.gradient > 0.0 else math.inf

    def claim(self, gradients: float) -> None:
        """Ask for the time that so many gradients over the sample take, before they are spent.

        Raises:
            MeasurementError: They would take more than their share of what is left.
        """
        if gradients * self.gradient > _SHARE * self.rest():
            msg = f"there was no time for it: it takes about {gradients:.0f} gradients over the sample"
            raise MeasurementError(msg)


Measure = Callable[[Training, Judge, Limits], Any]


@dataclass(frozen=True)
class Stage:
    """A measurement that stands by itself.

    Attributes:
        name: Its field in `Measurements`.
        words: What is said meanwhile.
        measure: How it is made.
        apart: Whether it looks at single examples or into the model: of several processes the first makes it, on
            the examples of all.
        divided: How an `apart` one is made of a model that no process has the room for; None: it is not.
    """

    name: str
    words: str
    measure: Measure
    apart: bool = False
    divided: Measure | None = None


def _look_at_order(training: Training, judge: Judge, _: Limits) -> Any:
    """The order itself is seen in the data alone."""
    found = processes.once(lambda: look_at_order(training, len(judge.objective.batches)))
    return replace(found, reason="what another order gains was not measured: the model is divided")


def _look_at_labels(training: Training, judge: Judge, limits: Limits) -> Any:
    """Where nothing is a label, what is compared in pairs may belong together or not."""
    try:
        return measure_labels(training, judge, seed=limits.seed, claim=limits.claim)
    except MeasurementError:
        with contextlib.suppress(MeasurementError):
            return measure_pairs(training, judge, seed=limits.seed, claim=limits.claim)
        raise


EARLY: tuple[Stage, ...] = (
    Stage(
        "wiring",
        "whom the updates reach",
        lambda training, judge, _: measure_wiring(training, judge),
        apart=True,
        divided=lambda training, judge, _: measure_wiring(training, judge),
    ),
    Stage("precision", "what rounding leaves", lambda training, judge, _: measure_precision(training, judge)),
    Stage(
        "forgetting",
        "what weight decay undoes",
        lambda training, judge, _: measure_forgetting(training, judge),
    ),
)
# What the optimizer remembers. Where that is another scale than the present one, each follows some steps twice.
STATE: tuple[Stage, ...] = (
    Stage(
        "second_moment",
        "the optimizer's state",
        lambda training, judge, _: measure_second_moment(training, judge),
    ),
    Stage(
        "momentum",
        "what the momentum remembers",
        lambda training, judge, _: measure_momentum(training, judge),
    ),
)
LATE: tuple[Stage, ...] = (
    Stage(
        "outputs",
        "whether outputs fit the loss",
        lambda training, judge, _: measure_outputs(training, judge),
        apart=True,
    ),
    Stage(
        "mixing",
        "whether outputs follow their examples",
        lambda training, judge, limits: measure_mixing(
            training, judge, seed=limits.seed, seconds=max(limits.rest(), 0.0)
        ),
        apart=True,
    ),
    Stage(
        "sight",
        "which inputs the outputs depend on",
        lambda training, judge, limits: measure_sight(training, judge, seed=limits.seed),
        apart=True,
    ),
    Stage(
        "layers",
        "activations and gradients",
        lambda training, judge, limits: measure_layers(training, judge, affordable=limits.affordable),
        apart=True,
    ),
    Stage(
        "labels",
        "what predicts the labels",
        _look_at_labels,
        apart=True,
    ),
    Stage(
        "order",
        "the order of the data",
        lambda training, judge, limits: measure_order(training, judge, claim=limits.claim),
        apart=True,
        divided=_look_at_order,
    ),
    Stage(
        "validation",
        "the loss on validation data",
        lambda training, judge, limits: measure_validation(
            training, judge, seed=limits.seed, claim=limits.claim
        ),
    ),
)
