"""Figures kept under `benchmarks/results/`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.tables import RESULTS, Table, versions


def keep(name: str, command: str, about: str, tables: Sequence[Table], extra: str = "") -> Path:
    """Write tables with what they are about, the command that makes them, versions and date."""
    head = [
        f"# {about.splitlines()[0]}",
        "\n".join(about.splitlines()[2:]).strip(),
        f"`python -m benchmarks.{command} --write`, {datetime.now(UTC):%Y-%m-%d}; one thread a case.",
        versions(),
        extra,
    ]
    path = RESULTS / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join([*filter(None, head), *map(str, tables)]), encoding="utf-8")
    return path
