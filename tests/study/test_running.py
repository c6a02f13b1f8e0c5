"""Runs are kept as they finish: what was interrupted goes on, to the same results."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from small import SLOW, SMALL

from unstuck.errors import UnstuckError
from unstuck.study.records import Holds, Scale, Table
from unstuck.study.running import run_study, work
from unstuck.study.store import Store, key


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.sqlite") as opened:
        yield opened


def test_the_table_has_every_run_with_its_settings_and_seed(store):
    result = run_study(SMALL, store, seeds=2)
    assert [(row["slope"], row["seed"]) for row in result.table] == [(1.0, 0), (1.0, 1), (-1.0, 0), (-1.0, 1)]
    assert (result.runs, result.kept, result.seeds) == (4, 0, 2)


def test_the_same_seeds_give_the_same_numbers_alone_and_side_by_side(store, tmp_path):
    with Store(tmp_path / "other.sqlite") as other:
        alone, beside = run_study(SMALL, store, jobs=1), run_study(SMALL, other, jobs=2)
    assert alone.table == beside.table


def test_a_surrounding_configuration_of_joblib_is_followed(store):
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert len(run_study(SMALL, store).table) == 6


def test_nothing_is_run_twice_with_resume_and_everything_without(store):
    first = run_study(SMALL, store, seeds=1)
    assert run_study(SMALL, store, seeds=3, resume=True).kept == 2
    assert run_study(SMALL, store, seeds=3, resume=True).kept == 6
    again = run_study(SMALL, store, seeds=1)
    assert again.kept == 0
    assert again.table == first.table


def test_runs_of_another_version_of_the_code_do_not_count(store, monkeypatch):
    run_study(SMALL, store, seeds=1)
    monkeypatch.setattr("unstuck.study.running.code_version", lambda: "another")
    assert run_study(SMALL, store, seeds=1, resume=True).kept == 0


def test_a_run_leaves_threads_and_generators_as_they_were():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    work(partial(drawn), ({}, 3))
    assert torch.equal(torch.get_rng_state(), before)


def drawn(settings, seed):
    return [{"drawn": torch.rand(()).item()}]


def test_what_is_not_finite_becomes_none(store):
    study = replace(SMALL, run=infinite, test=lambda table: ())
    assert all(row["value"] is None for row in run_study(study, store).table)


def infinite(settings, seed):
    return [{"value": float("inf")}]


def test_a_run_that_fails_is_named_in_one_line_and_what_was_finished_is_kept(store):
    study = replace(SMALL, run=failing)
    with pytest.raises(UnstuckError, match=r"\{'slope': -1.0\} and seed 0 failed: ZeroDivisionError"):
        run_study(study, store, seeds=1, jobs=1)
    with pytest.raises(UnstuckError):
        run_study(study, store, seeds=1, jobs=1, resume=True)
    assert sum(1 for _ in _rows(store)) == 1


def failing(settings, seed):
    return [{"y": 1 / (settings["slope"] + 1)}]


def _rows(store):
    return store._file.execute("SELECT * FROM runs")


def test_settings_are_the_same_in_any_order():
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1}) != key({"a": 1, "b": 3})


def test_a_file_that_is_no_store_is_one_clear_line(tmp_path):
    (tmp_path / "runs.sqlite").write_text("not a database, but something else\n" * 100)
    with pytest.raises(UnstuckError, match="choose another folder"):
        Store(tmp_path / "runs.sqlite")


SCRIPT = """
import sys
from pathlib import Path
from small import SLOW
from unstuck.study.running import run_study
from unstuck.study.store import Store
with Store(Path(sys.argv[1])) as store:
    run_study(SLOW, store, seeds=8, jobs=int(sys.argv[2]), resume=True)
"""


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_was_to_the_same_results(jobs, tmp_path):
    path = tmp_path / "runs.sqlite"
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, path, str(jobs)], env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while _finished(path) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = _finished(path)
    with Store(path) as store:
        resumed = run_study(SLOW, store, seeds=8, jobs=1, resume=True)
    with Store(tmp_path / "fresh.sqlite") as store:
        fresh = run_study(SLOW, store, seeds=8, jobs=1)
    assert 3 <= kept == resumed.kept < 16
    assert resumed.table == fresh.table
    assert resumed.outcomes == fresh.outcomes


def _finished(path):
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
            return file.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0


def test_a_study_holds_where_every_part_does(store):
    up = run_study(SMALL, store, scale=Scale.SMALL)
    assert up.holds is Holds.YES
    assert json.dumps(up.table.rows)
    down = SMALL.test(Table(tuple({**row, "y": -row["y"]} for row in up.table)))
    assert [outcome.holds for outcome in down] == [Holds.NO]
