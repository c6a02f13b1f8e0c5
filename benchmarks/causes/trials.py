"""The remedies that `diagnose` proves from where each labelled training stands.

*Proved*: the first remedy's interval lies above 0. *Named*: it is one that the label names, by the table of this
module, which is not the product's own. *Claims* are counted where nothing should help: at minima, with labels that
carry nothing, and on healthy runs. No remedy can be tried from parameters that are NaN already.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from joblib import Parallel, delayed

from benchmarks.causes.catalogue import BY_NAME, HALF_OF, HALVES, chosen
from benchmarks.causes.results import keep
from benchmarks.tables import Table
from unstuck import Cause, diagnose

# What a textbook would name for each label.
NAMED: dict[Cause, frozenset[str]] = {
    Cause.SADDLE_POINT: frozenset({"escape", "break-symmetry"}),
    Cause.LOCAL_MAXIMUM: frozenset({"escape", "break-symmetry"}),
    Cause.PLATEAU: frozenset({"offset-outputs", "begin-anew", "escape"}),
    Cause.STEP_TOO_LARGE: frozenset({"smaller-step", "decay"}),
    Cause.STEP_TOO_SMALL: frozenset({"larger-step"}),
    Cause.ILL_CONDITIONED: frozenset({"per-parameter-scale", "quasi-newton", "scale-inputs", "momentum"}),
    Cause.GRADIENT_NOISE: frozenset({"larger-batch", "average", "decay", "smaller-step"}),
    Cause.VANISHING_GRADIENT: frozenset({"rectify", "begin-anew", "per-parameter-scale"}),
    Cause.DEAD_UNITS: frozenset({"revive", "begin-anew", "scale-inputs"}),
    Cause.SATURATED_UNITS: frozenset({"desaturate", "begin-anew", "scale-inputs", "rectify"}),
    Cause.STALE_SECOND_MOMENT: frozenset({"refresh", "warm-up"}),
    Cause.PRECISION_STALL: frozenset({"master-weights"}),
    Cause.NON_FINITE: frozenset({"skip", "refresh"}),
    Cause.FROZEN_PARAMETERS: frozenset({"unfreeze", "reconnect"}),
    Cause.MISMATCHED_LOSS: frozenset({"fit-outputs"}),
    Cause.UNSHUFFLED_DATA: frozenset({"shuffle"}),
    Cause.GENERALIZATION_GAP: frozenset({"weight-decay", "stop"}),
}
INCURABLE = frozenset(Cause) - NAMED.keys()
BUDGET = 300.0  # time enough, so that the number of orders does not hang on how busy the machine is


@dataclass(frozen=True)
class Tried:
    """What came of one case at one seed; `remedies` are (name, gain, low, high), the first is the best."""

    name: str
    seed: int
    said: Cause | None
    remedies: tuple[tuple[str, float, float, float], ...]
    tried: int
    gradients: float
    seconds: float
    note: str = ""

    @property
    def proved(self) -> bool:
        """Whether the first remedy is proved to help."""
        return bool(self.remedies) and self.remedies[0][2] > 0.0

    @property
    def claims(self) -> int:
        """How many remedies are said to help."""
        return sum(low > 0.0 for _, _, low, _ in self.remedies)

    @property
    def named(self) -> bool:
        """Whether the first remedy is proved, and one that the label names."""
        case = BY_NAME[self.name]
        wanted = frozenset[str]().union(
            *(NAMED.get(cause, frozenset()) for cause in (case.cause, *case.also))
        )
        return self.proved and self.remedies[0][0] in wanted


def main(arguments: argparse.Namespace) -> None:
    """Try the remedies of the cases asked for, print the tables, and keep them if asked to."""
    pairs = [(case.name, seed) for case in chosen(arguments) for seed in range(arguments.seeds)]
    found: list[Tried] = []
    for one in Parallel(n_jobs=arguments.jobs, return_as="generator")(
        delayed(attempt)(*pair) for pair in pairs
    ):
        found.append(one)
        print(_line(one), flush=True)
    tables = [totals(found), by_cause(found), answers(found)]
    print("\n" + "\n".join(map(str, tables)))
    if arguments.write:
        print(keep("causes-trials", "causes trials", __doc__ or "", tables))


def attempt(name: str, seed: int) -> Tried:
    """Ask `diagnose` for the remedies of one case at one seed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    training = BY_NAME[name].training(seed)
    start = time.perf_counter()
    try:
        verdict = diagnose(training, seed=seed, budget=BUDGET).verdict
    except Exception as error:
        return Tried(name, seed, None, (), 0, 0.0, time.perf_counter() - start, f"{error}")
    trials = verdict.trials
    return Tried(
        name,
        seed,
        verdict.cause,
        tuple((remedy.name, remedy.gain, remedy.low, remedy.high) for remedy in verdict.remedies),
        0 if trials is None else len(trials.tried),
        0.0 if trials is None else trials.gradients,
        0.0 if trials is None else trials.seconds,
        next((note for note in verdict.notes if note.startswith("No remedy was tried")), ""),
    )


