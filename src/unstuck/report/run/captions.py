"""What each figure of a run teaches, in two or three sentences."""

from unstuck.report.run.numbers import is_adaptive, is_rounded, stability
from unstuck.watching.files.recorded import Course, Recorded

CAPTIONS: dict[str, str] = {
    "course": (
        "Stuck is not the same as a small gradient: where the loss stands still while the gradient norm does not "
        "fall, the point bounces or wanders and is at no critical point. Only where both are flat, and the norm is "
        "near zero, it may be one."
    ),
    "course and events": (
        " Where the loss stood still is shaded; the numbers are those of the list below, point at one to read it."
    ),
    "updates": (
        "Length of one update over the length of the weights it changes. About a thousandth is usual; a layer that "
        "is far darker than the others hardly learns, one that is far brighter is thrown about."
    ),
    "gradients": (
        "The first layer is on top. Colours that darken by several powers of ten on the way up mean that the "
        "gradient vanishes before it reaches the input; brighter and brighter ones, that it explodes."
    ),
    "curvature": (
        "How strongly the loss of one batch bends along its steepest and its most downward direction; the bars say "
        "within which reach an eigenvalue lies. A lowest one that stays below zero on other batches (diamonds) is a "
        "way down that the gradient may not show."
    ),
    "curvature and rate": (
        " Below, the learning rate times the highest: plain gradient descent is unstable above the dotted line."
    ),
    "angles": (
        "Successive gradients that point against each other, below the dotted line, are steps that bounce between "
        "the walls of a valley; around zero they have little in common, near one the steps creep along one slope. "
        "The step itself follows the negative gradient less closely under momentum or Adam."
    ),
    "overshoot": (
        "How the loss runs where a step ends, over how it fell where the step began: at minus one it falls as "
        "before, and the step could have been far longer; at zero the step ends at the bottom; at one, as high on "
        "the other side. Single points scatter, since the two slopes come from two batches: what counts is their "
        "mean. Above the dotted line steps are too large."
    ),
    "noise": (
        "With a batch as many times larger, half of a step would be noise; below the dotted line batches are large "
        "enough as they are. A triangle is a lower bound: there the gradient cannot be told from noise at all."
    ),
    "sigma": (
        "Adaptive optimizers divide each step by sigma, a running size of past gradients: far above the dotted line "
        "at one the steps are too short for the present gradient, far below too long."
    ),
    "unchanged": "An update below half of a weight's last digit is lost to rounding.",
    "pace": (
        "Steps per second over stretches of the run. A dip is something that was waited for: data, an evaluation, a "
        "checkpoint, or another process."
    ),
}


def caption(name: str, recorded: Recorded, course: Course) -> str:
    """What a figure of an optimizer teaches, about what is in it."""
    if name == "course" and recorded.told(course.number):
        return CAPTIONS[name] + CAPTIONS["course and events"]
    if name == "curvature" and any(stability(course, look) is not None for look in course.looks):
        return CAPTIONS[name] + CAPTIONS["curvature and rate"]
    if name == "sigma":
        parts = [CAPTIONS["sigma"]] if is_adaptive(course) else []
        parts += [CAPTIONS["unchanged"]] if is_rounded(course) else []
        return " ".join(parts)
    return CAPTIONS[name]
