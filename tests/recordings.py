"""Recorded runs for the tests of `unstuck show`: real trainings, each recorded once a session."""

import atexit
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path

import torch
from torch import nn

from unstuck.watching.files.schema import TABLES, VERSION
from unstuck.watching.watch import Watch

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"

# A point of the curve for each, and enough to call it stalled.
STEPS = 999

KILLED = """
import sys, torch
from unstuck.watching.watch import watch
torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
watched = watch(model, optimizer, out=sys.argv[1])
while True:
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
"""


@cache
def folder():
    made = Path(tempfile.mkdtemp(prefix="unstuck-tests-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def stuck():
    """A training on labels that nothing can predict: it stalls, and is looked into. All its names are hostile."""
    return _trained(nn.CrossEntropyLoss(), "stuck", {"script": HOSTILE, "arguments": [HOSTILE, "a b"]})


@cache
def short():
    """So short that there is next to nothing to show."""
    return _trained(nn.CrossEntropyLoss(), "short", {"script": "short.py"}, steps=3, share=0.0)


@cache
def killed():
    """A run that was killed, with its write-ahead log left behind."""
    out = folder() / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60.0
        while not (files := list(out.glob("*.sqlite"))) or _count(files[0]) < 200:
            assert time.monotonic() < deadline, "the run did not begin"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return files[0]


def copied(path, where):
    """A copy with its write-ahead log, if there is one."""
    where.mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, where / file.name)
    return where / path.name


def changed(path, *statements):
    """Change it: (SQL, values...)."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement, *values in statements:
            connection.execute(statement, values)
    return path


def handmade(path, **rows):
    """A store with these rows, by table; what they leave out at their end is not known."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in TABLES:
            connection.execute(table.create)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for table in TABLES:
            marks = ", ".join("?" * len(table.columns))
            insert = f"INSERT INTO {table.name} VALUES ({marks})"
            width = len(table.columns)
            full = ([*row, *[None] * (width - len(row))] for row in rows.get(table.name, ()))
            connection.executemany(insert, full)
    return path


def _count(path):
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM steps").fetchone()[0]
    except sqlite3.Error:
        return 0


def _trained(loss, name, about, *, steps=STEPS, share=0.5):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
    model.add_module(HOSTILE, nn.Linear(16, 4))
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-3}]
    optimizer = torch.optim.Adam(groups, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    inputs = torch.randn(64, 8)
    with Watch([optimizer], out=folder() / name, share=share, about=about, model=model, say=str) as watched:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(inputs), torch.randint(4, (64,))).backward()
            optimizer.step()
            schedule.step()
            time.sleep(0.0005)  # looks at the graph may take a share of the time only
    return watched.path
