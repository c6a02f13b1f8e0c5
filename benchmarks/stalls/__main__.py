"""How often a curve that still improves is called stalled, and how late one that stalls.

A healthy curve is a recorded training on real data, cut where the loss of *all* the data, which knows no batch noise,
no longer falls by 4 % per doubling of the steps over its last half and its last quarter; a stalled one has its onset
where that loss comes to stay within 3 % of where it ends. Synthetic curves are known by construction. Every other
family belongs to the second half. No threshold was chosen by these figures; the longer windows were added after a
first look at the delays of both halves. The end of a curve is one more look, as the end of a run is.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, pstdev

import numpy as np
import torch

from benchmarks.causes.results import keep
from benchmarks.stalls import healthy, stuck, synthetic
from benchmarks.stalls.drawing import drawn
from benchmarks.stalls.recording import record
from benchmarks.stalls.scoring import Alarm, alarm, half, interval, middle, stalls
from benchmarks.tables import RESULTS, Table
from unstuck.watching.losses.stalls import FALSE_ALARMS, Stalls

_HALVES = ("first", "second")
_PICTURE = "stalls-delays.svg"

Counted = list[tuple[str, str, int, int]]


def real_healthy(seeds: int) -> tuple[list[Table], Counted]:
    rows, counted, short = [], [], []
    for number, recipe in enumerate(healthy.RECIPES):
        cuts, told = [], []
        for seed in range(seeds):
            recorded = record(recipe, seed=seed)
            cut = healthy.improving(recorded, recipe.cycle, recipe.rise)
            if cut < healthy.SHORTEST:
                short.append(f"{recipe.name} (seed {seed})")
                continue
            cuts.append(cut)
            told += [
                f"at {one.step} of {cut}" for one in stalls(recorded.losses[:cut], recorded.rates[:cut])[:1]
            ]
        if cuts:
            rows.append((half(number), recipe.name, ", ".join(map(str, cuts)), "; ".join(told) or "none"))
            counted.append((half(number), recipe.name, len(told), len(cuts)))
    note = (
        f"Left out, since they improve for fewer than {healthy.SHORTEST} steps: {', '.join(short) or 'none'}."
    )
    columns = ("half", "task, rule, rate, over time, batch", "steps", "false alarms")
    return [Table("Recorded curves that still improve", columns, rows, note)], counted


def synthetic_healthy(seeds: int) -> Counted:
    counted = []
    for number, family in enumerate(synthetic.healthy()):
        rates = None if family.rates is None else family.rates.tolist()
        hits = sum(bool(stalls(family.draw(1000 * number + seed).tolist(), rates)) for seed in range(seeds))
        counted.append((half(number), family.name, hits, seeds))
    return counted


def bound_table(seeds: int) -> Table:
    """Count the alarms on curves that fall hardly faster than what is called stalled."""
    rows = []
    for family in synthetic.at_the_bound():
        hits = sum(bool(stalls(family.draw(seed).tolist())) for seed in range(seeds))
        rows.append((family.name, f"{family.size:.0%}", seeds, hits, interval(hits, seeds)))
    note = "Power laws that gain 2.1 % per doubling where 2 % is stalled: the hardest that the stated rate is for."
    columns = ("noise", "size", "curves", "false alarms", "rate (95 % interval)")
    return Table("False alarms at the bound itself", columns, rows, note)


def rates_table(title: str, counted: Counted, note: str = "") -> Table:
    rows = []
    for part in (*_HALVES, "all"):
        those = [one for one in counted if part in (one[0], "all")]
        hits, count = (sum(one[index] for one in those) for index in (2, 3))
        rows.append((part, len(those), count, hits, interval(hits, count)))
    columns = ("half", "families", "curves", "false alarms", "rate (95 % interval)")
    return Table(title, columns, rows, note)


def by_kind(counted: Counted) -> Table:
    rows = []
    names = {part for _, name, _, _ in counted for part in name.split(", ")}
    for kind in sorted(names):
        those = [one for one in counted if kind in one[1].split(", ")]
        hits, count = (sum(one[index] for one in those) for index in (2, 3))
        rows.append((kind, count, hits, interval(hits, count)))
    return Table("Synthetic curves by kind", ("kind", "curves", "false alarms", "rate (95 % interval)"), rows)


def worst(counted: Counted) -> Table:
    those = sorted(counted, key=lambda one: -one[2] / one[3])[:8]
    rows = [(part, name, count, interval(hits, count)) for part, name, hits, count in those]
    return Table(
        "The families with most false alarms", ("half", "family", "curves", "rate (95 % interval)"), rows
    )


def real_stuck(seeds: int) -> list[Alarm]:
    found = []
    for number, recipe in enumerate(stuck.RECIPES):
        for seed in range(seeds):
            recorded = record(recipe, seed=seed)
            rest = recorded.losses[len(recorded.losses) // 2 :]
            noise = pstdev(rest) / abs(fmean(rest))
            onset = stuck.onset(recorded)
            found.append(alarm(recipe.name, number, onset, noise, recorded.losses, recorded.rates))
    return found


def synthetic_stuck(seeds: int) -> list[Alarm]:
    found = []
    for number, (onset, family) in enumerate(synthetic.stalled()):
        # Each half has every size of noise, and of courses and kinds of noise the half.
        pair = number // len(synthetic.STALLED_NOISES)
        place = pair + pair // 2
        curves = (family.draw(seed).tolist() for seed in range(seeds))
        found += [alarm(family.name, place, onset, family.size, curve) for curve in curves]
    return found


def cases(alarms: Sequence[Alarm]) -> Table:
    rows = [
        (one.half, one.name, one.steps, one.onset, f"{one.noise:.1%}", *_told(one), one.early)
        for one in alarms
    ]
    columns = ("half", "training", "steps", "onset", "noise", "told at", "since", "told early")
    note = "Noise is the spread of single losses about their mean, over the last half."
    return Table("Recorded curves that stall", columns, rows, note)


def _told(one: Alarm) -> tuple[object, object]:
    return ("never", "") if one.stall is None else (one.stall.step, one.stall.since)


def delays(title: str, alarms: Sequence[Alarm], edges: Sequence[float]) -> Table:
    rows = []
    for part in (*_HALVES, "all"):
        mine = [one for one in alarms if part in (one.half, "all")]
        for low, high in [*pairwise(edges), (0.0, math.inf)]:
            those = [one for one in mine if low <= one.noise < high]
            if those:
                rows.append((part, _between(low, high), *_summed(those)))
    columns = (
        "half",
        "noise",
        "curves",
        "told",
        "delay, steps",
        "delay over onset",
        "since over onset",
        "early",
    )
    note = (
        "Medians, in which what was never told is infinite; those over the onset leave out what stalls from the "
        "first step on. Early is what was told before the onset."
    )
    return Table(title, columns, rows, note)


def _between(low: float, high: float) -> str:
    if math.isfinite(high):
        return f"{low:.1%} to {high:.1%}"
    return f"from {low:.1%}" if low else "any"


def _summed(alarms: Sequence[Alarm]) -> tuple[object, ...]:
    later = [one for one in alarms if one.onset > 1]
    told = [one for one in alarms if one.stall is not None]
    since = [one.stall.since / one.onset for one in later if one.stall is not None]
    return (
        len(alarms),
        f"{len(told) / len(alarms):.0%}",
        middle(one.delay for one in alarms),
        middle(one.share for one in later) if later else "",
        middle(since) if since else "",
        sum(one.early for one in alarms),
    )


def cost() -> Table:
    rows = []
    for steps in (1_000, 10_000, 100_000, 1_000_000):
        losses = synthetic.Family("", _course(steps), synthetic.white, 0.1).draw(0).tolist()
        best = min(_timed(losses) for _ in range(3 if steps < 1_000_000 else 1))
        rows.append((steps, round(1e9 * best / steps)))
    return Table("Cost of a call of `add`", ("steps of the run", "ns a call, looks included"), rows)


def _course(steps: int) -> synthetic.Curve:
    return np.arange(1, steps + 1, dtype=float) ** -0.3


def _timed(losses: Sequence[float]) -> float:
    add = Stalls().add
    start = time.process_time()
    for loss in losses:
        add(loss, 0.1)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalls", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/")
    parser.add_argument("--seeds", type=int, default=24, help="of each synthetic family that improves")
    parser.add_argument("--real", type=int, default=2, help="seeds of each recorded training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    recorded, counted = real_healthy(arguments.real)
    made = synthetic_healthy(arguments.seeds)
    real, planted = real_stuck(1), synthetic_stuck(6)
    stated = f"Stated: no more than {FALSE_ALARMS:.0%} of the runs."
    tables = [
        rates_table("False alarms on recorded trainings", counted, stated),
        rates_table("False alarms on synthetic curves", made, stated),
        bound_table(5 * arguments.seeds),
        by_kind(made),
        worst(made),
        delays("Delay on recorded trainings that stall", real, (0.0, 0.05, 0.2, math.inf)),
        delays("Delay on synthetic curves that stall", planted, (0.0, 0.005, 0.02, 0.05, math.inf)),
        cost(),
        cases(real),
        *recorded,
    ]
    print("\n".join(map(str, tables)))
    print(f"{time.process_time() - start:.0f} s", file=sys.stderr)
    if arguments.write:
        lines = {
            f"synthetic, noise {size:.0%}": [one.share for one in planted if one.noise == size]
            for size in synthetic.STALLED_NOISES
        } | {"recorded trainings": [one.share for one in real if one.onset > 1]}
        (RESULTS / _PICTURE).write_text(drawn(lines), encoding="utf-8")
        picture = f"![Share of stalls told over the delay]({_PICTURE})"
        print(keep("stalls", "stalls", __doc__, tables, picture), file=sys.stderr)


if __name__ == "__main__":
    main()
