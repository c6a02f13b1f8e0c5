"""The past of a training from wherever it was written down: a table in a CSV file, or the file of a recorded run."""

import math
import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from unstuck.errors import RunError, TrainingError
from unstuck.history import History
from unstuck.watching.files.opening import find, known, opened
from unstuck.watching.files.reading import BROKEN

# What every SQLite file begins with (https://www.sqlite.org/fileformat.html, 1.3.1).
_MAGIC = b"SQLite format 3\x00"

_STEPS = "SELECT step, loss, {broken} > 0, rate FROM steps WHERE optimizer = ? ORDER BY step"


def read_history(path: str | Path) -> History:
    """Read a recorded run (its file, or the newest of a folder), or else a CSV file as `History.read` does.

    Raises:
        TrainingError: There is none, or it cannot be read.
    """
    if not _is_run(Path(path)):
        return History.read(path)
    try:
        return recorded_history(path)
    except RunError as error:
        msg = f"`history`: {error}"
        raise TrainingError(msg) from error


def recorded_history(run: str | Path) -> History:
    """Read loss, gradient norm and rate of a recorded run; of several optimizers, of the one that moves most.

    Raises:
        RunError: There is no such run, or none with a step.
    """
    path, _ = find(run)
    with opened(path) as connection:
        (broken,) = known(connection, "steps", (BROKEN,))
        number = _largest(connection)
        rows = connection.execute(_STEPS.format(broken=broken), (number,)).fetchall()
        if not rows:
            msg = f"no step was recorded in {path}"
            raise RunError(msg)
        norms = connection.execute(
            "SELECT step, gradient_norm FROM samples WHERE optimizer = ? AND gradient_norm IS NOT NULL",
            (number,),
        ).fetchall()
    steps = [step for step, _, _, _ in rows]
    return History(
        loss=[math.nan if loss is None and broken else loss for _, loss, broken, _ in rows],
        step=[float(step) for step in steps],
        gradient_norm=_at(steps, norms) if norms else None,
        learning_rate=[rate for _, _, _, rate in rows],
    )


def _is_run(path: Path) -> bool:
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:  # `History.read` says so
        return False


def _largest(connection: sqlite3.Connection) -> int:
    found = connection.execute(
        "SELECT optimizer FROM optimizers ORDER BY parameters DESC, optimizer LIMIT 1"
    ).fetchone()
    return int(found[0]) if found else 0


def _at(steps: Sequence[int], norms: Sequence[tuple[int, float]]) -> list[float | None]:
    """Put each sample to the row that its step is part of: late rows stand for several."""
    found: list[float | None] = [None] * len(steps)
    for step, norm in norms:
        if step <= steps[-1]:
            found[bisect_left(steps, step)] = norm
    return found
