"""What was measured, in words and formatted numbers; the terminal and the page only lay it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.estimate import Estimate
from unstuck.findings.records import Evidence, Finding, Verdict
from unstuck.measurements.records import Division, Gradient, Route
from unstuck.measurements.records.updates import NonFinite
from unstuck.report.lines import parameters_of
from unstuck.report.numbers import (
    NEGLIGIBLE,
    NOTHING,
    TIMES,
    count,
    gain,
    percent,
    sampled,
    significant,
    with_error,
)
from unstuck.report.quantities import Unit, evidence_name, unit
from unstuck.report.words import (
    KINDS,
    measurement_name,
    route_name,
)


@dataclass(frozen=True)
class Fact:
    """One measured number with its error, and what it says."""

    label: str
    value: str
    meaning: str = ""


def listed(label: str, lines: Sequence[str]) -> list[Fact]:
    """Give several lines under one label."""
    return [Fact(label if index == 0 else "", line) for index, line in enumerate(lines)]


@dataclass(frozen=True)
class Way:
    """One route, ready to print.

    Attributes:
        gain: Percent of the loss, for a reader in a hurry; `percent` is the same with every digit and
            `loss` in units of the loss.
        share: The gain as a share of the loss, with its `stderr`.
        slope: What the gradient accounts for; with `curvature` it adds up to a positive share.
        rises: The loss rises beyond doubt.
    """

    label: str
    gain: str
    loss: str
    percent: str
    share: float
    stderr: float
    slope: float
    curvature: float
    rises: bool
    step: str
    multiple: str


def subject_line(verdict: Verdict) -> str:
    """What was looked at, in one line."""
    subject = verdict.measured.subject
    parts = [subject.model, parameters_of(subject), f"{subject.dtype} on {subject.device}"]
    if subject.frozen:
        parts.insert(2, f"{subject.frozen:,} more frozen")
    if subject.optimizer is not None:
        rate = "" if subject.rate is None else f", rate {_short(subject.rate)}"
        clip = "" if subject.clip is None else f", gradient no longer than {_short(subject.clip)}"
        parts.append(subject.optimizer + rate + clip)
    return " · ".join(parts)


def place(verdict: Verdict) -> tuple[Fact, ...]:
    """Where the run is: loss, gradient, kind of point."""
    measured, gradient = verdict.measured, verdict.measured.gradient
    if measured.non_finite is not None:
        return _appearance(measured.non_finite)
    decay = f", {significant(measured.penalty)} of it by weight decay" if measured.subject.decay else ""
    facts = [
        Fact("kind of point", *KINDS[verdict.point.kind]),
        Fact("loss", with_error(measured.loss), f"mean over the sample{decay}"),
        Fact("norm of the gradient", significant(gradient.norm), _against(gradient)),
    ]
    if gradient.flatness is not None:
        facts.append(
            Fact(
                "gradient's curvature",
                percent(gradient.flatness),
                "of the largest there is along it; near zero would mean gradient-flat",
            )
        )
    # Of plain descent: momentum bears longer steps, as the sharpness over its limit says.
    if gradient.stable is not None and measured.momentum is None:
        facts.append(
            Fact(
                "longest stable step",
                f"{significant(gradient.stable)}{TIMES}",
                "the present one; a longer one is thrown out along the steepest direction",
            )
        )
    return tuple(facts)


_PLACES = {
    "parameter": "a parameter, before any batch is seen",
    "buffer": "a buffer of the model",
    "state": "the optimizer's state",
    "data": "the data, before the model sees them",
    "forward": "on the way forward, out of finite numbers",
    "loss": "the loss, out of finite outputs",
    "gradient": "the gradient, while the loss is finite",
}


def _appearance(found: NonFinite) -> tuple[Fact, ...]:
    """Where a number that is none appears first; behind it nothing can be measured."""
    facts = [
        Fact("appears first", found.name, _PLACES.get(found.place, found.place)),
        Fact("what it is", found.kind, f"of type {found.dtype}" if found.dtype else ""),
    ]
    if found.batch is not None:
        facts.append(Fact("batch", str(found.batch), "counted from 0"))
    if found.operation:
        facts.append(Fact("operation", found.operation, f"in {found.module}" if found.module else ""))
    if found.overflow:
        facts.append(Fact("overflow", "yes", "the same numbers are finite in float32"))
    return tuple(facts)


def ways(verdict: Verdict) -> tuple[Way, ...]:
    """Where the next decrease can come from, one row per route that was measured."""
    return tuple(_way(route, verdict.measured.scale) for route in verdict.measured.routes)


def evidence(finding: Finding) -> tuple[Fact, ...]:
    """The numbers that a finding rests on."""
    return tuple(Fact(evidence_name(item.name), _evidence_value(item)) for item in finding.evidence)


def sample_line(verdict: Verdict) -> str:
    """The data that everything rests on, in one sentence."""
    sample = verdict.measured.sample
    text = sampled(sample.examples, sample.batches, sample.draws)
    if verdict.measured.non_finite is not None:
        return f"{text} were looked at, until the first number that is none"
    if sample.exhaustive:
        text += ": all the data there is, so nothing is left to sampling error"
    else:
        text += "; each ± is one standard error over the batches"
    if sample.stochastic:
        text += "; the loss itself is random (dropout or the like), replayed with fixed seeds"
    return f"{text}; the model in {verdict.measured.subject.mode} mode"


def division_line(division: Division) -> str:
    """How many processes looked at it, and what each had of it."""
    text = (
        f"{division.processes} processes; the data divided into {_spread(division.examples, 'example')} each"
    )
    if division.same_data:
        text = (
            f"{division.processes} processes; every one began with the same batch, so that examples count more than "
            "once: give each its own shard of the data"
        )
    if division.parameters is None:
        return f"{text}; every process holds all parameters"
    return f"{text}; the parameters divided into {_spread(division.parameters, 'number')} each (fully_shard)"


def _spread(counts: Sequence[int], what: str) -> str:
    low, high = min(counts), max(counts)
    return count(high, what) if low == high else f"{low:,} to {count(high, what)}"


def left_out(verdict: Verdict) -> tuple[str, ...]:
    """What could not be measured, and why: one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for omission in verdict.measured.omitted:
        reasons.setdefault(omission.reason, []).append(measurement_name(omission.name))
    return tuple(f"{', '.join(names)}, because {_clause(reason)}" for reason, names in reasons.items())


