"""What was seen, in words and formatted numbers; the terminal and the page only lay it out."""

import math
import statistics
from dataclasses import dataclass
from itertools import takewhile

from unstuck.estimate import Estimate
from unstuck.landscape.pictures import Plane, View, seen
from unstuck.report import lines
from unstuck.report.facts import Fact
from unstuck.report.numbers import count, percent, sampled, significant, with_error
from unstuck.report.surface.heights import level, lowest, through
from unstuck.report.surface.words import PLANES, SOURCES, STAGES

# Of the distance that the run has come: the weights are elsewhere if they are farther from its end than this.
ELSEWHERE = 1e-3

# A model that is off by less than this share of what it changes by up to there counts as right.
TRUSTED = 0.1


@dataclass(frozen=True)
class Row:
    """One picture, ready to print."""

    label: str
    points: str
    rise: str
    lowest: str
    error: str


def headline(view: View) -> str:
    """The answer in one sentence."""
    parts: list[str] = []
    random = view.plane("random")
    if random is not None and (ends := _ends(random)):
        parts.append(
            f"displaced by their own length along a random direction, the weights have a loss of {ends} instead of "
            f"{significant(view.here)}"
        )
    if view.highest is not None and view.lowest is not None:
        parts.append(
            f"along its steepest direction the loss bends by {with_error(view.highest)}, along the lowest by "
            f"{with_error(view.lowest)}"
        )
    path = view.plane("path")
    if not parts and path is not None and path.path is not None:
        begun, ended = path.path.losses[0], path.path.losses[-1]
        parts.append(f"over its path the loss went from {significant(begun)} to {significant(ended)}")
    if not parts:
        return "Nothing of the loss around the weights could be seen."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def standing(view: View) -> str:
    """Whether lower places were seen, and how far the quadratic model holds."""
    sentences: list[str] = []
    for plane in view.planes:
        found = lowest(plane)
        if found is not None and _below(view, plane, found).surely_below(0.0):
            title = PLANES[plane.name].title
            gain = percent((view.here - found[0]) / abs(view.here)) if view.here else significant(-found[0])
            sentences.append(
                f"{title} there is a lower place: {significant(found[0])}, {gain} below the weights."
            )
    if not sentences and any(plane.evaluated for plane in view.planes):
        sentences.append("No picture has a place that is surely lower than where the weights are.")
    for plane in view.planes:
        if (error := level(plane)) is not None:
            title = PLANES[plane.name].title
            sentences.append(f"{title} all heights are the same, to within {significant(error, 2)}.")
    sentences += path_sentences(view)
    plane = view.plane("hessian")
    if plane is not None and (far := _trusted(view, plane, 0)) is not None:
        sentences.append(
            f"Along the steepest direction the quadratic model is right to {percent(TRUSTED)} up to a distance of "
            f"{significant(far)}."
        )
    return " ".join(sentences)


def path_sentences(view: View) -> list[str]:
    """What the path's plane shows of it, beside what it shows of a path without any aim."""
    plane = view.plane("path")
    if plane is None or plane.path is None:
        return []
    path = plane.path
    # Lorch (2016) draws such paths; Antognini & Sohl-Dickstein (2018) show what a random walk looks like in them.
    steps = count(path.steps[-1] - path.steps[0], "step")
    shown, aimless = percent(sum(path.shares)), percent(sum(path.walk))
    plane_of = (
        f"The plane of the path, that of {SOURCES[path.source]} over {steps}, shows {shown} of its variance; of a "
        f"random walk without any aim it would show {aimless}, and as smooth a curve."
    )
    sentences = [plane_of]
    if path.source == "run" and path.apart > ELSEWHERE * max(
        abs(path.xs[0]), abs(path.ys[0]), path.apart / 2.0
    ):
        sentences.append(
            f"The weights are not where that run ended, but at a distance of {significant(path.apart)} from there."
        )
    return sentences


def place(view: View) -> tuple[Fact, ...]:
    """Where the weights are."""
    facts = [Fact("training loss", with_error(view.loss), "without weight decay")]
    if view.validation is not None:
        facts.append(Fact("validation loss", with_error(view.validation)))
    facts.append(Fact("length of the weights", significant(view.length)))
    if view.highest is not None and view.lowest is not None:
        facts += [
            Fact("λ_max", with_error(view.highest), "curvature along the steepest direction"),
            Fact("λ_min", with_error(view.lowest), "curvature along the lowest direction"),
        ]
    return tuple(facts)


