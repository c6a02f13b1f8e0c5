"""What kind of point is this? Judged by the decrease in reach and by curvature, never by the size of g alone."""

import math
from dataclasses import replace

from unstuck.curvature.records import Spectrum
from unstuck.estimate import Estimate
from unstuck.findings.progress import NEGLIGIBLE, improves
from unstuck.findings.records import Kind, Point
from unstuck.measurements.records import Measurements, Slice

# Beside a saddle the gradient is never quite zero. What it promises does not count when a descent that begins
# with negative curvature gains this many times more than the same descent without it.
DOMINANT = 3.0

# With nothing below minus this share of the largest curvature a point may be called a minimum.
TOLERANCE = 1e-3

# A certificate that stops right at the tolerance may miss it by rounding.
SLACK = 1.0 + 1e-6

# Root mean square of weights as usual initialisations draw them, 0.02 in transformers, 0.07 behind 64 inputs: where
# weights begin at zero, it is what their length is compared with.
USUAL = 0.05

# ||Hg|| / (||H|| ||g||) below which g lies in the kernel of H; Frye et al. (2021, section 2.3) call a point
# gradient-flat when more than 0.9 of g is out of reach of H, which this is a stricter form of.
KERNEL = 0.01

# Where more than half of all directions are flat, what lies far off along them is no way down from here.
MOSTLY_FLAT = 0.5

# It is remarkable only if the slope, did it go on for the length of the weights, would take this share of the loss.
PROMISING = 0.1


def classify(measured: Measurements) -> Point:
    """Tell the kind of the point, and repeat the numbers that say so."""
    spectrum = measured.spectrum
    return Point(
        kind=kind(measured),
        loss=measured.loss.value,
        gradient_norm=measured.gradient.norm,
        # Where the spectrum itself was not needed, the ends that were met on the way down.
        lambda_min=spectrum.lambda_min if spectrum else measured.gradient.lowest,
        lambda_max=spectrum.lambda_max if spectrum else measured.gradient.steepest,
        minimum_ratio=spectrum.positive.value if spectrum else None,
        certificate=spectrum.floor if spectrum else None,
    )


def kind(measured: Measurements) -> Kind:
    """Tell the kind of the point: the first question that has a sure answer decides.

    Is there descent that the gradient accounts for? Is all curvature negative? Is there negative curvature
    that leads down? Is there no curvature to speak of? Is the gradient out of the curvature's reach? If none
    of these, and nothing lies below the tolerance, it is a minimum.
    """
    slope, spectrum = first_order_gain(measured), measured.spectrum
    if slope is None:
        return Kind.UNDECIDED
    if not _outweighed(measured, slope):
        gains = (slope, *_by_calmer_steps(measured))
        if improves(measured) or any(gain.surely_above(NEGLIGIBLE * measured.scale) for gain in gains):
            return Kind.NOT_CRITICAL
        if not slope.surely_below(NEGLIGIBLE * measured.scale):
            return Kind.UNDECIDED
    return _critical(measured, spectrum) if spectrum else Kind.UNDECIDED


def _critical(measured: Measurements, spectrum: Spectrum) -> Kind:
    if shakes_loose(measured):
        return Kind.SADDLE
    promise = measured.gradient.norm * _reach(measured)
    if _motionless(measured) or (promise < NEGLIGIBLE * measured.scale and is_flat(measured, spectrum)):
        return Kind.DEGENERATE_MINIMUM if _all_got(measured) else Kind.PLATEAU
    if is_maximum(spectrum) and _falls_away(measured):
        return Kind.MAXIMUM
    if leads_down(measured) and _leads_far(measured):
        return Kind.SADDLE
    if _learnt_by_heart(measured):
        return Kind.UNDECIDED
    return _without_way_down(measured, spectrum)


def first_order_gain(measured: Measurements) -> Estimate | None:
    """The largest gain that the gradient itself accounts for, along g or in its Krylov space; None if unknown."""
    routes = [measured.route(name) for name in ("gradient", "krylov")]
    gains = [replace(route.gain, value=route.slope) for route in routes if route is not None]
    return max(gains, key=lambda gain: gain.value) if len(gains) == len(routes) else None


def _by_calmer_steps(measured: Measurements) -> list[Estimate]:
    """What steps no longer than the present ones gain; longer ones might leap off a saddle."""
    arms = measured.continuations.arms[1:] if measured.continuations else ()
    return [arm.gain for arm in arms if arm.factor <= 1.0]


