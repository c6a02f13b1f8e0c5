"""What was measured, in words and formatted numbers; the terminal and the page only lay it out."""

from dataclasses import dataclass

from unstuck.curvature.records import Eigenvalue, Spectrum
from unstuck.estimate import Estimate
from unstuck.landscape.bends import Bending, Bin, Spread
from unstuck.report import lines
from unstuck.report.eigenvalues import spectrum_facts, spectrum_sentence
from unstuck.report.facts import Fact
from unstuck.report.numbers import count, percent, sampled, significant, with_error
from unstuck.report.spectrum.words import LAYERS, TITLES


@dataclass(frozen=True)
class Row:
    """One layer by itself, ready to print."""

    name: str
    parameters: str
    lowest: str
    highest: str
    trace: str
    remark: str


@dataclass(frozen=True)
class Pair:
    """One eigenvalue of each end, ready to print."""

    number: int
    lowest: str
    highest: str


def headline(bending: Bending) -> str:
    """The answer in one sentence."""
    hessian = bending.spread("hessian")
    if hessian is None:
        return "How the loss bends here is not known: the eigenvalues could not be measured."
    low, high, known = hessian.judged_lowest, hessian.judged_highest, hessian.spectrum
    ratio = f"{with_error(known.positive, 100.0)} % of {count(known.size, 'eigenvalue')} are positive"
    if bending.sample.exhaustive:
        return f"The loss bends between {_told(low, known)} and {_told(high, known)}; {ratio}."
    # What is found on few examples is too far out, and what others say of its direction not far enough.
    lambda_min = 0.0 if abs(known.lambda_min) <= _rounding(known) else known.lambda_min
    ends = f"from {significant(lambda_min)} to {significant(known.lambda_max)}"
    return (
        f"On one half of the sample the loss bends {ends}, on the other by {_told(low, known)} and "
        f"{_told(high, known)} along the same directions; {ratio}."
    )


def _rounding(known: Spectrum) -> float:
    """What is closer to zero means zero."""
    return known.noise * max(abs(known.lambda_min), abs(known.lambda_max))


def _told(judged: Estimate, known: Spectrum) -> str:
    return "0" if abs(judged.value) + judged.stderr <= _rounding(known) else with_error(judged)


def standing(bending: Bending) -> str:
    """Whether anything bends down beyond doubt, and what the steps can bear."""
    sentences: list[str] = []
    hessian = bending.spread("hessian")
    if hessian is not None:
        floor = hessian.spectrum.floor
        if hessian.judged_lowest.surely_below(-_rounding(hessian.spectrum)):
            sentences.append("Along its lowest direction the loss surely bends down.")
        elif floor.probability == 1.0:
            sentences.append("No direction surely bends down; all eigenvalues were computed.")
        else:
            sentences.append(
                f"No direction surely bends down: none below -{percent(floor.tolerance)} of the largest, with "
                f"probability {percent(floor.probability)}."
            )
    return " ".join([*sentences, *_stability(bending)])


def _stability(bending: Bending) -> list[str]:
    """Cohen et al. (2021, 2022): the largest eigenvalue that the steps bear."""
    limit, metric, hessian = bending.limit, bending.spread("metric"), bending.spread("hessian")
    if limit is None:
        return []
    if metric is not None:
        highest, words = metric.judged_highest.value, "in the optimizer's metric"
    elif bending.rate is not None and hessian is not None:
        highest, words = bending.rate * hessian.judged_highest.value, "times the learning rate"
    else:
        return []
    stands = "below" if highest < limit else "above"
    beyond = f"{stands} the {significant(limit)} from which on steps along it grow"
    return [f"The largest eigenvalue {words} is {significant(highest)}, {beyond}."]


def facts(bending: Bending, spread: Spread) -> tuple[Fact, ...]:
    """What is known of one spectrum."""
    exhaustive = bending.sample.exhaustive
    known = spectrum_facts(
        spread.spectrum, spread.judged_lowest, spread.judged_highest, exhaustive=exhaustive
    )
    how = spectrum_sentence(spread.spectrum)
    return (*known, Fact("cost", count(spread.gradients, "gradient"), how))


def pairs(spread: Spread) -> tuple[Pair, ...]:
    """The eigenvalues of both ends side by side."""
    return tuple(
        Pair(index + 1, _eigenvalue(low), _eigenvalue(high))
        for index, (low, high) in enumerate(zip(spread.lowest, spread.highest, strict=False))
    )


def blocks(bending: Bending) -> tuple[Row, ...]:
    """Every layer that was looked at by itself."""
    return tuple(
        Row(
            name=each.name,
            parameters=f"{each.parameters:,}",
            lowest=with_error(each.lambda_min),
            highest=with_error(each.lambda_max),
            trace=with_error(each.trace),
            remark="" if each.settled else "the time was over",
        )
        for each in bending.blocks
    )


def histogram(spread: Spread) -> tuple[tuple[str, str, float], ...]:
    """Every bin: its ends, how many eigenvalues it has, and how many as a number."""
    size = spread.spectrum.size
    return tuple(
        (_interval(each), with_error(each.share, float(size)), each.share.value * size)
        for each in spread.bins
    )


def _interval(each: Bin) -> str:
    return f"{significant(each.low, 2)} to {significant(each.high, 2)}"


def _eigenvalue(found: Eigenvalue) -> str:
    return f"{significant(found.value)} ± {significant(found.residual, 2)}"


def place(bending: Bending) -> tuple[Fact, ...]:
    """Where the weights are."""
    decay = "with weight decay" if bending.subject.decay else ""
    return (
        Fact("training loss", with_error(bending.loss), decay),
        Fact("norm of the gradient", significant(bending.gradient)),
    )


def sample_line(bending: Bending) -> str:
    """The data that everything rests on, in one sentence."""
    sample = bending.sample
    text = sampled(sample.examples, sample.batches, sample.draws)
    if sample.exhaustive:
        text += ": all the data there is, so nothing is left to sampling error"
    else:
        text += "; the spectrum is that of one half of them, its ends are judged on the other"
    if sample.stochastic:
        text += "; the loss itself is random (dropout or the like), replayed with fixed seeds"
    return f"{text}; the model in {bending.subject.mode} mode"


def left_out(bending: Bending) -> tuple[str, ...]:
    """What could not be measured, and why."""
    return lines.left_out(bending.omitted, {**TITLES, "blocks": LAYERS})
