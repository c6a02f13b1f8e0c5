"""Does going on as before lead anywhere, and would anything else that was tried lead much further?"""

from unstuck.estimate import Estimate
from unstuck.measurements.records import Arm, Measurements

# A run that e-folds its loss within ten thousand steps is on its way: the lecture's "100 000 updates are not
# enough" (S16) is ten times slower.
HEALTHY_PACE = 1e-4

# Or within two hundred passes over the data, however many steps those are.
HEALTHY_PASS = 0.005

# Slow or not, a run that gains a third of what the best change gains goes as fast as can be expected.
KEEPING_UP = 1.0 / 3.0

# As sure as two standard errors: whether a run still falls is asked of a few looks at a noisy curve.
SIGMAS = 2.0


def going_on(measured: Measurements) -> Arm | None:
    """The run continued as it is, if it was."""
    return measured.continuations.going_on if measured.continuations else None


def falls(measured: Measurements) -> bool:
    """Whether the loss goes on falling beyond doubt: below the present one, and ever further below."""
    arm = going_on(measured)
    if arm is None:
        return False
    return arm.trend.surely_above(0.0, sigmas=SIGMAS) and arm.gain.surely_above(0.0, sigmas=SIGMAS)


def improves(measured: Measurements) -> bool:
    """Whether the run goes on falling at a pace that leads somewhere, or as fast as anything that was tried."""
    arm, found = going_on(measured), measured.continuations
    if arm is None or found is None or not falls(measured):
        return False
    # From the middle of the first half to the middle of the last there is half of the way.
    pace = 2.0 * arm.trend.value / arm.steps
    a_pass = 2.0 * arm.trend.value / max(found.epochs, 1e-12)
    if pace > HEALTHY_PACE * measured.scale or a_pass > HEALTHY_PASS * measured.scale:
        return True
    return arm.gain.value > KEEPING_UP * max(best_change(measured).value, 0.0)


def best_change(measured: Measurements) -> Estimate:
    """The largest gain of any change of the steps that was tried, a line search along the gradient among them."""
    arms = measured.continuations.arms[1:] if measured.continuations else ()
    routes = [measured.route("gradient")]
    gains = [*(arm.gain for arm in arms), *(route.gain for route in routes if route)]
    return max(gains, key=lambda gain: gain.value, default=Estimate(0.0, 0.0))