def curvature_gain(measured: Measurements) -> Estimate | None:
    """The largest gain that is owed to negative curvature: along it, or by a descent behind it less one without."""
    curvature, escape, control = (measured.route(name) for name in ("curvature", "escape", "control"))
    gains = [curvature.gain] if curvature else []
    if escape and control:
        stderr = math.hypot(escape.gain.stderr, control.gain.stderr)
        owed = escape.gain.value - max(control.gain.value, 0.0)
        gains.append(Estimate(owed, stderr, escape.gain.degrees))
    elif escape:
        gains.append(escape.gain)
    return max(gains, key=lambda gain: gain.value, default=None)


def leads_down(measured: Measurements) -> bool:
    """Whether the curvature is negative beyond doubt on data it was not found on, and the loss falls along it."""
    lowest, route = measured.slice("lowest"), measured.route("curvature")
    if lowest is None or route is None or measured.spectrum is None:
        return False
    doubt = 3.0 * measured.spectrum.noise * measured.spectrum.radius
    return lowest.eigenvalue.surely_below(-doubt) and route.gain.surely_above(0.0)


def shakes_loose(measured: Measurements) -> bool:
    """Whether a descent leads down from beside the point, and not from the point: a saddle of higher order."""
    shake, control = measured.route("shake"), measured.route("control")
    if shake is None or control is None or leads_down(measured):
        return False
    return shake.gain.surely_above(max(NEGLIGIBLE * measured.scale, DOMINANT * control.gain.value))


def is_maximum(spectrum: Spectrum) -> bool:
    """Whether every direction curves down: the certificate of the upper end lies below zero."""
    return spectrum.lambda_max < 0.0 and spectrum.ceiling.bound < 0.0


def _falls_away(measured: Measurements) -> bool:
    """Whether the loss is seen to fall: curvature of a loss that rounds to one number everywhere is rounding too."""
    route = measured.route("curvature")
    return route is not None and route.gain.surely_above(0.0)


def _motionless(measured: Measurements) -> bool:
    """Whether the loss was one and the same number, to the last bit, wherever it was looked at."""
    away = [route for route in measured.routes if route.distance > 0.0]
    looks = [loss for part in (*measured.routes, *measured.slices) for loss in part.losses]
    return bool(away) and all(route.gain.value == 0.0 for route in away) and len(set(looks)) <= 1


def is_flat(measured: Measurements, spectrum: Spectrum) -> bool:
    """Whether moving by the parameters' own length along the steepest direction would hardly matter.

    Not by the curvature alone: that of an L1 loss is zero even at the bottom of its kinks.
    """
    if any(_kinked(slice_, measured.scale) for slice_ in measured.slices):
        return False
    # A run that ended early may not have met the steepest direction, but the certificates bound it.
    steepest = max(spectrum.radius, -spectrum.floor.bound, spectrum.ceiling.bound)
    reach = _reach(measured)
    return 0.5 * steepest * reach * reach < NEGLIGIBLE * measured.scale


def _reach(measured: Measurements) -> float:
    """The length of the weights, or of such weights as they might have begun with."""
    return max(measured.length, USUAL * math.sqrt(measured.subject.parameters), 1.0)


def _outweighed(measured: Measurements, slope: Estimate) -> bool:
    """Whether what the gradient promises is little beside what negative curvature gains, in a fair comparison."""
    escape, control = measured.route("escape"), measured.route("control")
    if escape is None or control is None or not leads_down(measured):
        return False
    return escape.gain.surely_above(DOMINANT * max(slope.value, control.gain.value, 0.0))


def _leads_far(measured: Measurements) -> bool:
    """Whether negative curvature gains much: on its own, or beside what a descent from the point itself gains."""
    gain, route, control = curvature_gain(measured), measured.route("curvature"), measured.route("control")
    negligible = NEGLIGIBLE * measured.scale
    if gain is None:
        return False
    alone = route is not None and route.gain.surely_above(negligible)
    plain = 0.0 if alone or control is None else control.gain.value
    return gain.surely_above(max(negligible, plain / DOMINANT))


