"""What an expert asks for: the numbers of every measurement, whether a finding rests on them or not."""

from collections.abc import Callable
from dataclasses import dataclass

from unstuck.estimate import Estimate
from unstuck.findings.records import Verdict
from unstuck.measurements.records import Measurements
from unstuck.report.costs import cost_rows
from unstuck.report.facts import Fact
from unstuck.report.numbers import TIMES, count, gain, percent, significant, with_error
from unstuck.report.units import counted, place_name
from unstuck.report.words import EXCLUDED, arm_name


@dataclass(frozen=True)
class Group:
    """The numbers of one measurement."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Table:
    """Rows of one kind; the first column names them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def groups(verdict: Verdict) -> tuple[Group, ...]:
    """Give one group for each measurement that was made."""
    found = (Group(title, _rows(verdict.measured)) for title, _rows in _GROUPS)
    return tuple(group for group in found if group.facts)


def tables(verdict: Verdict) -> tuple[Table, ...]:
    """Give the measurements that are rows of one kind: ways of going on, layers, places of the gradient, costs."""
    found = (_arms(verdict), _activations(verdict), _depths(verdict), _costs(verdict))
    return tuple(table for table in found if table.rows)


def _noise(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.noise
    if found is None:
        return ()
    scale = "larger than can be told" if found.simple is None else with_error(found.simple)
    return (
        Fact(
            "batch",
            count(found.batch, "example"),
            f"{count(found.batches, 'batch', 'batches')} were compared",
        ),
        Fact("noise scale", scale, "examples: the batch in which noise and signal are equal"),
        Fact("squared gradient", with_error(found.signal), "without the part that is noise"),
        Fact("variance of one example", with_error(found.variance), "sum over the parameters"),
    )


def _wiring(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.wiring
    if found is None:
        return ()
    facts = [
        Fact(EXCLUDED.get(group.reason, group.reason), f"{group.scalars:,}", _names(group.names))
        for group in found.excluded
    ]
    facts.append(Fact("parameters left out", percent(found.share), "though the loss depends on them"))
    facts += _gain(measured, "gain of what is left out", found.excluded_gain, "by one line search")
    facts += _gain(measured, "gain of what is trained", found.trained_gain, "by one line search")
    facts += _gain(
        measured, "change of the loss", found.sway, "where what is cut off is displaced by its length"
    )
    return tuple(facts) + ((Fact("gains", "not measured", found.reason),) if found.reason else ())


def _precision(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.precision
    if found is None:
        return ()
    steps = f"in the next {count(found.steps, 'step')}"
    return (
        Fact("type of the parameters", found.dtype),
        Fact("unmoved parameters", percent(found.lost), "that an exact step would move"),
        Fact("kept of a step", percent(found.kept), "of its length, along itself"),
        *_gain(measured, "gain as rounded", found.rounded_gain, steps),
        *_gain(measured, "gain without rounding", found.exact_gain, steps),
    )


def _second_moment(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.second_moment
    if found is None:
        return ()
    steps = f"in the next {count(found.steps, 'step')}"
    meaning = "natural logarithm; 0: as large as the gradients now"
    return (
        Fact(
            "optimizer", found.optimizer, "its sigma is taken to be so by its name" if found.assumed else ""
        ),
        Fact("sigma over the gradients", with_error(found.ratio), meaning if found.ratio else found.reason),
        *_gain(measured, "gain as it is", found.present_gain, steps),
        *_gain(measured, "gain with sigma afresh", found.fresh_gain, steps),
    )


def _momentum(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.momentum
    if found is None:
        return ()
    steps = f"in the next {count(found.steps, 'step')}"
    return (
        Fact("momentum over the gradients", significant(found.ratio), "1: the most that they could keep up"),
        *_gain(measured, "gain as it is", found.present_gain, steps),
        *_gain(measured, "gain with it begun anew", found.fresh_gain, steps),
    )


def _forgetting(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.forgetting
    if found is None:
        return ()
    steps = f"in the next {count(found.steps, 'step')}"
    return (
        Fact("weight that decay takes", percent(found.share), "at each step"),
        *_gain(measured, "gain as it is", found.present_gain, steps),
        *_gain(measured, "gain without decay", found.fresh_gain, steps),
    )


def _outputs(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.outputs
    if found is None:
        return ()
    ends = " \u2192 ".join((*found.ends, found.criterion))
    floor = "lowest loss with the outputs as they are built"
    return (
        Fact("from outputs to loss", ends, f"on {count(found.batches, 'batch', 'batches')}"),
        Fact("loss", significant(found.loss, 4)),
        *(() if found.built is None else (Fact("floor", significant(found.built, 4), floor),)),
        *(
            ()
            if found.free is None
            else (Fact("free floor", significant(found.free, 4), "with any outputs"),)
        ),
        *((Fact("misfit", found.misfit, "what the criterion is given"),) if found.misfit else ()),
    )


def _mixing(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.mixing
    if found is None:
        return ()
    traded = f"{count(found.swaps, 'pair')} of a batch of {found.examples} traded places, one at a time"
    return (
        Fact(
            "change in their own outputs",
            with_error(found.own),
            "of that in all; 1: outputs follow their examples",
        ),
        Fact("of those that change most", with_error(found.first), traded),
    )


def _labels(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.labels
    if found is None:
        return ()
    tests = ", ".join(found.tests)
    return (
        Fact("correlation", with_error(found.dependence), "of left-out labels with their predictions"),
        Fact("p of independence", significant(found.p_value, 2), f"tests: {tests}"),
        Fact("would be noticed", significant(found.detectable, 2), "nine times in ten"),
        Fact(
            "examples", f"{found.examples:,}", "inputs are of few different numbers" if found.discrete else ""
        ),
        *(
            ()
            if found.constant is None
            else (Fact("one output for all", significant(found.constant), "its loss"),)
        ),
    )


def _order(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.order
    if found is None:
        return ()
    structure, again = (
        found.structure,
        {True: "the same each time", False: "another each time", None: "unknown"},
    )
    pure = structure.purity is not None and structure.expected_purity is not None
    mixed = f"of a batch; {percent(structure.expected_purity)} if drawn at random"
    reordered = found.reordered
    return (
        Fact("where batches come from", found.source, f"order: {again[found.repeated]}"),
        Fact(
            "variance of batches",
            significant(structure.excess) + TIMES,
            f"of random ones, in {structure.part}",
        ),
        Fact("p of fair batches", significant(structure.probability, 2)),
        *((Fact("most common class", percent(structure.purity), mixed),) if pure else ()),
        *(_gain(measured, "gain of shuffling", reordered.extra, "over going on") if reordered else ()),
        *((Fact("shuffling", "not tried", found.reason),) if found.reason else ()),
    )


def _validation(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.validation
    if found is None:
        return ()
    onward = found.onward
    facts = [
        Fact("training loss", with_error(found.training), "in eval mode, without weight decay"),
        Fact("validation loss", with_error(found.validation), f"on {count(found.examples, 'example')}"),
        Fact("gap", with_error(found.gap)),
    ]
    if found.constant is not None:
        facts.append(Fact("a constant output", significant(found.constant), "its validation loss"))
    if found.rise is not None:
        facts.append(
            Fact("sharpness (SAM)", with_error(found.rise), f"rise within {significant(found.radius, 2)}")
        )
    if onward is not None:
        steps = f"by {count(onward.steps, 'more step')}"
        facts.append(Fact("fall of training", with_error(onward.training_gain), steps))
        facts.append(Fact("fall of validation", with_error(onward.validation_gain), steps))
    return tuple(facts)


def _layers(measured: Measurements) -> tuple[Fact, ...]:
    found = measured.layers
    if found is None:
        return ()
    facts = [Fact("examples seen", f"{found.examples:,}")]
    if found.blind is not None:
        facts.append(
            Fact("blind loss", significant(found.blind), "when every example gets its batch's mean output")
        )
    if found.learned is not None:
        facts.append(Fact("learnt", percent(found.learned), "of the blind loss is avoided"))
    return tuple(facts)


_GROUPS: tuple[tuple[str, Callable[[Measurements], tuple[Fact, ...]]], ...] = (
    ("Noise of the gradient", _noise),
    ("Outputs and loss", _outputs),
    ("Examples that trade places", _mixing),
    ("Layers", _layers),
    ("Labels", _labels),
    ("Order of the data", _order),
    ("Validation", _validation),
    ("What is trained", _wiring),
    ("Rounding", _precision),
    ("Second moment", _second_moment),
    ("Momentum", _momentum),
    ("Weight decay", _forgetting),
)


def _arms(verdict: Verdict) -> Table:
    found, scale = verdict.measured.continuations, verdict.measured.scale
    rows = tuple(
        (
            arm_name(arm),
            str(arm.steps),
            gain(arm.gain / scale),
            gain(arm.trend / scale),
            "" if arm.name == "going on" else gain(arm.extra / scale),
        )
        for arm in (found.arms if found else ())
    )
    columns = ("", "Steps", "Gain, % of the loss", "Trend, %", "More than going on, %")
    return Table("Going on, and with other steps", columns, rows)


def _activations(verdict: Verdict) -> Table:
    found = verdict.measured.layers
    rows = tuple(
        (
            each.label,
            f"{each.units:,}",
            *(percent(share) for share in (each.dead, each.saturated, each.flat)),
            significant(each.slope, 2),
            "" if each.passed is None else significant(each.passed, 2),
        )
        for each in (counted(found.activations) if found else ())
    )
    columns = ("", "Units", "Dead", "Saturated", "Flat values", "Mean slope", "Gradient passed")
    return Table("Activations", columns, rows)


def _depths(verdict: Verdict) -> Table:
    found = verdict.measured.layers
    rows = tuple(
        (place_name(place.name), str(place.depth), str(place.calls), significant(place.gradient))
        for place in (found.depths if found else ())
    )
    return Table("Gradient by place", ("", "Depth", "Uses", "Gradient of one example"), rows)


def _costs(verdict: Verdict) -> Table:
    return Table("What it cost", ("", "Gradients over the sample", "Time"), cost_rows(verdict))


def _gain(measured: Measurements, label: str, found: Estimate | None, words: str) -> tuple[Fact, ...]:
    if found is None:
        return ()
    return (Fact(label, f"{gain(found / measured.scale)} %", f"of the loss, {words}"),)


def _names(names: tuple[str, ...]) -> str:
    few = 4
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return ", ".join(names[:few]) + more