def rows(view: View) -> tuple[Row, ...]:
    """Every picture."""
    return tuple(_row(plane) for plane in view.planes if plane.evaluated)


def _row(plane: Plane) -> Row:
    found = lowest(plane)
    finite = [value for value in seen(plane.training) if math.isfinite(value)]
    errors = [value for value in seen(plane.errors) if math.isfinite(value)]
    return Row(
        label=PLANES[plane.name].title,
        points=grid(plane),
        rise=significant(max(finite)) if finite else "none finite",
        lowest="" if found is None else f"{significant(found[0])} at ({_at(found[1])}, {_at(found[2])})",
        error=_typical(errors),
    )


def _typical(errors: list[float]) -> str:
    """The error of a height's difference to the point's: the median over the places."""
    return significant(statistics.median(errors), 2) if errors else "not known"


def grid(plane: Plane) -> str:
    """How finely it was looked at."""
    side = len(plane.xs)
    if plane.evaluated >= side * side:
        return f"{side} by {side}"
    if plane.interpolation is not None:
        rest = "" if plane.whole == side else f" and part of {side} by {side}"
        return f"{plane.whole} by {plane.whole}{rest}, {plane.evaluated:,} evaluated"
    first = f"{plane.whole} by {plane.whole}, and " if plane.whole else ""
    return f"{first}{plane.evaluated - plane.whole**2} of {side} by {side}"


def _at(value: float) -> str:
    return significant(value, 2)


def _ends(plane: Plane) -> str:
    """The loss where the first axis ends."""
    _, training, _ = through(plane, 0)
    ends = [value for value in (training[0], training[-1]) if value is not None] if training else []
    if not ends:
        return ""
    return " and ".join(dict.fromkeys(significant(value) for value in ends))


def _below(view: View, plane: Plane, found: tuple[float, float, float]) -> Estimate:
    """The difference of a place's loss to that of the weights."""
    error = plane.errors[plane.ys.index(found[2])][plane.xs.index(found[1])]
    judges = view.sample.batches // 2
    degrees = math.inf if view.sample.exhaustive else float(max(judges - 1, 1))
    return Estimate(found[0] - view.here, math.inf if error is None else error, degrees)


def _trusted(view: View, plane: Plane, axis: int) -> float | None:
    """The distance up to which the model, on both sides, is off by little of what it has changed by."""
    quadratic = plane.quadratic
    if quadratic is None:
        return None
    xs, training, _ = through(plane, axis)
    off: dict[float, float] = {}
    for x, loss in zip(xs, training, strict=True):
        if x and loss is not None:
            model = quadratic.at(view.here, *((x, 0.0) if axis == 0 else (0.0, x)))
            change = abs(model - view.here)
            off[abs(x)] = max(off.get(abs(x), 0.0), abs(loss - model) / change if change else math.inf)
    held = list(takewhile(lambda x: off[x] <= TRUSTED, sorted(off)))
    return held[-1] if held else None


def sample_line(view: View) -> str:
    """The data that everything rests on, in one sentence."""
    sample = view.sample
    text = sampled(sample.examples, sample.batches, sample.draws)
    if sample.exhaustive:
        text += ": all the data there is, so nothing is left to sampling error"
    else:
        text += "; eigenvectors found on one half of them, all heights those of the other half"
    if sample.stochastic:
        text += "; the loss itself is random (dropout or the like), replayed with fixed seeds"
    return f"{text}; the model in {view.subject.mode} mode"


def interpolated(view: View) -> tuple[str, ...]:
    """Which heights were not evaluated, and how it is known what they are: a sentence for each picture."""
    return tuple(
        f"{PLANES[plane.name].title}: {_share(plane)} of the heights were not evaluated but lie on a smooth surface "
        f"through the others. At {plane.interpolation.checked} places, where it was least sure of itself and as many "
        f"at random, it was compared with the loss before it was believed, and off by "
        f"{percent(plane.interpolation.off)} of the height of the picture at most; so that such a height counts as "
        f"known to {significant(plane.interpolation.error, 2)}"
        for plane in view.planes
        if plane.interpolation is not None
    )


def _share(plane: Plane) -> str:
    marks = [mark for line in plane.interpolated for mark in line]
    return percent(sum(marks) / len(marks))


def left_out(view: View) -> tuple[str, ...]:
    """What could not be seen, and why."""
    labels = {**STAGES, **{name: words.title for name, words in PLANES.items()}}
    return lines.left_out(view.omitted, labels)