def totals(found: Sequence[Tried]) -> Table:
    """Give one row for each half, and one for all."""
    groups = {half: [one for one in found if HALF_OF[one.name] == half] for half in HALVES}
    rows = [_total(half, those) for half, those in {**groups, "all": list(found)}.items() if those]
    columns = (
        "half",
        "curable",
        "proved",
        "named",
        "incurable",
        "with claims",
        "median gradients",
        "median s",
    )
    return Table("Totals", columns, rows)


def _total(half: str, those: Sequence[Tried]) -> tuple[object, ...]:
    curable = [one for one in those if BY_NAME[one.name].cause not in INCURABLE]
    rest = [one for one in those if BY_NAME[one.name].cause in INCURABLE]
    costs = [one.gradients for one in curable if one.tried] or [0.0]
    return (
        half,
        len(curable),
        f"{sum(one.proved for one in curable) / max(len(curable), 1):.1%}",
        f"{sum(one.named for one in curable) / max(len(curable), 1):.1%}",
        len(rest),
        sum(one.claims > 0 for one in rest),
        statistics.median(costs),
        statistics.median([one.seconds for one in curable if one.tried] or [0.0]),
    )


def by_cause(found: Sequence[Tried]) -> Table:
    """Give one row for each label."""
    rows = []
    for cause in Cause:
        those = [one for one in found if BY_NAME[one.name].cause is cause]
        if not those:
            continue
        first = [one.remedies[0][0] for one in those if one.proved]
        counted = ", ".join(f"{name} {first.count(name)}" for name in dict.fromkeys(first))
        proved = sum(one.proved for one in those)
        named = "-" if cause in INCURABLE else f"{sum(one.named for one in those)}"
        rows.append((cause, len(those), proved, named, counted))
    return Table("Labels", ("label", "trainings", "proved", "named", "first remedies"), rows)


def answers(found: Sequence[Tried]) -> Table:
    """Give one row for each training."""
    rows = [
        (
            one.name,
            one.seed,
            BY_NAME[one.name].cause,
            one.said or "not sure",
            _shown(one),
            "" if BY_NAME[one.name].cause in INCURABLE else ("yes" if one.named else "NO"),
            one.gradients,
            one.seconds,
        )
        for one in found
    ]
    columns = ("case", "seed", "label", "answer", "remedies: gain (interval)", "named", "gradients", "s")
    return Table("Trainings", columns, rows)


def _shown(one: Tried) -> str:
    each = (f"{name} {gain:.3g} ({low:.3g} to {high:.3g})" for name, gain, low, high in one.remedies)
    return "; ".join(each) or one.note[:80]


def _line(one: Tried) -> str:
    label = BY_NAME[one.name].cause
    good = not one.claims if label in INCURABLE else one.named
    said = one.said or "not sure"
    return f"{'ok ' if good else 'NO '} {one.name} seed {one.seed} [{label}] said {said}: {_shown(one)}"
