"""What was measured, in words and formatted numbers; the terminal and the page only lay it out."""

import math
from dataclasses import dataclass

from unstuck.estimate import Estimate
from unstuck.landscape.ascent import SAM_RADIUS
from unstuck.landscape.records import Measure, Profile, Survey
from unstuck.report import lines
from unstuck.report.facts import Fact
from unstuck.report.numbers import percent, sampled, significant, with_error
from unstuck.report.sharpness.words import DIRECTIONS_OF, MEASURES, ORDER, STAGES

# From this share of SAM's rise on the slope, not the bend, is what all measures show.
MOSTLY_SLOPE = 0.5

# With weight decay a gradient this much shorter than without is one that the decay holds.
_HELD = 0.1


@dataclass(frozen=True)
class Row:
    """One measure, ready to print."""

    label: str
    value: str
    slope: str
    scale: str
    meaning: str
    cost: str


def headline(survey: Survey) -> str:
    """The answer in one sentence."""
    risen, most = _risen(survey), survey.measure("lambda_max")
    if risen is None and most is None:
        return "How sharp the loss is here is not known: the measures could not be made."
    bend = "" if most is None else f"along the steepest direction it bends by {with_error(most.value)}"
    if risen is None:
        return f"How far a step can raise the loss of {significant(survey.loss.value)} is not known; {bend}."
    value, loss = risen.value, survey.loss.value
    share = f" ({percent(value.value / abs(loss))} of it)" if loss and math.isfinite(value.value) else ""
    bend = f"; {bend}" if bend else ""
    rise = f"{with_error(value)}{share}{bend}"
    return f"A step of length {SAM_RADIUS:g} can raise the loss of {significant(loss)} by {rise}."


def _risen(survey: Survey) -> Measure | None:
    """The highest rise that was found: by several ascent steps, or by one where there was no time for more."""
    return survey.measure("sam_steps") or survey.measure("sam")


def slope_share(survey: Survey) -> float | None:
    """The share of SAM's rise that a straight line with the gradient's slope has; None where nothing surely rises."""
    risen = _risen(survey)
    if risen is None or risen.slope is None or not risen.value.surely_above(0.0):
        return None
    return min(max(risen.slope / risen.value.value, 0.0), 1.0)


def standing(survey: Survey) -> str:
    """Whether the measures describe a minimum."""
    share, gradient = slope_share(survey), survey.gradient
    if _risen(survey) is None:
        return "Whether there is a slope here was not measured."
    if share is None:
        return "Whether there is a slope here is not resolved: SAM's rise is not surely above zero."
    if share < MOSTLY_SLOPE:
        return (
            f"Of that rise the slope explains {percent(share, 2)}; the rest is curvature, as it should be for the "
            "measures to describe a minimum (`unstuck diagnose` says whether it is one)."
        )
    text = (
        f"Of that rise the slope alone explains {percent(share, 2)}: this is no minimum of the loss itself, and the "
        "measures describe a slope more than they do a valley."
    )
    if gradient.decayed is not None and gradient.decayed < _HELD * gradient.norm:
        text += " Weight decay, which the measures leave out, is what holds the run here."
    return text


def place(survey: Survey) -> tuple[Fact, ...]:
    """Where the weights are."""
    gradient = survey.gradient
    facts = [Fact("training loss", with_error(survey.loss), "without weight decay")]
    if survey.validation is not None:
        gap = Estimate(
            survey.validation.value - survey.loss.value,
            math.hypot(survey.validation.stderr, survey.loss.stderr),
        )
        facts.append(
            Fact("validation loss", with_error(survey.validation), f"{with_error(gap)} above training")
        )
    noise = f"of which the sample's own scatter explains {significant(gradient.noise, 2)}"
    facts.append(
        Fact("norm of the gradient", significant(gradient.norm), noise if gradient.noise > 0.0 else "")
    )
    if gradient.decayed is not None:
        facts.append(
            Fact("with weight decay", significant(gradient.decayed), "nil where the run comes to rest")
        )
    return (*facts, Fact("length of the weights", significant(survey.length)))


def rows(survey: Survey) -> tuple[Row, ...]:
    """Every measure."""
    found = [survey.measure(name) for name in ORDER]
    return tuple(_row(measure) for measure in found if measure is not None)


def _row(measure: Measure) -> Row:
    words = MEASURES[measure.name]
    value = measure.value.value
    share = None if measure.slope is None or not value else measure.slope / value
    known = share is not None and measure.value.surely_above(0.0) and math.isfinite(value)
    return Row(
        label=words.label,
        value=with_error(measure.value) + (words.unit if math.isfinite(value) else ""),
        slope=percent(min(max(share, 0.0), 1.0), 2) if known and share is not None else "",
        scale="stays" if words.blind else "changes",
        meaning=words.meaning,
        cost=significant(measure.gradients, 2),
    )


def directions(survey: Survey) -> tuple[tuple[str, str, str], ...]:
    """Every direction: what it is, how strongly the loss bends, and how far until it has risen."""
    return tuple((DIRECTIONS_OF[p.name], with_error(p.curvature), _width(p)) for p in survey.profiles)


def _width(profile: Profile) -> str:
    return (
        f"over {significant(profile.distances[-1])}" if profile.width is None else significant(profile.width)
    )


def sample_line(survey: Survey) -> str:
    """The data that everything rests on, in one sentence."""
    sample = survey.sample
    text = sampled(sample.examples, sample.batches, sample.draws)
    if sample.exhaustive:
        text += ": all the data there is, so nothing is left to sampling error"
    else:
        text += (
            "; found on one half of them, judged on the other, each \u00b1 one standard error over batches"
        )
    if sample.stochastic:
        text += "; the loss itself is random (dropout or the like), replayed with fixed seeds"
    return f"{text}; the model in {survey.subject.mode} mode"


def interpolated(survey: Survey) -> tuple[str, ...]:
    """Where not all heights were evaluated, and how it is known what they are: a sentence for each direction."""
    return tuple(
        f"{DIRECTIONS_OF[profile.name]}: evaluated at {profile.evaluated} of {len(profile.distances)} places, each "
        f"but the ends predicted by the others to {percent(profile.interpolation.off)} of the height of the line; "
        f"between them the loss counts as known to {significant(profile.interpolation.error, 2)}"
        for profile in survey.profiles
        if profile.interpolation is not None
    )


def left_out(survey: Survey) -> tuple[str, ...]:
    """What could not be measured, and why."""
    labels = {**STAGES, **{name: words.label for name, words in MEASURES.items()}}
    return lines.left_out(survey.omitted, labels)
