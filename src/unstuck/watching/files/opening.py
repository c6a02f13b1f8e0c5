"""Finding and opening a run's file, also while it is written, after a kill, and where nothing may be written."""

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from unstuck.errors import RunError
from unstuck.watching.files.schema import TABLES, VERSION

# Seconds to wait for a writer; it holds the file for milliseconds.
_PATIENCE = 5.0

_NAME = re.compile(r"(\d{8}-\d{6})-\d+")


def find(run: str | Path) -> tuple[Path, tuple[Path, ...]]:
    """Give the file of a run, and those of the others beside it if a folder was named, the newest first.

    Raises:
        RunError: There is none.
    """
    try:
        return _found(Path(run).expanduser())
    except OSError as error:
        msg = f"cannot look for a run at {run}: {error.strerror}"
        raise RunError(msg) from error


def _found(path: Path) -> tuple[Path, tuple[Path, ...]]:
    if path.is_file():
        return path, ()
    if not path.is_dir():
        msg = f"there is no run {path}: name the file of a run, or the folder that `unstuck run` writes to"
        raise RunError(msg)
    files = sorted((file for file in path.glob("*.sqlite") if file.is_file()), key=_begun, reverse=True)
    if not files:
        msg = f"there is no run in the folder {path}: `unstuck run --out {path} SCRIPT` puts one there"
        raise RunError(msg)
    return files[0], tuple(files[1:])


@contextmanager
def opened(path: Path) -> Generator[sqlite3.Connection]:
    """Open it to be read, as it is at this moment: what is written meanwhile is not seen.

    Raises:
        RunError: It cannot be read, is no run, or one of a newer version.
    """
    try:
        with _connected(path) as connection:
            _check(connection, path)
            yield connection
    except sqlite3.DatabaseError as error:
        raise RunError(_complaint(path, error)) from error


def known(connection: sqlite3.Connection, table: str, columns: Sequence[str]) -> list[str]:
    """Give these expressions as they can be selected: of columns that a file has not, since they came later, NULL."""
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    return [
        column if set(re.findall(r"[a-z_]{5,}", column)) - {"nullif"} <= there else "NULL"
        for column in columns
    ]


@contextmanager
def _connected(path: Path) -> Generator[sqlite3.Connection]:
    """In the way that leaves nothing behind and misses nothing.

    Without a write-ahead log nobody writes, and the file alone is all there is; to open it as a live one would leave
    a log beside it. With one, SQLite must lock a file beside it; where it may not, log and file are copied.
    """
    log = path.with_name(f"{path.name}-wal")
    if not log.exists():
        with _begin(path, "mode=ro&immutable=1") as connection:
            yield connection
        return
    try:
        with _begin(path, "mode=ro") as connection:
            yield connection
            return
    except sqlite3.OperationalError as error:
        if "unable to open" not in str(error) and "readonly" not in str(error):
            raise
    with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
        copy = Path(folder) / path.name
        try:
            shutil.copyfile(path, copy)
            shutil.copyfile(log, copy.with_name(log.name))
        except OSError as error:
            msg = f"cannot read {path}: {error.strerror}"
            raise RunError(msg) from error
        with _begin(copy, "mode=rw") as connection:
            yield connection


@contextmanager
def _begin(path: Path, mode: str) -> Generator[sqlite3.Connection]:
    uri = f"file:{quote(str(path.resolve()))}?{mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on nothing changes
        yield connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not {"about", "steps"} <= there or version == 0:
        msg = (
            f"{path} is not a run that unstuck recorded: it is {'another' if there else 'an empty'} database"
        )
        raise RunError(msg)
    if version > VERSION:
        msg = (
            f"{path} was written by a newer unstuck: its schema is version {version}, this one reads up to version "
            f"{VERSION}; update with `pip install --upgrade unstuck`"
        )
        raise RunError(msg)
    missing = {table.name for table in TABLES} - there
    if missing:
        msg = f"{path} is damaged: it has no table {', '.join(sorted(missing))}"
        raise RunError(msg)


def _complaint(path: Path, error: sqlite3.DatabaseError) -> str:
    said = str(error)
    if "not a database" in said:
        return f"{path} is not a run that unstuck recorded: it is no SQLite file"
    if isinstance(error, sqlite3.OperationalError) and "unable to open" in said:
        return f"cannot read {path}: it may not be opened"
    return f"{path} is damaged ({said}): `sqlite3 {path} .recover` writes out what is left of it"


def _begun(path: Path) -> tuple[float, str]:
    """When the run began, by the name it was given; else when it was last written to."""
    named = _NAME.match(path.name)
    try:
        if named:
            return datetime.strptime(named[1], "%Y%m%d-%H%M%S").astimezone().timestamp(), path.name
    except ValueError:
        pass
    return path.stat().st_mtime, path.name
