"""Where a run is written down: one SQLite file in WAL mode, by a thread of its own, twice a second.

What is committed survives a `kill -9`. Whatever goes wrong here, the training never hears of it: rows wait in
memory, up to a bound, until the disk takes them again.
"""

import json
import os
import socket
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from unstuck.errors import RunError
from unstuck.watching.files.schema import ABOUT, OPTIMIZERS, TABLES, VERSION, Table

# Seconds between two commits: at a kill no more than this is missing, and half a second is well below one.
PERIOD = 0.5

# While the file cannot be written to it is tried again less and less often, up to so many seconds.
_LONGEST_PERIOD = 16.0

# Rows that wait in memory when the disk is full: some hours of a usual run, and no more than a few dozen megabytes.
_MOST_WAITING = 200_000

# Values of one statement: below SQLite's limit of 32 766. Few statements, because at each of them Python's lock
# changes hands with the thread that trains.
_MOST_VALUES = 8_000

Row = tuple[object, ...]


class Store:
    """Rows go in by `put`, from any thread and at no cost but that of a queue; a thread writes them.

    Attributes:
        path: The file, wherever the run goes.
        name: The same as it was named, for whoever stands where the run began.
        gather: Is called by that thread before it writes, to put what there is; must not raise.
        closed: Whether it has been closed.

    Args:
        path: The file, which must not be there yet.
        about: What the run is: written first.
        say: Is told, in one line, when something is wrong with the file, and when it is well again.

    Raises:
        RunError: The file cannot be made.
    """

    def __init__(self, path: Path, about: Mapping[str, object], say: Callable[[str], None]) -> None:
        self.path = path.absolute()
        self.name = str(path)
        self._say = say
        self._waiting: dict[str, deque[Row]] = {table.name: deque(maxlen=_MOST_WAITING) for table in TABLES}
        self.gather: Callable[[], None] = _nothing
        self._failing, self._period = "", PERIOD
        self._stop = threading.Event()
        self.closed = False
        self._writing = threading.Lock()
        try:
            self._connection = _created(path)
            self._file = os.stat(path).st_ino  # noqa: PTH116 - beside what a flush asks
        except (sqlite3.Error, OSError) as error:
            msg = f"cannot make {path}: {_reason(error)}"
            raise RunError(msg) from error
        for key, value in {**_here(), **about, "state": "running"}.items():
            self.note(key, value)
        self.flush()
        self._thread = threading.Thread(target=self._write_on, name="unstuck-store", daemon=True)
        self._thread.start()

    def put(self, table: Table, row: Row) -> None:
        """Take a row."""
        self._waiting[table.name].append(row)

    def note(self, key: str, value: object) -> None:
        """Write down something about the run; what was said of the same key before is replaced."""
        self.put(ABOUT, (key, value if isinstance(value, str) else json.dumps(value)))

    def stop(self) -> None:
        """End the thread; from now on only the caller writes."""
        self._stop.set()
        self._thread.join(timeout=10 * PERIOD)

    def close(self, state: str) -> None:
        """Write what is left, and how the run ended."""
        self.closed = True
        self.stop()
        self.note("state", state)
        self.note("ended", datetime.now(UTC).isoformat(timespec="seconds"))
        self.flush()
        with self._writing:
            self._connection.close()

    @property
    def lacking(self) -> bool:
        """Whether rows could not be written, the last time it was tried."""
        return bool(self._failing)

    def flush(self) -> None:
        """Commit what waits."""
        self.gather()
        with self._writing:
            taken = [(table, self._taken(table)) for table in TABLES]
            try:
                self._look_for_the_file()
                with self._connection:
                    for table, rows in taken:
                        _insert(self._connection, table, rows)
            except (sqlite3.Error, OSError) as error:
                self._give_back(taken)
                self._complain(error)
            else:
                self._be_well()

    def _look_for_the_file(self) -> None:
        """SQLite would go on writing to a file that has been removed."""
        try:
            there = os.stat(self.path).st_ino  # noqa: PTH116 - as above
        except FileNotFoundError:
            there = None
        if there != self._file:
            msg = "it has been removed"
            raise OSError(msg)

    def _taken(self, table: Table) -> list[Row]:
        waiting, rows = self._waiting[table.name], list[Row]()
        try:
            while True:
                rows.append(waiting.popleft())
        except IndexError:
            return rows

    def _give_back(self, taken: Iterable[tuple[Table, list[Row]]]) -> None:
        for table, rows in taken:
            waiting = self._waiting[table.name]
            room = max(_MOST_WAITING - len(waiting), 0)
            waiting.extendleft(reversed(rows[-room:] if room else []))

    def _complain(self, error: Exception) -> None:
        reason = _reason(error)
        if reason != self._failing:
            self._say(f"cannot write to {self.name}: {reason}; the training goes on")
        self._failing = reason
        self._period = min(2.0 * self._period, _LONGEST_PERIOD)

    def _be_well(self) -> None:
        if self._failing:
            self._say(f"writing to {self.name} again")
        self._failing, self._period = "", PERIOD

    def _write_on(self) -> None:
        while not self._stop.wait(self._period):
            self.flush()


def new_path(folder: Path) -> Path:
    """Name a file for a run that starts now, unlike that of any other in the folder.

    Raises:
        RunError: The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {folder}: {_reason(error)}"
        raise RunError(msg) from error
    started = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    path, number = folder / f"{started}-{os.getpid()}.sqlite", 1
    while path.exists():  # another of this very process, begun in the same second
        number += 1
        path = folder / f"{started}-{os.getpid()}-{number}.sqlite"
    return path


def _created(path: Path) -> sqlite3.Connection:
    path.touch(exist_ok=False)
    connection = sqlite3.connect(path, check_same_thread=False, timeout=2 * PERIOD)
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode this survives a kill at any moment; what only a power cut could lose is the last commits.
    connection.execute("PRAGMA synchronous = NORMAL")
    with connection:
        for table in TABLES:
            connection.execute(table.create)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    return connection


def _insert(connection: sqlite3.Connection, table: Table, rows: list[Row]) -> None:
    insert = "INSERT OR REPLACE" if table in (ABOUT, OPTIMIZERS) else "INSERT"
    most = _MOST_VALUES // len(table.columns)
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        values = [value for row in part for value in row]
        connection.execute(table.insert(len(part)).replace("INSERT", insert, 1), values)


def _here() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "epoch": time.time(),
    }


def _nothing() -> None:
    """Have nothing to add."""


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or repr(error)
