"""What is said of the rates of eight other trainings, tuned and off: `python -m benchmarks.batch.rates [NAME]`."""

import sys

import torch

import unstuck
from benchmarks.batch.others import by_sweep, others
from benchmarks.batch.tasks import training
from benchmarks.tables import Table
from unstuck.errors import UnstuckError

BUDGET = 20.0
FACTORS = (0.05, 0.5, 1.0, 2.0, 20.0)
NAME = sys.argv[1] if len(sys.argv) > 1 else ""


def said(brought: unstuck.Training) -> str:
    """The answer, with the best rate as a multiple of the run's own."""
    try:
        decision = unstuck.batch_size(brought, budget=BUDGET).sizing.decision
    except UnstuckError as error:
        return f"refused: {str(error)[:40]}"
    return f"{decision.answer} ({decision.rate:.2g})" if decision.rate else str(decision.answer)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for task in map(by_sweep, [task for task in others() if NAME in task.name]):
        rows.append((task.name, f"{task.rate:.3g}", *[said(training(task, factor)) for factor in FACTORS]))
        print(rows[-1], flush=True)
    print(
        Table(
            "Rates",
            ("task", "tuned", *[f"x{factor:g}" for factor in FACTORS]),
            rows,
            f"Budget {BUDGET:.0f} s.",
        )
    )


if __name__ == "__main__":
    main()
