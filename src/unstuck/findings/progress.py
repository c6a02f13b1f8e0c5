"""Does going on as before lead anywhere, and would anything else that was tried lead much further?"""

from unstuck.estimate import Estimate
from unstuck.findings.phrases import figure, of_what, percent
from unstuck.measurements.records import Arm, Measurements
from unstuck.measurements.records.continuations import descending

# A run that e-folds its loss within ten thousand steps is on its way: the lecture's "100 000 updates are not
# enough" (S16) is ten times slower.
HEALTHY_PACE = 1e-4

# Or within two hundred passes over the data, however many steps those are.
HEALTHY_PASS = 0.005

# What a single curvature-corrected step gains is a few dozen steps away for a run in good health (20 to 100,
# measured on ten networks), thousands in a valley: the run must get there within so many steps or passes.
HORIZON, HORIZON_PASSES = 500.0, 20.0

# A decrease is negligible below this share of the loss. Twenty Hessian-vector products find what a first-order
# method needs hundreds of steps for; where even they gain less than a hundredth, going on is pointless.
NEGLIGIBLE = 0.01

# Slow or not, a run that gains a third of what the best change gains goes as fast as can be expected, if that is
# anything at all.
KEEPING_UP = 1.0 / 3.0

# Fewer looks than these in descending order may be so by chance.
LOOKS = 5

# A run that loses half of its loss falls even if its loss jumps about on the way.
MUCH = 0.5

# A run that gains less than this share of the loss while it is watched creeps; more, and it does not, whatever other
# steps would gain.
CREEPS = 0.1

# What gains this share of the best gain gains about as much. Then the remedy is preferred that treats the cause
# found: it changes what is wrong, and others may do so by the way only; and of higher rates the lowest.
ABOUT_EQUAL = 0.75

# Another rate is the better one when it gains this many times more: within that, rates are a matter of taste (a
# sweep by factors of 3 would not tell them apart, and the best rate itself changes as much in the course of a run).
# So is the decay that is left out.
FASTER = 3.0

# A schedule that raises the rate by less on the way is not worth a word.
LED = 1.1

# As sure as two standard errors: whether a run still falls is asked of a few looks at a noisy curve.
SIGMAS = 2.0


def going_on(measured: Measurements) -> Arm | None:
    """The run continued as it is, if it was."""
    return measured.continuations.going_on if measured.continuations else None


def falls(measured: Measurements) -> bool:
    """Whether the loss goes on falling beyond doubt: below the present one, and ever further below."""
    arm = going_on(measured)
    if arm is None or not arm.gain.surely_above(0.0, sigmas=SIGMAS):
        return False
    steadily = (
        arm.trend.surely_above(0.0, sigmas=SIGMAS)
        or _pass_by_pass(arm)
        or _without_a_rise(arm)
        or _has_fallen(arm, measured)
    )
    return steadily or (arm.gain.surely_above(MUCH * measured.scale) and _ever_lower(arm))


def _pass_by_pass(arm: Arm) -> bool:
    """Whether the batches' own losses are lower in the last pass than in the first, batch by batch."""
    return arm.paired is not None and arm.paired.surely_above(0.0)


def _has_fallen(arm: Arm, measured: Measurements) -> bool:
    """Whether the record says that the loss has been falling until now, where the next steps do not contradict it."""
    past = measured.past
    return past is not None and past.pace.surely_above(0.0) and arm.trend.value > 0.0


def _without_a_rise(arm: Arm) -> bool:
    """Whether each look is below the one before: of six in random order, once in 720 times."""
    return len(arm.losses) > LOOKS and descending(arm.losses)


def _ever_lower(arm: Arm) -> bool:
    """Whether each look of the last half is below each one before."""
    half = len(arm.losses) // 2 + 1
    return len(arm.losses) > LOOKS and max(arm.losses[half:]) < min(arm.losses[:half])


def creeps(measured: Measurements) -> bool:
    """Whether going on gains little, if anything."""
    arm = going_on(measured)
    return arm is not None and arm.gain.value <= CREEPS * measured.scale


def improves(measured: Measurements) -> bool:
    """Whether the run goes on falling at a pace that leads somewhere, or as fast as anything that was tried."""
    arm, found = going_on(measured), measured.continuations
    if arm is None or found is None or not falls(measured):
        return False
    # From the middle of the first half to the middle of the last there is half of the way.
    steps, passes = (max(length, 1e-12) for length in (arm.steps, found.epochs))
    pace, a_pass = 2.0 * arm.trend.value / steps, 2.0 * arm.trend.value / passes
    if pace > HEALTHY_PACE * measured.scale or a_pass > HEALTHY_PASS * measured.scale:
        routes = [measured.route(name) for name in ("gradient", "krylov")]
        there = max((route.slope for route in routes if route), default=0.0)
        shrinks = max(arm.shrunk, 0.0)  # of which the routes have their part too
        return there < max(HORIZON * (pace + shrinks / steps), HORIZON_PASSES * (a_pass + shrinks / passes))
    return arm.descent.value > max(KEEPING_UP * best_change(measured).value, NEGLIGIBLE * measured.scale)


def undoes(measured: Measurements) -> bool:
    """Whether weight decay undoes what the steps learn: without it a run that creeps gains several times more."""
    found = measured.forgetting
    if found is None or not creeps(measured):
        return False
    own = max(found.present_gain.value, 0.0)
    much = found.fresh_gain.surely_above(max(NEGLIGIBLE * measured.scale, FASTER * own))
    return much and found.extra.surely_above(0.0)


def best_change(measured: Measurements, *, line: bool = True) -> Estimate:
    """The largest gain of any change of the steps that was tried, with or without a line search along g."""
    arms = measured.continuations.arms[1:] if measured.continuations else ()
    routes = [measured.route("gradient")] if line else []
    gains = [*(arm.descent for arm in arms), *(route.gain for route in routes if route)]
    return max(gains, key=lambda gain: gain.value, default=Estimate(0.0, 0.0))


def ahead(measured: Measurements) -> str:
    """Say what going on gains, and where the schedule leads meanwhile."""
    arm = going_on(measured)
    if arm is None:
        return "what going on gains was not measured."
    led = f", over which the schedule raises the learning rate {figure(arm.led)} times,"
    steps = f"{arm.steps} steps{led if arm.led > LED else ''}"
    shrinks = f" (what weight decay adds to it falls by {percent(Estimate(arm.shrunk, 0.0), measured)})"
    beside = shrinks if arm.shrunk > NEGLIGIBLE * measured.scale else ""
    if arm.gain.value < 0.0:
        return f"in the next {steps} the loss rises by {percent(-arm.gain, measured)}{beside}."
    return f"the next {steps} gain {percent(arm.gain, measured)} of {of_what(measured)}{beside}."
