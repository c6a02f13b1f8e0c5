"""Recommend, then look: the range of sizes, the ratio of steps between sizes, and what is said of a wrong rate."""

import math
import sys
from statistics import median

import torch

import unstuck
from benchmarks.batch.tasks import tasks, training
from benchmarks.batch.truth import SIZES, Tuned, tuned
from benchmarks.tables import RESULTS, Table, versions

BUDGET = 45.0
# A task by a part of its name, where not all are wanted.
ONLY = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
NEAR, FAR = (0.5, 1.0, 2.0), (0.05, 20.0)


def by_hand(task: str, found: dict[int, Tuned], rate: float) -> list[tuple[object, ...]]:
    return [
        (
            task,
            size,
            f"{rate * 2 ** (each.halves / 2):.3g}",
            f"{each.steps:.0f}",
            f"{1000 * each.seconds:.2f}",
            f"{1000 * each.time:.0f}",
        )
        for size, each in found.items()
    ]


def error_of_ratios(decision: object, found: dict[int, Tuned]) -> float:
    """Median over sizes of the factor by which the predicted ratio of steps to those at 32 is off."""
    fit = decision.fit
    off = [
        abs(math.log((fit.updates(size) / fit.updates(32)) / (found[size].steps / found[32].steps)))
        for size in SIZES
        if size != 32 and math.isfinite(found[size].steps)
    ]
    return math.exp(median(off))


def main() -> None:
    torch.set_num_threads(1)
    hand, said = [], []
    for task in [task for task in tasks() if not ONLY or ONLY in task.name]:
        found = tuned(task)
        hand += by_hand(task.name, found, task.rate)
        print("\n".join(map(str, by_hand(task.name, found, task.rate))), flush=True)
        best = min(found, key=lambda size: found[size].time)
        for factor in (*NEAR, *FAR):
            decision = unstuck.batch_size(
                training(task, factor), budget=BUDGET, target=task.target
            ).sizing.decision
            inside = decision.low is not None and decision.low <= best <= decision.high
            said.append(
                (
                    task.name,
                    f"{factor:g}",
                    str(decision.answer),
                    "" if decision.low is None else f"{decision.low}-{decision.high}",
                    best,
                    "" if decision.low is None else "yes" if inside else "no",
                    "" if decision.fit is None else f"{decision.fit.critical:.0f}",
                    "" if decision.fit is None else f"{error_of_ratios(decision, found):.2f}",
                    f"{decision.rate:.2f}" if decision.rate else "",
                )
            )
            print(said[-1], flush=True)
    tables = [
        Table(
            "What is said",
            (
                "task",
                "rate",
                "answer",
                "sizes",
                "fastest by hand",
                "inside",
                "B_crit",
                "ratios off by",
                "best rate",
            ),
            said,
            f"The rate is a multiple of the tuned one at 32 examples; budget {BUDGET:.0f} s each; the best rate is a "
            "multiple of the run's own.",
        ),
        Table(
            "By hand", ("task", "size", "rate", "steps", "ms a step", "ms"), hand, "Rates to half an octave."
        ),
    ]
    print("\n".join(map(str, tables)))
    if "--write" in sys.argv:
        head = [
            "# Batch sizes, recommended and by hand",
            "`python -m benchmarks.batch --write`; one thread.",
            versions(),
        ]
        (RESULTS / "batch.md").write_text("\n\n".join([*head, *map(str, tables)]), encoding="utf-8")


if __name__ == "__main__":
    main()