def _way(route: Route, scale: float) -> Way:
    share = route.gain.value / scale
    slope = min(max(route.slope / scale, 0.0), max(share, 0.0))
    return Way(
        label=route_name(route.name, route.steps),
        gain=gain(route.gain / scale),
        loss=with_error(route.gain),
        percent=with_error(route.gain, 100 / scale),
        share=share,
        stderr=route.gain.stderr / scale,
        slope=slope,
        curvature=max(share, 0.0) - slope,
        rises=route.gain.surely_below(0.0) and -share > NEGLIGIBLE,
        # How far many steps have led was not looked at.
        step=significant(route.distance) if route.distance > 0.0 or route.steps == 1 else "",
        multiple="" if route.multiple is None else f"{significant(route.multiple, 2)}{TIMES}",
    )


def _against(gradient: Gradient) -> str:
    """What the norm of a gradient has to be compared with."""
    rounding = significant(gradient.rounding, 2)
    if gradient.norm <= gradient.rounding:
        return f"no more than rounding leaves ({rounding})"
    noise = significant(gradient.noise, 2) if math.isfinite(gradient.noise) else "unknown"
    return f"batch noise {noise}, rounding {rounding}"


_UNITS: dict[Unit, tuple[float, str]] = {
    "plain": (1.0, ""),
    "gain": (100.0, " % of the loss"),
    "share": (100.0, " %"),
    "times": (1.0, TIMES),
}


def _evidence_value(item: Evidence) -> str:
    """A measured number in the unit that it reads best in."""
    kind = unit(item.name)
    if kind == "log":
        error = "" if item.stderr is None else f", the exponent ± {significant(item.stderr, 2)}"
        return f"{significant(math.exp(min(item.value, 700.0)))}{TIMES} (e^{significant(item.value)}{error})"
    if kind == "gain" and item.stderr is not None:
        return f"{gain(Estimate(item.value, item.stderr))} % of the loss"
    scale, sign = _UNITS[kind]
    if item.stderr is None:
        return significant(scale * item.value) + sign
    return with_error(Estimate(item.value, item.stderr), scale) + sign


def _clause(reason: str) -> str:
    """A sentence as it reads after "because": without its capital, unless that belongs to a name."""
    first, _, rest = reason.strip().removesuffix(".").partition(" ")
    plain = first[:1].isupper() and first[1:].islower()
    return (
        " ".join(part for part in (first.lower() if plain else first, rest) if part) or "of an unknown reason"
    )


def _short(value: float) -> str:
    return NOTHING if not math.isfinite(value) else f"{value:g}"
