"""What was measured around a point: plain numbers, each with its error and its cost, no tensors."""

from dataclasses import dataclass

from unstuck.estimate import Estimate
from unstuck.landscape.pictures import Interpolation
from unstuck.measurements.records import Cost, Omission, Sample, Subject


@dataclass(frozen=True)
class Measure:
    """One measure of sharpness.

    Attributes:
        name: "lambda_max", "trace"; "keskar" and "keskar_5e-4" (all of the weights), "keskar_subspace" and
            "keskar_subspace_5e-4" (100 random directions); "sam", "asam" (one ascent step), "sam_steps",
            "asam_steps" (several).
        value: On the batches that judge. Of `lambda_max` and `trace` in units of the loss over squared distance,
            of `keskar` in percent of one plus the loss, of `sam` and `asam` in units of the loss.
        found: The same on the batches on which it was found: more, as chance has been maximised with it.
        slope: What a straight line with the gradient's slope gives at the same place, in the same units; None where
            the slope has no part in it.
        gradients: What it cost, in gradients over the sample.
    """

    name: str
    value: Estimate
    found: float
    slope: float | None
    gradients: float


@dataclass(frozen=True)
class Gradient:
    """How far the point is from a critical one.

    Attributes:
        norm: Of the gradient of the loss without weight decay, over the sample.
        noise: Standard error of that vector from the sample, as a length; 0 where the sample is all the data.
        decayed: Norm with the optimizer's weight decay, which is nil where the run comes to rest; None without decay.
    """

    norm: float
    noise: float
    decayed: float | None


@dataclass(frozen=True)
class Profile:
    """The loss along one direction, on batches that did not choose it.

    Attributes:
        name: "random", "filters" (random, each filter as long as the weights' own), "top" or "second" (eigenvectors).
        curvature: v^T H v of the unit direction.
        distances: Ascending, 0 among them.
        training: Loss at each distance on the batches that judge.
        errors: Standard error of the difference to the point's own; what rounding and interpolation may have changed
            is part of it.
        validation: Loss on validation data; empty where there are none.
        width: Distance, on the steeper side, at which the training loss has risen by the survey's `rise`; None where
            it has not.
        evaluated: Number of distances at which the loss was evaluated.
        interpolated: Whether a height was interpolated, in the same places; empty where all were evaluated.
        interpolation: How those were checked; None where there are none.
    """

    name: str
    curvature: Estimate
    distances: tuple[float, ...]
    training: tuple[float, ...]
    errors: tuple[float, ...]
    validation: tuple[float, ...]
    width: float | None
    evaluated: int
    interpolated: tuple[bool, ...] = ()
    interpolation: Interpolation | None = None


@dataclass(frozen=True)
class Survey:
    """Everything that is known around a point.

    Attributes:
        subject: What was looked at.
        sample: The data it rests on.
        loss: At the point, without weight decay.
        validation: The same loss on validation data, in the mode the model is in; None where there are none.
        length: Of the weights.
        gradient: Distance from a critical point.
        measures: In the order in which they were made.
        profiles: The loss along directions.
        rise: The rise that profiles are compared by: the larger of the loss and its gap to validation.
        omitted: What could not be measured, and why.
        cost: What all of it took.
        complete: Whether every measure was come to; False after Ctrl-C and where the time was too short.
    """

    subject: Subject
    sample: Sample
    loss: Estimate
    validation: Estimate | None
    length: float
    gradient: Gradient
    measures: tuple[Measure, ...]
    profiles: tuple[Profile, ...]
    rise: float
    omitted: tuple[Omission, ...]
    cost: Cost
    complete: bool

    def measure(self, name: str) -> Measure | None:
        """The measure of that name, if it could be made."""
        return next((each for each in self.measures if each.name == name), None)
