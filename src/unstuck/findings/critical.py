"""Critical points: a saddle, a minimum, a maximum, a plateau."""

from unstuck.estimate import Estimate
from unstuck.findings.phrases import MOST, estimated, figure, percent, share, surely_negative
from unstuck.findings.point import (
    TOLERANCE,
    curvature_gain,
    first_order_gain,
    is_flat,
    leads_down,
    leaps_along_flat_ground,
    shakes_loose,
)
from unstuck.findings.progress import improves
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Point
from unstuck.measurements.records import Measurements

# Where decay takes a hundredth of each weight at each step, what is learnt is forgotten within a hundred: sooner than
# any usual average of the gradients, and some hundred times sooner than with usual rates and coefficients.
FORGETTING = 0.01

# A certificate that leaves less open than a millionth of the steepest curvature leaves nothing open to a reader.
ROUNDING = 1e-6

# How sure it is that a floor is reached which was searched for on one batch or two.
AT_FLOOR = 0.9

# How sure a saddle is that no eigenvalue shows: the displacement might have leapt over a wall.
HIGHER_ORDER = 0.9


def saddle_point(point: Point, measured: Measurements) -> Finding | None:
    """A critical point with a way down, along negative curvature or where curvature says nothing."""
    shake = measured.route("shake")
    if point.kind is Kind.SADDLE and shakes_loose(measured) and shake:
        return _of_higher_order(measured, shake.gain)
    lowest, gain = measured.slice("lowest"), curvature_gain(measured)
    if lowest is None or gain is None:
        return None
    if point.kind is not Kind.SADDLE:
        return _confined(measured, lowest.eigenvalue, gain)
    return Finding(
        Cause.SADDLE_POINT,
        min(surely_negative(lowest.eigenvalue), surely_negative(-gain)),
        (
            estimated("lambda_min", lowest.eigenvalue),
            estimated("curvature_gain", share(gain, measured)),
            *_slope(measured),
        ),
        "The gradient leads hardly any further, but this is no minimum: along one direction the loss curves "
        f"downwards. Moving along it, and then on, lowered the loss by {percent(gain, measured)}."
        f"{_alike(measured)}",
        _less_decay(measured)
        + "Escape along the eigenvector of the lowest eigenvalue, or break the symmetry that keeps the run here "
        "(identical or zero units); neither a learning rate nor a larger batch will.",
    )


def _confined(measured: Measurements, eigenvalue: Estimate, gain: Estimate) -> Finding | None:
    """Within a symmetric subspace there may be slope, of which the way down across it is independent."""
    if not measured.alike or not leads_down(measured):
        return None
    return Finding(
        Cause.SADDLE_POINT,
        min(surely_negative(eigenvalue), surely_negative(-gain)),
        (estimated("lambda_min", eigenvalue), estimated("curvature_gain", share(gain, measured))),
        "What slope is left lies within a symmetric subspace, and across it the loss curves downwards: moving along "
        f"that direction, and then on, lowered the loss by {percent(gain, measured)}.{_alike(measured)}",
        "Break the symmetry: initialise these weights at random, or displace them; neither a learning rate nor a "
        "larger batch will.",
    )


def _of_higher_order(measured: Measurements, gain: Estimate) -> Finding:
    return Finding(
        Cause.SADDLE_POINT,
        min(HIGHER_ORDER, surely_negative(-gain)),
        (estimated("shake_gain", share(gain, measured)), *_slope(measured)),
        "Gradient and curvature have all but vanished, but this is no minimum: from a small random displacement a "
        f"descent lowered the loss by {percent(gain, measured)}. It is a saddle of higher order, as deep networks "
        "have where all weights are zero.",
        _less_decay(measured)
        + "Initialise the layers whose weights are zero or equal at random; neither a learning rate nor a larger "
        "batch will help.",
    )


def local_minimum(point: Point, measured: Measurements) -> Finding | None:
    """A critical point without a way down."""
    if point.kind not in (Kind.MINIMUM, Kind.DEGENERATE_MINIMUM) or point.certificate is None:
        return None
    if point.loss == point.gradient_norm == 0.0:
        return _nothing_left(measured)
    certificate = point.certificate
    spectrum, owed = measured.spectrum, _owed_to_decay(measured)
    flat = "" if point.kind is Kind.MINIMUM else " Some directions are flat: the minimum is a valley floor."
    return Finding(
        Cause.LOCAL_MINIMUM,
        min(certificate.probability, MOST),
        (
            Evidence("certificate_bound", certificate.bound),
            Evidence("lambda_max", spectrum.lambda_max if spectrum else 0.0),
            *_slope(measured),
        ),
        "No short step lowers the loss: not along the gradient, not corrected for curvature, and no direction curves "
        f"downwards{_but_for(certificate.tolerance)}.{flat}{owed}",
        (_less_decay(measured) or ("Let the weights decay less, if this loss must fall. " if owed else ""))
        + "No optimizer will lower this loss from here: change the model, the regularisation, the data or the "
        "starting point, or accept this loss.",
    )


def _but_for(tolerance: float) -> str:
    """What the certificate leaves open, if that is more than rounding."""
    return f" by more than {tolerance:.2g} of the steepest" if tolerance > ROUNDING else ""


def _nothing_left(measured: Measurements) -> Finding:
    return Finding(
        Cause.LOCAL_MINIMUM,
        MOST,
        (estimated("gradient_norm", Estimate(measured.gradient.norm, 0.0)),),
        "The loss is exactly zero, no example gives a gradient, and wherever it was looked at the loss is no lower: "
        "all that these batches ask for is fulfilled.",
        "Nothing is left to be lowered. If the results do not please, it is the loss that asks for too little: a "
        "larger margin, harder examples or negatives, more data.",
    )


