"""What the recorded history of the run says."""

from dataclasses import dataclass

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Past:
    r"""The past of the run, as far as it was recorded.

    Attributes:
        first: The step of the first record.
        last: The step of the last.
        pace: Decrease of the loss a step over the last half of the record: a straight line through the means of ten
            blocks, with the error of what they scatter about it.
        improved: The step since which the loss has surely not fallen; None if it never fell.
        not_finite: The first step at which loss or gradient were NaN or Inf.
        gradient_peak: Largest gradient norm on record over the median of the last tenth.
        rate_share: The last learning rate over the largest.
        validation_best: The step at which the validation loss was lowest.
        validation_rise: The last tenth's mean validation loss less the lowest, over the lowest.
        losses: The loss, thinned to some hundreds of means of neighbours: pairs of step and value.
        gradients: The norm of the gradient, likewise.
    """

    first: float
    last: float
    pace: Estimate
    improved: float | None
    not_finite: float | None = None
    gradient_peak: float | None = None
    rate_share: float | None = None
    validation_best: float | None = None
    validation_rise: float | None = None
    losses: tuple[tuple[float, float], ...] = ()
    gradients: tuple[tuple[float, float], ...] = ()
