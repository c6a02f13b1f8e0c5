"""Batch sizes in words: the headline, the table small against large, and facts. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.batch.records import LONG, Answer, Noise, Option, Scale, Sizing, Timing, seconds_per_update
from unstuck.report.facts import Fact
from unstuck.report.numbers import NOTHING, TIMES, count, memory, percent, seconds, significant, with_error
from unstuck.report.words import Tone

# A rate that is off by more than this is worth a word.
_OFF = 2.5

NONE = "\u2013"


@dataclass(frozen=True)
class Headline:
    """What comes first."""

    title: str
    tone: Tone
    meaning: str
    todo: str


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    label: str
    cells: tuple[str, ...]
    note: str = ""


def headline(sizing: Sizing) -> Headline:
    """Say what size to take, or why that cannot be said."""
    decision = sizing.decision
    if decision.answer is Answer.WRONG_RATE:
        return Headline(
            "Mend the learning rate first",
            "act",
            _sentence(decision.reason),
            f"Use {_rates(sizing, decision.rate or 1.0)}, then ask again.",
        )
    if decision.answer is Answer.NOT_RESOLVED:
        return Headline("Not resolved", "unsure", _sentence(decision.reason), "")
    low, high = decision.low or 0, decision.high or 0
    inside = low <= sizing.present <= high
    title = f"Take {low} to {high} examples" if low < high else f"Take {low} examples"
    best = next(option for option in decision.options if option.size == decision.best)
    meaning = (
        f"The present size, {sizing.present}, is within."
        if inside
        else f"The present size is {sizing.present}."
    )
    meaning += (
        f" {best.size} was the fastest to a loss of {significant(decision.level)}: "
        f"{count(round(best.updates.value) if best.updates else 0, 'update')}, "
        f"{seconds(best.seconds.value) if best.seconds else NOTHING} on this machine."
    )
    meaning += _about_rate(sizing)
    if decision.reason:
        meaning += f" {_sentence(decision.reason)}"
    return Headline(title, "good" if inside else "settled", meaning, _todo(sizing, best, inside=inside))


def _about_rate(sizing: Sizing) -> str:
    """Of a rate that is off, though not so far that nothing could be said of sizes."""
    rate = sizing.decision.rate or 1.0
    if 1.0 / _OFF < rate < _OFF:
        return ""
    return (
        f" At the present size, {significant(rate, 2)} times the learning rate gets furthest from here; sizes were "
        "compared at the rates that suit them."
    )


def _todo(sizing: Sizing, best: Option, *, inside: bool) -> str:
    factor, updates = best.factor, best.updates
    if inside and updates is not None and updates.value < LONG:
        return f"Nothing yet: within {count(round(updates.value), 'update')} no other size was surely better."
    if best.size == sizing.present and factor == 1.0:
        return "Nothing: size and learning rate are right for one another."
    change = f"DataLoader(..., batch_size={best.size}) with {_rates(sizing, factor)}"
    if factor > 1.0:
        change += ", reached by a warm-up over the first few hundred updates"
    return f"{change}."


def _rates(sizing: Sizing, factor: float) -> str:
    if not sizing.rates:
        return f"{significant(factor)} times the present learning rate"
    shown = ", ".join(dict.fromkeys(significant(factor * rate) for rate in sizing.rates))
    return (
        f"lr={shown} ({significant(factor)} times the present)" if factor != 1.0 else f"lr={shown} as it is"
    )


def small_against_large(sizing: Sizing) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give the lecture's table, filled with what was measured: its columns' heads and its rows."""
    sizes = _columns(sizing)
    return tuple(_head(size, sizing) for size in sizes), tuple(
        row for row in (make(sizing, sizes) for make in _ROWS) if row is not None
    )


def _columns(sizing: Sizing) -> list[int]:
    """The smallest and the largest size that were gone on with, the present one and the best."""
    tried = [option.size for option in sizing.decision.options]
    timed = [timing.size for timing in sizing.clock.timings] if sizing.clock else []
    ends = tried or [size for size in timed if size > 1] or [sizing.present]
    return sorted(
        {min(ends), max(ends), sizing.present, *([sizing.decision.best] if sizing.decision.best else [])}
    )


