"""Finished runs, kept in one SQLite file: whatever happens, they need not be made again."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType

from unstuck.plain import finite
from unstuck.study.records import Row, Settings, StudyError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    study TEXT NOT NULL,
    settings TEXT NOT NULL,  -- JSON, keys in order
    seed INTEGER NOT NULL,
    version TEXT NOT NULL,  -- of the code
    rows TEXT NOT NULL,  -- JSON
    seconds REAL NOT NULL,
    PRIMARY KEY (study, settings, seed, version)
)
"""

_WAIT = 30.0  # seconds for another process that writes to the same file


class Store:
    """The runs of all studies; a run is in it wholly or not at all.

    Raises:
        StudyError: The file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = sqlite3.connect(path, timeout=_WAIT)
            with self._file:
                self._file.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise StudyError(self._trouble(error)) from error

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def keep(
        self, study: str, settings: Settings, seed: int, version: str, rows: Sequence[Row], seconds: float
    ) -> None:
        """Write a finished run, in the place of one of the same name."""
        row = (study, key(settings), seed, version, json.dumps(finite([dict(row) for row in rows])), seconds)
        try:
            with self._file:
                self._file.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise StudyError(self._trouble(error)) from error

    def find(
        self, study: str, settings: Settings, seed: int, version: str
    ) -> tuple[tuple[Row, ...], float] | None:
        """Read a finished run and the seconds it took, if it is there."""
        query = "SELECT rows, seconds FROM runs WHERE (study, settings, seed, version) = (?, ?, ?, ?)"
        try:
            with closing(self._file.execute(query, (study, key(settings), seed, version))) as found:
                row = found.fetchone()
        except sqlite3.Error as error:
            raise StudyError(self._trouble(error)) from error
        return None if row is None else (tuple(json.loads(row[0])), row[1])

    def _trouble(self, error: sqlite3.Error) -> str:
        return f"finished runs cannot be kept in {self._path}: {error}; choose another folder with --out"


def key(settings: Settings) -> str:
    """Write settings so that equal ones are equal text."""
    return json.dumps(dict(settings), sort_keys=True, allow_nan=False)
