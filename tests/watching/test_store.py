"""What is committed is there afterwards, and whatever goes wrong with the file, the training goes on."""

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from unstuck.errors import RunError
from unstuck.watching.files import schema
from unstuck.watching.files.store import Store, new_path

# Writes steps without end, says after each what has been done, and waits for nothing.
ENDLESS = """
import sys, time
from pathlib import Path
from unstuck.watching.files import schema
from unstuck.watching.files.store import Store
store = Store(Path(sys.argv[1]), {}, lambda line: None)
started = time.time()
for step in range(10**9):
    store.put(schema.STEPS, (0, step, time.time(), 1, 0.5, 0.1, 0))
    print(step, time.time(), flush=True)
    time.sleep(0.001)
"""


def rows(path, table="steps"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def store_in(folder, said=None):
    return Store(folder / "run.sqlite", {"script": "train.py"}, (said if said is not None else []).append)


@pytest.mark.slow
def test_after_a_kill_at_any_moment_at_most_the_last_second_is_missing(tmp_path):
    written = [count for number in range(10) for count in killed(tmp_path, range(5 * number, 5 * number + 5))]
    assert len(written) == 50
    assert sum(count > 0 for count in written) > 25  # most were killed in the midst of it


def killed(folder, numbers):
    paths = [folder / f"{number}.sqlite" for number in numbers]
    commands = [[sys.executable, "-c", ENDLESS, str(path)] for path in paths]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    for number, path, process in zip(numbers, paths, running, strict=True):
        process.stdout.readline()  # it has begun
        time.sleep(0.05 + 0.37 * number % 0.6)
        process.kill()
        when = time.time()
        said = process.stdout.read()
        done = [
            line.split() for line in said[: said.rfind("\n") + 1].splitlines()
        ]  # the last may be cut short
        process.wait()
        process.stdout.close()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            steps = [step for (step,) in connection.execute("SELECT step FROM steps ORDER BY step")]
        assert steps == list(range(len(steps)))
        due = [int(step) for step, at in done if float(at) < when - 1.0]
        assert len(steps) > max(due, default=-1)
        yield len(steps)


def test_rows_are_there_half_a_second_later_for_whoever_reads_meanwhile(tmp_path):
    store = store_in(tmp_path)
    store.put(schema.STEPS, (0, 1, 0.1, 1, 2.5, 0.1, 0))
    deadline = time.monotonic() + 10.0
    while not rows(store.path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rows(store.path) == [(0, 1, 0.1, 1, 2.5, 0.1, 0)]
    store.close("finished")
    assert dict(rows(store.path, "about"))["state"] == "finished"


def test_a_folder_that_is_removed_is_told_once_and_is_no_error(tmp_path):
    said = []
    (tmp_path / "runs").mkdir()
    store = store_in(tmp_path / "runs", said)
    shutil.rmtree(tmp_path / "runs")
    for step in range(3):
        store.put(schema.STEPS, (0, step, 0.1, 1, 2.5, 0.1, 0))
        store.flush()
    store.close("finished")
    assert len(said) == 1
    assert "it has been removed; the training goes on" in said[0]


def test_when_the_disk_is_full_rows_wait_until_it_takes_them_again(tmp_path):
    said = []
    store = store_in(tmp_path, said)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    sent = [(0, step, 0.1, 1, 2.5, 0.1, 0) for step in range(20_000)]
    for row in sent:
        store.put(schema.STEPS, row)
    store.flush()
    store.flush()
    assert said == [f"cannot write to {store.path}: database or disk is full; the training goes on"]
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.close("finished")
    assert said[1:] == [f"writing to {store.path} again"]
    assert rows(store.path) == sent


def test_two_runs_in_one_folder_do_not_meet(tmp_path):
    one, other = new_path(tmp_path), new_path(tmp_path / "deeper" / "still")
    assert one.parent == tmp_path
    assert other.parent.is_dir()
    first = Store(one, {"script": "a"}, print)
    second = Store(new_path(tmp_path), {"script": "b"}, print)
    first.close("finished")
    second.close("finished")
    assert {dict(rows(store.path, "about"))["script"] for store in (first, second)} == {"a", "b"}


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make the folder .*file/runs: Not a directory"):
        new_path(tmp_path / "file" / "runs")


def test_nan_is_kept_as_null_and_infinity_as_itself(tmp_path):
    store = store_in(tmp_path)
    store.put(schema.STEPS, (0, 1, 0.1, 1, float("nan"), None, 1))
    store.put(schema.STEPS, (0, 2, 0.1, 1, float("inf"), None, 0))
    store.close("finished")
    assert [row[4] for row in rows(store.path)] == [None, float("inf")]


def test_the_schema_s_version_is_in_the_file(tmp_path):
    store = store_in(tmp_path)
    store.close("finished")
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
