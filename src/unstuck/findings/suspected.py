"""What a measurement that was cut short speaks for: too little to name a cause, enough to say where to look."""

from unstuck.estimate import Estimate
from unstuck.findings.phrases import figure, gains_of, percent
from unstuck.findings.progress import CREEPS, NEGLIGIBLE, SIGMAS, ahead, going_on
from unstuck.findings.rates import FAR_OFF
from unstuck.findings.records import Cause, Finding
from unstuck.measurements.records import Measurements

# Less than what is named (NAMED in findings/verdict.py): a few batches judge, and no change was tried.
SUSPECTED = 0.4

# The best step along the gradient is so much shorter than the present one where that jumps across a valley: of steps
# that only just overshoot it is half, and of steps in good health it is no fraction at all.
A_FRACTION = 0.1


def suspected(measured: Measurements) -> Finding | None:
    """The cause that going on and the best step along the gradient speak for, where no other rate could be tried."""
    found, line = measured.continuations, measured.route("gradient")
    arm = going_on(measured)
    if found is None or arm is None or len(found.arms) > 1:
        return None
    if _probably(arm.gain) and arm.gain.value > CREEPS * measured.scale:
        return Finding(
            Cause.HEALTHY,
            SUSPECTED,
            gains_of(measured),
            f"The run may well be falling: {ahead(measured)}",
            "Go on, or look again with more time.",
        )
    if arm.gain.value > CREEPS * measured.scale or line is None or line.multiple is None:
        return None
    if not _probably(line.gain) or not line.gain.value > max(NEGLIGIBLE * measured.scale, arm.gain.value):
        return None
    if line.multiple >= FAR_OFF:
        cause, other = Cause.STEP_TOO_SMALL, "ten times"
    elif line.multiple <= A_FRACTION and arm.gain.value <= NEGLIGIBLE * measured.scale:
        cause, other = Cause.STEP_TOO_LARGE, "a tenth of"
    else:
        return None
    return Finding(
        cause,
        SUSPECTED,
        gains_of(measured),
        f"There was no time to try other rates. The best step along the gradient is {figure(line.multiple)} times "
        f"the one that the optimizer takes now, and gains {percent(line.gain, measured)}, while {ahead(measured)}",
        f"Try {other} the learning rate, or look again with more time.",
    )


def _probably(gain: Estimate) -> bool:
    """By two errors of a normal law: a few batches never say it as surely as Student asks."""
    return gain.value > SIGMAS * gain.stderr
