"""How the loss bends along all directions: plain numbers, each with its error, no tensors."""

import math
from dataclasses import dataclass, replace

from unstuck.curvature.records import Eigenvalue, Spectrum
from unstuck.estimate import Estimate
from unstuck.measurements.records import Cost, Omission, Sample, Subject


@dataclass(frozen=True)
class Bin:
    """Which share of all eigenvalues lies in an interval."""

    low: float
    high: float
    share: Estimate


@dataclass(frozen=True)
class Spread:
    """The eigenvalues of one operator.

    Attributes:
        name: "hessian", or "metric": in the optimizer's own metric.
        spectrum: Both ends, certificates, shares, trace; of the half of the sample that finds.
        lowest: As many of the smallest as were asked for, ascending, each with its residual.
        highest: As many of the largest, descending.
        judged_lowest: Curvature along the lowest vector, on data it was not found on.
        judged_highest: Along the highest one.
        bins: The density, in bins that are linear around zero and logarithmic further out.
        starts: Random starts that it is the mean of; its errors are their scatter.
        gradients: What it cost, in gradients over the sample.
    """

    name: str
    spectrum: Spectrum
    lowest: tuple[Eigenvalue, ...]
    highest: tuple[Eigenvalue, ...]
    judged_lowest: Estimate
    judged_highest: Estimate
    bins: tuple[Bin, ...]
    starts: int
    gradients: float


@dataclass(frozen=True)
class Block:
    """The curvature of one layer by itself, the others held fixed.

    Attributes:
        name: Of the module.
        parameters: That it has.
        lowest: The smallest eigenvalue, with its residual; of the half of the sample that finds.
        highest: The largest.
        judged_lowest: Curvature along the vector of the lowest, on data it was not found on.
        judged_highest: Along that of the highest.
        trace: The sum of all of them.
        products: Hessian-vector products that it took.
        settled: Whether the ends are known as well as was asked.
    """

    name: str
    parameters: int
    lowest: Eigenvalue
    highest: Eigenvalue
    judged_lowest: Estimate
    judged_highest: Estimate
    trace: Estimate
    products: int
    settled: bool

    @property
    def lambda_min(self) -> Estimate:
        """The smallest eigenvalue as it was judged, with the error of sampling and that of finding it."""
        return _with_residual(self.judged_lowest, self.lowest)

    @property
    def lambda_max(self) -> Estimate:
        """The largest one."""
        return _with_residual(self.judged_highest, self.highest)


@dataclass(frozen=True)
class Bending:
    """Everything that is known of the curvature at a point.

    Attributes:
        subject: What was looked at.
        sample: The data it rests on.
        loss: At the point, with the optimizer's weight decay.
        gradient: Norm of its gradient over the sample.
        spreads: That of the Hessian, and that in the metric of an adaptive optimizer.
        rate: Of an optimizer that moves all parameters at one rate, which makes its metric a multiple of the Hessian.
        limit: Above which the largest eigenvalue, in the metric or times the rate, makes the steps unstable.
        omitted: What could not be measured, and why.
        cost: What all of it took.
        complete: Whether all that was asked for is settled.
        blocks: The curvature of each layer, if that was asked for.
    """

    subject: Subject
    sample: Sample
    loss: Estimate
    gradient: float
    spreads: tuple[Spread, ...]
    rate: float | None
    limit: float | None
    omitted: tuple[Omission, ...]
    cost: Cost
    complete: bool
    blocks: tuple[Block, ...] = ()

    def spread(self, name: str) -> Spread | None:
        """The spread of that name, if it is known."""
        return next((each for each in self.spreads if each.name == name), None)


def _with_residual(judged: Estimate, found: Eigenvalue) -> Estimate:
    return replace(judged, stderr=math.hypot(judged.stderr, found.residual))
