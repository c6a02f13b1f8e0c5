"""A script ends under `unstuck run` with the same weights, optimizer state and random state, to the bit."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parent / "scripts"
NAMES = ("plain", "momentum", "adam", "accumulation", "amp", "workers", "with_lightning", "with_transformers")


def run(script, where, *before):
    command = [sys.executable, *before, str(SCRIPTS / f"{script}.py"), str(where)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return torch.load(where, weights_only=False)


def assert_equal(one, other, path=""):
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f"{path}/{number}")
    else:
        assert one == other, path


@pytest.mark.slow
@pytest.mark.parametrize("script", NAMES)
def test_a_watched_script_ends_in_the_same_state_to_the_bit(script, tmp_path):
    alone = run(script, tmp_path / "alone.pt")
    # Half of the time for looks: so that each of these short runs is looked into.
    ours = ("-m", "unstuck", "run", "--share", "0.5", "--path", "5", "--out", str(tmp_path / "runs"))
    watched = run(script, tmp_path / "watched.pt", *ours)
    assert_equal(alone, watched)
    (store,) = (tmp_path / "runs").glob("*.sqlite")
    assert 3 <= len([*store.with_suffix(".path").iterdir()]) <= 6
    with closing(sqlite3.connect(store)) as connection:
        counted = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("steps", "samples", "looks")
        }
        errors = connection.execute("SELECT message FROM events WHERE kind IN ('error', 'note')").fetchall()
    assert all(counted.values()), counted
    assert errors == []
