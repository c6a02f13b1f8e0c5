"""Tables as Markdown: readable in a terminal, and kept under `results/`."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "curvlinops-for-pytorch",
    "hessian-eigenthings",
    "pyhessian",
    "transformers",
)


@dataclass(frozen=True)
class Table:
    """A heading, a sentence or two, and rows under column names."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def __str__(self) -> str:
        cells = [self.columns, *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(len(row[index]) for row in cells) for index in range(len(self.columns))]
        lines = [_line(row, widths) for row in cells]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        note = f"{self.note}\n\n" if self.note else ""
        return f"## {self.title}\n\n{note}" + "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def write(name: str, about: str, tables: Sequence[Table]) -> Path:
    """Write what a benchmark found, with the command that makes it, versions and date."""
    head = [
        f"# {about.splitlines()[0]}",
        f"`python -m benchmarks {name} --write`, {datetime.now(UTC):%Y-%m-%d}; one thread; CPU times.",
        versions(),
    ]
    path = RESULTS / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join([*head, *map(str, tables)]), encoding="utf-8")
    return path


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