def at_floor(_point: Point, measured: Measurements) -> Finding | None:
    """The loss has come down to what no outputs whatever pass."""
    outputs = measured.outputs
    if outputs is None or not outputs.learnt or improves(measured):
        return None
    floor, blind = outputs.floor or 0.0, outputs.blind or 0.0
    return Finding(
        Cause.LOCAL_MINIMUM,
        AT_FLOOR,
        (Evidence("floor", floor), Evidence("present_loss", outputs.loss), Evidence("constant_loss", blind)),
        f"No outputs whatever bring the loss below {floor:.5g}, as where targets are smoothed or soft, and it is "
        f"{outputs.loss:.5g}. Of what telling the examples apart can gain (one output for all has {blind:.5g}), less "
        "than a hundredth is left.",
        "Nothing worth having is left to be lowered: stop, or go by a measure without such a floor, as the accuracy "
        "or the divergence from the targets.",
    )


def local_maximum(point: Point, measured: Measurements) -> Finding | None:
    """A critical point where every way is down."""
    spectrum = measured.spectrum
    if point.kind is not Kind.MAXIMUM or spectrum is None:
        return None
    return Finding(
        Cause.LOCAL_MAXIMUM,
        min(spectrum.ceiling.probability, MOST),
        (Evidence("lambda_max", spectrum.lambda_max), *_slope(measured)),
        "The gradient has vanished and the loss curves downwards in every direction: this is the top of a hill. "
        "Any step away from here lowers the loss.",
        "Move a little in any direction, and check the sign of the loss.",
    )


def plateau(point: Point, measured: Measurements) -> Finding | None:
    """No slope and no curvature to speak of, or a gradient that curvature cannot reach."""
    if point.kind not in (Kind.PLATEAU, Kind.GRADIENT_FLAT) or at_floor(point, measured):
        return None
    gradient, spectrum = measured.gradient, measured.spectrum
    radius = spectrum.radius if spectrum else 0.0
    return Finding(
        Cause.PLATEAU,
        0.9,
        (
            estimated("gradient_norm", Estimate(gradient.norm, gradient.noise)),
            Evidence("largest_curvature", radius),
            *([Evidence("flatness", gradient.flatness)] if gradient.flatness is not None else []),
        ),
        f"{_why_flat(point, measured)} The run stands on a plateau.",
        _less_decay(measured)
        + "Look for saturated or dead units and for an initialisation that is too small or too large; "
        "momentum or a fresh initialisation gets off a plateau, patience seldom does.",
    )


def _why_flat(point: Point, measured: Measurements) -> str:
    spectrum = measured.spectrum
    if point.kind is Kind.GRADIENT_FLAT:
        return "The gradient is not zero, but it lies where the curvature is zero, and following it leads nowhere."
    if spectrum is None or is_flat(measured, spectrum):
        return (
            "Gradient and curvature are both negligible: moving by the whole length of the weights would hardly "
            "change the loss."
        )
    escape = measured.route("escape")
    if escape is not None and leaps_along_flat_ground(measured, spectrum):
        return (
            "Most directions are flat, and nothing leads down from here: only a leap along them, and a descent from "
            f"there, gets lower (by {percent(escape.gain, measured)}, at a distance of {figure(escape.distance)})."
        )
    return (
        "Neither the gradient nor the curvature leads down: following the one, or a direction in which the loss "
        f"curves downwards (by {spectrum.lambda_min:.2g}, where the steepest is {spectrum.lambda_max:.2g}), gains "
        "next to nothing."
    )


def _alike(measured: Measurements) -> str:
    """What keeps the gradient from leaving a symmetric subspace."""
    if not measured.alike:
        return ""
    worst = max(measured.alike, key=lambda parameter: parameter.copies)
    if worst.weight == worst.gradient == 0.0:
        return (
            f" All numbers of `{worst.name}` are zero, and so is the gradient that comes to them, for what they are "
            "multiplied with is zero, too: no step along gradients ever changes that."
        )
    return (
        f" {100 * worst.copies:.3g} % of the units of `{worst.name}` are copies of each other: with the same weights "
        "and the same gradients they stay so at every step, and do the work of one."
    )


def _less_decay(measured: Measurements) -> str:
    """What comes before any other advice where weight decay undoes what is learnt."""
    if measured.subject.shrink < FORGETTING:
        return ""
    return f"Let the weights decay less, of which each step takes {100 * measured.subject.shrink:.2g} %. "


def _owed_to_decay(measured: Measurements) -> str:
    """Whether a minimum of the loss with weight decay is none without it: then decay is what holds the run."""
    pull, spectrum = measured.subject.pull, measured.spectrum
    if not pull or spectrum is None:
        return ""
    without = spectrum.lambda_min - pull
    if not without < -max(TOLERANCE, 3.0 * spectrum.noise) * spectrum.radius:
        return ""
    return (
        f" Weight decay makes it a minimum: it adds {pull:.3g} to every curvature, and without it there is one of "
        f"{without:.3g}, which leads down."
    )


CHECKS = (saddle_point, local_minimum, at_floor, local_maximum, plateau)


def _slope(measured: Measurements) -> tuple[Evidence, ...]:
    slope = first_order_gain(measured)
    return (estimated("slope_gain", share(slope, measured)),) if slope else ()
