"""What `diagnose` says of the labelled trainings.

An answer is right when its cause is the label, or one of the few others that are proved just as true of the case; no
answer ("not sure") and an exception count as wrong. A false alarm is any cause named for a healthy run but `healthy`.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from joblib import Parallel, delayed

from benchmarks.causes.calibration import calibration, drawn
from benchmarks.causes.catalogue import BY_NAME, HALF_OF, HALVES, chosen
from benchmarks.causes.results import keep
from benchmarks.tables import RESULTS, Table
from unstuck import Cause, diagnose

_NAMED = 0.5  # a finding at less is not named


@dataclass(frozen=True)
class Scored:
    """What came back for a case at one seed.

    Attributes:
        name: Of the case.
        seed: Of its setup.
        cause: The answer; None: not sure, or failed.
        confidence: Of the answer.
        named: All findings, the strongest first, with their confidences.
        gradients: What it cost.
        seconds: Of wall time, the setup apart.
        error: Of the exception, if there was one.
    """

    name: str
    seed: int
    cause: Cause | None
    confidence: float
    named: tuple[tuple[Cause, float], ...]
    gradients: float
    seconds: float
    error: str = ""

    @property
    def right(self) -> bool:
        """Whether the answer is the label, or just as true."""
        case = BY_NAME[self.name]
        return self.cause is not None and self.cause in {case.cause, *case.also}

    @property
    def among(self) -> bool:
        """Whether the label is among the findings."""
        case = BY_NAME[self.name]
        return self.right or any(
            cause in {case.cause, *case.also} and confidence >= _NAMED for cause, confidence in self.named
        )


def main(arguments: argparse.Namespace) -> None:
    """Score the cases asked for, print the tables, and keep them if asked to."""
    pairs = [(case.name, seed) for case in chosen(arguments) for seed in range(arguments.seeds)]
    found: list[Scored] = []
    for one in Parallel(n_jobs=arguments.jobs, return_as="generator")(
        delayed(score)(*pair) for pair in pairs
    ):
        found.append(one)
        print(_line(one), flush=True)
    tables = [totals(found), by_cause(found), answers(found), calibration(_answered(found))]
    print("\n" + "\n".join(map(str, tables)))
    if arguments.write:
        figure = RESULTS / "causes-calibration.svg"
        figure.write_text(drawn(_answered(found)), encoding="utf-8")
        extra = f"![Calibration]({figure.name})"
        print(keep("causes-score", "causes score", __doc__ or "", tables, extra))


def score(name: str, seed: int) -> Scored:
    """Ask `diagnose` for the cause of one case at one seed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    try:
        training = BY_NAME[name].training(seed)
        start = time.perf_counter()
        verdict = diagnose(training, seed=seed, trials=False).verdict
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split()):.120}"
        return Scored(name, seed, None, 0.0, (), 0.0, time.perf_counter() - start, words)
    seconds = time.perf_counter() - start
    named = tuple((finding.cause, finding.confidence) for finding in verdict.findings)
    return Scored(name, seed, verdict.cause, verdict.confidence, named, verdict.cost.gradients, seconds)


def totals(found: Sequence[Scored]) -> Table:
    """Give one row for each half, and one for all."""
    groups = {half: [one for one in found if HALF_OF[one.name] == half] for half in HALVES}
    rows = [_total(half, those) for half, those in {**groups, "all": list(found)}.items() if those]
    columns = (
        *("half", "trainings", "right", "among the findings", "not sure", "exceptions"),
        *("false alarms", "of healthy", "median gradients", "median s", "worst s"),
    )
    return Table("Totals", columns, rows)


def _total(half: str, those: Sequence[Scored]) -> tuple[object, ...]:
    healthy = [one for one in those if BY_NAME[one.name].cause is Cause.HEALTHY]
    alarms = sum(one.cause not in (None, Cause.HEALTHY) for one in healthy)
    costs = [one.gradients for one in those if not one.error] or [0.0]
    return (
        half,
        len(those),
        f"{sum(one.right for one in those) / len(those):.1%}",
        f"{sum(one.among for one in those) / len(those):.1%}",
        sum(one.cause is None and not one.error for one in those),
        sum(bool(one.error) for one in those),
        alarms,
        len(healthy),
        statistics.median(costs),
        statistics.median(one.seconds for one in those),
        max(one.seconds for one in those),
    )


def by_cause(found: Sequence[Scored]) -> Table:
    """Give one row for each label, with what was answered in its place."""
    rows = []
    for cause in Cause:
        those = [one for one in found if BY_NAME[one.name].cause is cause]
        if those:
            wrong = [_answer(one) for one in those if not one.right]
            counted = ", ".join(f"{word} {wrong.count(word)}" for word in dict.fromkeys(wrong))
            rows.append((cause, f"{sum(one.right for one in those)} of {len(those)}", counted))
    return Table("Labels", ("label", "right", "answered instead"), rows)


def answers(found: Sequence[Scored]) -> Table:
    """Give one row for each training."""
    rows = [
        (
            one.name,
            one.seed,
            BY_NAME[one.name].cause,
            _answer(one),
            one.confidence,
            "yes" if one.right else "NO",
            ", ".join(f"{cause} {confidence:.2f}" for cause, confidence in one.named),
            one.gradients,
            one.seconds,
        )
        for one in found
    ]
    columns = ("case", "seed", "label", "answer", "confidence", "right", "findings", "gradients", "s")
    return Table("Answers", columns, rows)


def _answered(found: Sequence[Scored]) -> list[tuple[float, bool]]:
    return [(one.confidence, one.right) for one in found if one.cause is not None]


def _answer(one: Scored) -> str:
    return one.error or str(one.cause or "not sure")


def _line(one: Scored) -> str:
    mark = "ok " if one.right else "NO "
    label = BY_NAME[one.name].cause
    return f"{mark} {one.name} seed {one.seed} [{label}]: {_answer(one)} {one.confidence:.2f}, {one.seconds:.1f} s"
