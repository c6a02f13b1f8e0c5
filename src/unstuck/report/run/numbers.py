"""How a run stands, in numbers: each with its unit, and what it says."""

import math

from unstuck.estimate import Estimate
from unstuck.findings.live.logged import MOST_LOST, STALE
from unstuck.findings.live.steps import NOISY
from unstuck.report.facts import Fact
from unstuck.report.numbers import TIMES, count, percent, significant, with_error
from unstuck.watching.files.recorded import Course, Glance, Now, Scale

# Successive gradients that point against each other: in steep directions each step overshoots the bottom. Pure noise
# has a cosine of 0; at a noise floor it is slightly negative, by half the product of rate and curvature.
BOUNCES = -0.3

# Where a gradient points like the one before it: all but the same way.
_SAME_WAY = 0.5

# With steps of rate times lambda_max above 2 gradient descent overshoots further each time.
STABLE = 2.0

# The usual size of an update over that of the weights, as people go by when they choose a rate.
USUAL = "1e-3"

# A smaller share of parameters that a step leaves unchanged is no news.
_NEWS = 0.01

# A rate that changes by less than this share is constant.
_CONSTANT = 1e-6


def present(course: Course) -> tuple[Fact, ...]:
    """All that is known of the end of the record."""
    now = course.now
    facts = (
        *_loss(course),
        *_rate(course),
        _fact("gradient norm", now.gradient_norm, f"\u2016g\u2016, {_samples(now)}"),
        _fact("update over weights", now.ratio, f"of one step; about {USUAL} is usual"),
        _fact("successive gradients", now.gradient_cosine, _turns(now.gradient_cosine)),
        _fact("step downhill", now.descent_cosine, "cosine of step and negative gradient; 1: straight down"),
        _fact(
            "overshoot",
            now.overshoot,
            "slope where a step ends over where it began: 0 at the bottom, 1 as far up",
        ),
        noise_fact(now.noise),
        *_sigma(now),
        *_unchanged(now),
        *_curvature(course),
        _fact("speed", now.steps_per_second, "over the last tenth of the run", " steps/s"),
        cost_fact(course),
    )
    return tuple(fact for fact in facts if fact is not None)


def varies(course: Course) -> bool:
    """Whether the learning rate is known and changed."""
    rates = [part.rate for part in course.curve if part.rate is not None]
    return bool(rates) and max(rates) - min(rates) > _CONSTANT * max(map(abs, rates))


def is_adaptive(course: Course) -> bool:
    """Whether the optimizer divides by a second moment, so that rate times curvature does not bound its steps."""
    return any(sample.sigma is not None for sample in course.samples)


def is_rounded(course: Course) -> bool:
    """Whether steps leave a share of the parameters as they are that is worth a figure."""
    return any(sample.unchanged is not None and sample.unchanged > _NEWS for sample in course.samples)


def stability(course: Course, look: Glance) -> float | None:
    """Rate times highest curvature, where that says something."""
    if look.rate is None or look.lambda_max is None or is_adaptive(course):
        return None
    return look.rate * look.lambda_max.value


def noise_words(scale: Scale) -> str:
    """Write the noise scale: with its error, or as a lower bound."""
    return f"over {significant(scale.at_least, 2)}" if scale.value is None else with_error(scale.value)


def noise_fact(scale: Scale | None) -> Fact | None:
    """The noise scale in batches."""
    if scale is None:
        return None
    over = f"(over {count(scale.count, 'sample')})"
    if scale.value is None:
        said = f"the gradient cannot be told from noise {over}"
    elif scale.value.value > NOISY:
        said = f"steps are mostly noise; of so many batches half would be {over}"
    else:
        said = f"a batch shows the way {over}"
    return Fact("noise scale", f"{noise_words(scale)} batches", said)


def cost_fact(course: Course) -> Fact:
    """What it cost to record: the part of it that is measured."""
    samples = count(sum(sample.count for sample in course.samples), "sample")
    share = course.cost / course.seconds if course.seconds > 0.0 else 0.0
    looks = count(len(course.looks), "look")
    return Fact("cost of recording", f"{percent(share, 2)} of the time", f"{samples}, {looks}")


def _samples(now: Now) -> str:
    return f"median of the last {count(now.samples, 'sample')}"


def _fact(label: str, value: float | None, meaning: str, unit: str = "") -> Fact | None:
    return None if value is None else Fact(label, f"{significant(value)}{unit}", meaning)


def _loss(course: Course) -> tuple[Fact, ...]:
    now = course.now
    if now.loss is None:
        lost = course.curve[-1].missing > 0
        return (Fact("loss", "not a number", f"the last {count(now.window, 'step')}"),) if lost else ()
    facts = (Fact("loss", significant(now.loss, 4), f"mean of the last {count(now.window, 'step')}"),)
    if now.lowest is None or now.lowest_step is None or now.lowest >= now.loss:
        return facts
    mean = f"mean of {now.window} steps up to step {now.lowest_step:,}"
    return (*facts, Fact("lowest loss", significant(now.lowest, 4), mean))


def _rate(course: Course) -> tuple[Fact, ...]:
    if course.now.rate is None:
        return ()
    several = [
        _short(group.rates[-1]) for group in course.groups if group.rates and group.rates[-1] is not None
    ]
    said = "changes during the run" if varies(course) else "constant"
    if len(several) > 1:
        return (Fact("learning rate", ", ".join(several), f"of the {len(several)} parameter groups"),)
    return (Fact("learning rate", _short(course.now.rate), said),)


def _short(rate: float) -> str:
    """A rate is chosen, not measured: no zeros at its end."""
    return f"{rate:.3g}"


def _turns(cosine: float | None) -> str:
    if cosine is None:
        return ""
    if cosine < BOUNCES:
        return "cosine: the steps bounce from wall to wall"
    if cosine > _SAME_WAY:
        return "cosine: the steps go one way"
    return "cosine: about 0 is usual, they have little in common"


def _sigma(now: Now) -> tuple[Fact, ...]:
    if now.sigma_ratio is None:
        return ()
    stale = not 1.0 / STALE < now.sigma_ratio < STALE
    said = (
        "far from 1: sigma describes another gradient"
        if stale
        else "near 1: sigma describes the present gradient"
    )
    return (Fact("sigma over gradient", f"{significant(now.sigma_ratio)}{TIMES}", said),)


def _unchanged(now: Now) -> tuple[Fact, ...]:
    if now.unchanged is None:
        return ()
    lost = (
        "most of each update is lost to rounding"
        if now.unchanged > MOST_LOST
        else "that a step leaves as they are"
    )
    return (Fact("parameters unchanged", percent(now.unchanged), lost),)


def _curvature(course: Course) -> tuple[Fact, ...]:
    if not course.looks:
        return ()
    look = course.looks[-1]
    where = f"of one batch at step {look.step:,}; the error is the residual"
    facts = [
        Fact(label, _residual(value), where)
        for label, value in (("highest curvature", look.lambda_max), ("lowest curvature", look.lambda_min))
        if value is not None
    ]
    product = stability(course, look)
    if product is not None:
        said = "stable below 2 without momentum"
        facts.append(Fact("rate times highest", significant(product), said))
    return tuple(facts)


def _residual(value: Estimate) -> str:
    return (
        with_error(Estimate(value.value, value.stderr)) if math.isfinite(value.value) else significant(None)
    )
