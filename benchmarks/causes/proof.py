"""Every label of the benchmark proved by intervention: what each change gains from where the run is stuck.

Each run is continued from the very same state, on the same batches in the same order, for the same number of steps
(four epochs, but 80 to 160 steps), once as it is and once under each change. A step is one gradient; with eight
batches or all data in a step, one step still counts as one (unless that takes too long: then there are fewer).
The loss is the mean over the training data at five moments of the last fifth.

*Fall* is the relative decrease since the start; *gain* is what a change ends below going on, relative to it.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import cache

import torch
from joblib import Parallel, delayed

from benchmarks.causes import facts
from benchmarks.causes.archive import kept
from benchmarks.causes.case import Case
from benchmarks.causes.catalogue import chosen
from benchmarks.causes.changes import GOING_ON, OPTIMIZERS, OTHERS, RATES, REMEDY, Change
from benchmarks.causes.continuing import Outcome, Run, beginning, finish
from benchmarks.causes.criteria import NEEDED, Check, Evidence, judge
from benchmarks.causes.results import keep
from benchmarks.tables import Table
from unstuck import Cause

COLUMNS = (GOING_ON, REMEDY, *RATES, *OPTIMIZERS, *OTHERS)


@dataclass(frozen=True)
class Proved:
    """A case at one seed, held to its label; `error` says why it could not be."""

    case: str
    cause: Cause
    seed: int
    evidence: Evidence | None
    checks: dict[Cause, tuple[Check, ...]]
    seconds: float
    error: str = ""

    @property
    def holds(self) -> bool:
        """Whether every statement is true, of every cause it is labelled with."""
        return bool(self.checks) and all(check.holds for checks in self.checks.values() for check in checks)


def main(arguments: argparse.Namespace) -> None:
    """Prove the cases asked for, print the tables, and keep them if asked to."""
    pairs = [(case.name, seed) for case in chosen(arguments) for seed in range(arguments.seeds)]
    jobs = (
        delayed(prove)(name, seed, quick=arguments.quick, afresh=arguments.afresh) for name, seed in pairs
    )
    found: list[Proved] = []
    for one in Parallel(n_jobs=arguments.jobs, return_as="generator")(jobs):
        found.append(one)
        print(_line(one), flush=True)
    tables = [summary(found), statements(found), losses(found)]
    if arguments.verbose:
        print("\n".join(map(str, tables)))
    if arguments.write:
        print(keep("causes-proof", "causes prove", __doc__ or "", tables))


def prove(name: str, seed: int, *, quick: bool = False, afresh: bool = False) -> Proved:
    """Gather the evidence of one case at one seed, and hold its labels to it."""
    case = chosen(argparse.Namespace(names=[name], half=None))[0]
    start = time.perf_counter()
    try:
        evidence = gather(case, seed, quick=quick, afresh=afresh)
        checks = {cause: tuple(judge(evidence, cause)) for cause in (case.cause, *sorted(case.also))}
    except Exception as error:  # a case that cannot be run is a result, and the others go on
        return Proved(name, case.cause, seed, None, {}, time.perf_counter() - start, _short(error))
    return Proved(name, case.cause, seed, evidence, checks, time.perf_counter() - start)


def summary(found: list[Proved]) -> Table:
    """Which labels hold, at how many seeds."""
    rows = []
    for name in dict.fromkeys(one.case for one in found):
        those = [one for one in found if one.case == name]
        held = sum(one.holds for one in those)
        failing = "; ".join(dict.fromkeys(_failing(one) for one in those if not one.holds))
        rows.append(
            (
                name,
                those[0].cause,
                f"{held} of {len(those)}",
                failing,
                statistics.mean(o.seconds for o in those),
            )
        )
    return Table("Labels", ("case", "label", "proved", "what fails", "seconds"), rows)


def statements(found: list[Proved]) -> Table:
    """Every statement of every proof."""
    rows = [
        (one.case, one.seed, cause, check.text, check.value, "yes" if check.holds else "NO")
        for one in found
        for cause, checks in one.checks.items()
        for check in checks
    ]
    return Table("Statements", ("case", "seed", "label", "statement", "value", "holds"), rows)


def losses(found: list[Proved]) -> Table:
    """The loss that each change ends with."""
    rows = []
    for one in found:
        if one.evidence is None:
            continue
        ends = one.evidence.outcomes
        values = [ends[name].end if name in ends else None for name in COLUMNS]
        held = ends[GOING_ON].held
        rows.append((one.case, one.seed, ends[GOING_ON].start, *values, held))
    return Table("Losses", ("case", "seed", "start", *COLUMNS, "held out"), rows)


def _line(one: Proved) -> str:
    head = f"{'ok ' if one.holds else 'NO '} {one.case} [{one.cause}] seed {one.seed}, {one.seconds:.0f} s"
    if one.error:
        return f"{head}: {one.error}"
    checks = [check for those in one.checks.values() for check in those]
    return head + "".join(
        f"\n      {'  ' if check.holds else 'NO'} {check.text}: {check.value:.3g}" for check in checks
    )


def _failing(one: Proved) -> str:
    failed = [check for those in one.checks.values() for check in those if not check.holds]
    return one.error or ", ".join(f"{check.text}: {check.value:.3g}" for check in failed)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.160}"


def gather(case: Case, seed: int, *, quick: bool = False, afresh: bool = False) -> Evidence:
    """Continue a case under every change, or only under those that its label asks for, and measure its state."""
    torch.set_num_threads(1)
    run = cache(lambda: beginning(case.training(seed)))
    every: dict[str, Change] = RATES | OPTIMIZERS | OTHERS
    wanted = [name for name in every if not quick or name in NEEDED.get(case.cause, ())]
    outcomes: dict[str, Outcome] = {}
    for name in (GOING_ON, *wanted):
        change = every.get(name, _unchanged)
        outcomes[name] = kept(case, seed, name, lambda to=change: finish(to(run().copy())), afresh=afresh)
    if case.remedy is not None:
        outcomes[REMEDY] = kept(
            case, seed, REMEDY, lambda: finish(beginning(case.remedied(seed))), afresh=afresh
        )
    return Evidence(outcomes, kept(case, seed, "facts", lambda: _facts(case, seed, run()), afresh=afresh))


def _unchanged(run: Run) -> Run:
    return run


def _facts(case: Case, seed: int, run: Run) -> dict[str, float | None]:
    causes = {case.cause, *case.also}
    found: dict[str, float | None] = {}
    if causes & {Cause.SADDLE_POINT, Cause.LOCAL_MINIMUM, Cause.LOCAL_MAXIMUM}:
        found["lambda_min"], found["lambda_max"] = facts.curvature(run)
    if Cause.PLATEAU in causes:
        cured = beginning(case.remedied(seed))
        found["gradient ratio to cured"] = _norm(run) / _norm(cured)
        sizes = [max(map(abs, facts.curvature(one))) for one in (run, cured)]
        found["curvature ratio to cured"] = sizes[0] / sizes[1]
    if Cause.NON_FINITE in causes:
        found["not finite"] = facts.not_finite(run)
    if Cause.VANISHING_GRADIENT in causes:
        found["gradient ratio"] = facts.gradient_ratio(run.copy())
    if Cause.DEAD_UNITS in causes:
        found["dead share"] = facts.dead_share(run.copy())
    if Cause.SATURATED_UNITS in causes:
        found["saturated share"] = facts.saturated_share(run.copy())
    if Cause.UNINFORMATIVE_LABELS in causes:
        found["learnable"] = facts.learnable(run)
        found["learnable, cured"] = facts.learnable(beginning(case.remedied(seed)))
    return found


def _norm(run: Run) -> float:
    return float(sum(part.square().sum() for part in facts.gradients(run.copy()).values())) ** 0.5