def _head(size: int, sizing: Sizing) -> str:
    return f"{size} (now)" if size == sizing.present else str(size)


def _one_by_one(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    single = next((t.seconds for t in sizing.clock.timings if t.size == 1), None) if sizing.clock else None
    if single is None:
        return None
    cells = tuple(_time(single * size) for size in sizes)
    return Row("update, one by one", cells, "examples in turn, as without parallel hardware")


def _update(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    if sizing.clock is None:
        return None
    timings = {timing.size: timing for timing in sizing.clock.timings}
    cells = tuple(_time(timings[s].seconds) if s in timings else NONE for s in sizes)
    grows = sizing.clock.grows_from
    note = "does not grow yet" if grows is None else f"grows from {grows} examples on"
    return Row("update, as a batch", cells, note)


def _epoch(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    if sizing.clock is None or sizing.examples is None:
        return None
    whole = seconds_per_update(sizing.clock.timings, sizing.loading)
    cells = tuple(_time(whole[s] * sizing.examples / s) if s in whole else NONE for s in sizes)
    return Row("epoch", cells, f"of {count(sizing.examples, 'example')}, loading included")


def _gradient(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    if sizing.noise is None or sizing.noise.simple.estimate is None:
        return None
    scale = sizing.noise.simple.estimate.value
    cells = tuple(percent(1.0 / (1.0 + scale / size), 2) for size in sizes)
    return Row("signal in the gradient", cells, f"noise scale {significant(scale)}")


def _updates(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    options = {option.size: option for option in sizing.decision.options}
    if not options:
        return None
    cells = tuple(
        significant(o.updates.value) if (o := options.get(s)) and o.updates else "not reached" for s in sizes
    )
    return Row("optimisation: updates", cells, f"to a loss of {significant(sizing.decision.level)}")


def _took(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    options = {option.size: option for option in sizing.decision.options}
    if not options:
        return None
    cells = tuple(
        _time(o.seconds.value) if (o := options.get(s)) and o.seconds else "not reached" for s in sizes
    )
    return Row("optimisation: time", cells, "of updates on this machine, to the same loss")


def _generalisation(sizing: Sizing, sizes: Sequence[int]) -> Row | None:
    options = {option.size: option for option in sizing.decision.options}
    if all(option.validation is None for option in options.values()):
        return None
    cells = tuple(
        f"{significant(o.validation)} / {significant(o.loss)}"
        if (o := options.get(s)) and o.validation is not None
        else NONE
        for s in sizes
    )
    return Row("generalisation", cells, "validation / training loss after equal time")


_ROWS = (_one_by_one, _update, _epoch, _gradient, _updates, _took, _generalisation)


def every_size(sizing: Sizing) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give all sizes that were timed or gone on with, a row each."""
    timings = {timing.size: timing for timing in sizing.clock.timings} if sizing.clock else {}
    options = {option.size: option for option in sizing.decision.options}
    heads = ("an update", "memory", "learning rate", "updates", "predicted", "time", "examples")
    rows = [
        Row(_head(size, sizing), _cells(sizing, timings.get(size), options.get(size)))
        for size in sorted({*timings, *options})
    ]
    return heads, tuple(rows)


def _cells(sizing: Sizing, timing: Timing | None, option: Option | None) -> tuple[str, ...]:
    made = option.updates if option else None
    took = option.seconds if option else None
    return (
        NONE if timing is None else _time(timing.seconds),
        NONE if timing is None else memory(timing.memory),
        NONE if option is None else _rate(sizing, option.factor),
        NONE if made is None else with_error(made),
        NONE if option is None or option.predicted is None else significant(option.predicted),
        NONE if took is None else _time(took.value),
        NONE if option is None or option.examples is None else significant(option.examples),
    )


def _rate(sizing: Sizing, factor: float) -> str:
    return (
        significant(factor * sizing.rates[0])
        if len(set(sizing.rates)) == 1
        else f"{significant(factor)} {TIMES}"
    )


def every_layer(sizing: Sizing) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Give the noise scale of each parameter tensor."""
    layers = sizing.noise.layers if sizing.noise else ()
    rows = tuple(Row(layer.name, (f"{layer.parameters:,}", scale(layer.scale))) for layer in layers)
    return ("parameters", "noise scale, with its 95 % interval"), rows


def _how(noise: Noise) -> str:
    how = "gradients of single examples" if noise.piece == 1 else f"gradients of {noise.piece} examples"
    if not noise.separable:
        return how
    return how + (f", one by one: {noise.singly}" if noise.singly else ", many at a time")


def facts(sizing: Sizing) -> tuple[Fact, ...]:
    """Give what an expert wants beside the tables."""
    rows: list[Fact] = []
    if noise := sizing.noise:
        decayed = "; weight decay is part of G" if noise.decayed else ""
        rows.append(Fact("noise scale", scale(noise.simple), f"tr Σ / |G|², in examples{decayed}"))
        if noise.curved:
            rows.append(Fact("curvature-weighted", scale(noise.curved), "tr(HΣ) / GᵀHG"))
        if noise.metric:
            rows.append(Fact("in the optimizer's metric", scale(noise.metric), "tr(PΣ) / GᵀPG"))
        rows.append(Fact("measured on", f"{count(noise.examples, 'example')}", _how(noise)))
        if not noise.separable and noise.piece > 1:
            rows.append(
                Fact(
                    "",
                    "",
                    "a batch's gradient is not the mean of its examples', as with BatchNorm: whole batches",
                )
            )
    if found := sizing.decision.fit:
        high = "more" if math.isinf(found.high) else significant(found.high)
        rows.append(
            Fact(
                "critical size",
                f"{significant(found.critical)} ({significant(found.low)} to {high})",
                "twice the fewest updates and the fewest examples, by the branches",
            )
        )
    if sizing.decision.lossless is not None:
        rows.append(
            Fact(
                "loses nothing up to",
                str(sizing.decision.lossless),
                "at equal examples, against the present size",
            )
        )
    rows.append(
        Fact("rate and size", sizing.rule, f"the usual rule for {sizing.optimizer or 'this optimizer'}")
    )
    rows += [*_loading(sizing), *_order(sizing)]
    if sizing.clock:
        rows.append(Fact("largest size timed", str(sizing.clock.timings[-1].size), sizing.clock.limit))
    cost = f"{count(sizing.gradients, 'gradient')} of a batch"
    rows.append(Fact("cost", seconds(sizing.seconds), f"and {cost} for the noise"))
    noise_left = sizing.noise.omitted if sizing.noise else ()
    rows += [Fact("left out", text) for text in (*sizing.omitted, *noise_left)]
    return tuple(rows)


def scale(value: Scale) -> str:
    """Write a noise scale with its interval."""
    if value.estimate is None:
        return f"not resolved: {significant(value.low)} or more"
    return f"{with_error(value.estimate)} ({significant(value.low)} to {significant(value.high)})"


def _loading(sizing: Sizing) -> list[Fact]:
    if sizing.loading is None:
        return []
    how = "by workers, beside the updates" if sizing.loading.beside else "in the training's own process"
    return [Fact("loading a batch", _time(sizing.loading.example * sizing.present), how)]


def _order(sizing: Sizing) -> list[Fact]:
    order = sizing.order
    if order is None:
        return []
    if order.structure.suspicious:
        told = f"in {order.structure.part}, batches differ {order.structure.excess:.3g} times as much as random ones"
        advice = (
            "pass shuffle=True to the DataLoader" if order.source == "sequential" else "shuffle the examples"
        )
        return [Fact("batches", "not exchangeable", f"{told}: {advice}")]
    if order.repeated:
        return [Fact("batches", "the same in each epoch", "draw them anew: DataLoader(..., shuffle=True)")]
    return [Fact("batches", "exchangeable", "as far as labels and inputs tell, and drawn anew in each epoch")]


def _time(value: float) -> str:
    return f"{significant(1000 * value)} ms" if value < 1.0 else seconds(value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