def _leads_nowhere(measured: Measurements) -> bool:
    """Whether nothing that was tried gains: neither negative curvature, nor a longer descent, nor a look around."""
    negligible = NEGLIGIBLE * measured.scale
    gain = curvature_gain(measured)
    descents = [measured.route(name) for name in ("escape", "control")]
    if any(route is not None and route.gain.surely_above(negligible) for route in descents):
        return False
    falls = any(_centre(slice_) - min(slice_.losses) > negligible for slice_ in measured.slices)
    return not falls and (gain is None or gain.surely_below(negligible))


def _kinked(slice_: Slice, scale: float) -> bool:
    """Whether the loss rises right beside the point in proportion to a rise, further off, that matters.

    At the bottom of a kink it does; on a plateau that ends somewhere it does not.
    """
    furthest = max(abs(distance) for distance in slice_.distances)
    beside = min(abs(distance) for distance in slice_.distances if distance)
    pairs = zip(slice_.distances, slice_.losses, strict=True)
    rise = max(loss - _centre(slice_) for distance, loss in pairs if abs(distance) == beside)
    return rise > NEGLIGIBLE * scale * beside / furthest


def _centre(slice_: Slice) -> float:
    return slice_.losses[slice_.distances.index(0.0)]


def _without_way_down(measured: Measurements, spectrum: Spectrum) -> Kind:
    control = measured.route("control")
    if control is not None and control.gain.surely_above(NEGLIGIBLE * measured.scale):
        return Kind.NOT_CRITICAL
    nowhere = _leads_nowhere(measured)
    if (nowhere and is_flat(measured, spectrum)) or leaps_along_flat_ground(measured, spectrum):
        return Kind.PLATEAU
    if nowhere and _gradient_flat(measured):
        return Kind.GRADIENT_FLAT
    if not nowhere or not measured.complete:
        return Kind.UNDECIDED
    if spectrum.lambda_min < -TOLERANCE * spectrum.radius:
        # Curvature that is negative and leads nowhere: neither a minimum nor a way down.
        return Kind.DEGENERATE_MINIMUM if _all_got(measured) else Kind.PLATEAU
    return _minimum(measured, spectrum)


def leaps_along_flat_ground(measured: Measurements, spectrum: Spectrum) -> bool:
    """Whether most directions are flat, and only a leap along them, with no curvature to lead it, gets lower."""
    escape, flat = measured.route("escape"), 1.0 - spectrum.above.value - spectrum.below.value
    mostly = flat - 3.0 * (spectrum.above.stderr + spectrum.below.stderr) > MOSTLY_FLAT
    lower = escape is not None and escape.gain.surely_above(NEGLIGIBLE * measured.scale)
    return measured.complete and mostly and lower and not leads_down(measured)


def _all_got(measured: Measurements) -> bool:
    """Whether the loss is exactly zero, without a slope, rises further off and is nowhere below: as a hinge's is.

    Right at such a kink differences give curvature that is none.
    """
    looks = [loss for slice_ in measured.slices for loss in slice_.losses]
    nothing = measured.loss.value == measured.gradient.norm == 0.0
    return nothing and min(looks, default=0.0) == 0.0 < max(looks, default=0.0)


def _minimum(measured: Measurements, spectrum: Spectrum) -> Kind:
    if spectrum.floor.bound > 0.0:
        return Kind.MINIMUM
    if measured.gradient.norm == spectrum.radius == spectrum.floor.bound == 0.0:
        return Kind.DEGENERATE_MINIMUM  # as where every margin is kept: neither slope nor curvature is left
    if spectrum.radius == 0.0 or spectrum.floor.tolerance > SLACK * TOLERANCE:
        return Kind.UNDECIDED
    flat = 1.0 - spectrum.above.value - spectrum.below.value
    surely = flat > 3.0 * (spectrum.above.stderr + spectrum.below.stderr)
    return Kind.DEGENERATE_MINIMUM if surely else Kind.MINIMUM


def _learnt_by_heart(measured: Measurements) -> bool:
    """Whether descent was found that holds only on the examples it was found on: so few tell of no other either."""
    routes = [measured.route(name) for name in ("gradient", "krylov", "control")]
    return any(
        route is not None and route.found is not None and route.found > NEGLIGIBLE * measured.scale
        for route in routes
    )


def _gradient_flat(measured: Measurements) -> bool:
    gradient = measured.gradient
    promise = gradient.norm * max(measured.length, 1.0)
    return (
        gradient.flatness is not None
        and gradient.flatness < KERNEL
        and promise > PROMISING * measured.scale
        and gradient.norm > 3.0 * gradient.noise
    )
