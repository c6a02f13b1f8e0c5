"""Tables as Markdown: readable in a terminal, and kept under `results/`."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "cockpit-for-pytorch",
    "curvlinops-for-pytorch",
    "gns-pytorch",
    "hessian-eigenthings",
    "landscaper",
    "loss-landscapes",
    "psd-optimizer",
    "pyhessian",
    "transformers",
)


@dataclass(frozen=True)
class Table:
    """A heading, a sentence or two, and rows under column names, of which the first `keys` say what was measured."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    note: str = ""
    keys: int = 2

    def __str__(self) -> str:
        cells = [self.columns, *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(len(row[index]) for row in cells) for index in range(len(self.columns))]
        lines = [_line(row, widths) for row in cells]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        note = f"{self.note}\n\n" if self.note else ""
        return f"## {self.title}\n\n{note}" + "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def write(name: str, about: str, tables: Sequence[Table], *, part: bool = False) -> Path:
    """Write what a benchmark found, with the command that makes it, versions and date.

    Of a run in `part`, the tables take the place of the rows of the same workload, seed and contestant; the others
    stay, but for their ratios.
    """
    summary, _, details = about.partition("\n")
    head = [
        f"# {summary}",
        f"`python -m benchmarks {name} --write`, {datetime.now(UTC):%Y-%m-%d}; one thread; CPU times.",
        versions(),
        details.strip(),
    ]
    path = RESULTS / f"{name}.md"
    if part and path.exists():
        head.append(
            "Measured in parts: what the last did not ask stands as it was, without ratio where ours is newer. "
            "Seconds compare only within a part."
        )
        tables = [_renewed(table, path.read_text(encoding="utf-8")) for table in tables]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join([*filter(None, head), *map(str, tables)]), encoding="utf-8")
    return path


def _renewed(table: Table, written: str) -> Table:
    """Put the rows of `table` in the place of those that were written of the same beginning."""
    _, _, after = written.partition(f"## {table.title}\n")
    lines = [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("|")]
    before = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    fresh = [[_cell(value) for value in row] for row in table.rows]
    keys = {tuple(row[: table.keys]) for row in fresh}
    beside = {key[:-1] for key in keys}
    kept = [row for row in before if tuple(row[: table.keys]) not in keys]
    # The last column compares with what was measured beside, which is now another.
    kept = [[*row[:-1], ""] if tuple(row[: table.keys - 1]) in beside else row for row in kept]
    return replace(table, rows=sorted([*fresh, *kept], key=lambda row: row[: table.keys - 1]))


def versions() -> str:
    """Name the versions of everything that takes part."""
    found = [f"Python {platform.python_version()}", sys.platform]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
