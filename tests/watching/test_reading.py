import math
import os
import re
import socket
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from recordings import STEPS, changed, copied, handmade, killed, stuck
from unstuck.errors import RunError
from unstuck.watching.files.reading import COLUMNS, POINTS, read
from unstuck.watching.files.schema import TABLES, VERSION
from unstuck.watching.present import noise_scale
from unstuck.watching.watch import watch


@contextmanager
def nobody():
    """The rights of somebody who owns nothing: root may write everywhere."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def column(path, question):
    with closing(sqlite3.connect(path)) as connection:
        return [value for (value,) in connection.execute(question)]


def test_a_run_is_read_as_it_was_recorded():
    recorded = read(stuck())
    (course,) = recorded.optimizers
    losses = column(stuck(), "SELECT loss FROM steps ORDER BY step")
    assert recorded.state == "finished"
    assert course.steps == STEPS == len(losses)
    assert [part.mean for part in course.curve] == losses
    assert (course.name, course.model) == ("Adam", "Sequential")
    assert sum(sample.count for sample in course.samples) == len(column(stuck(), "SELECT step FROM samples"))
    assert len(course.layers.rows) == 2
    assert len(course.groups) == 2
    assert course.now.loss == pytest.approx(np.mean(losses[-20:]))
    assert recorded.stalled_since(0) is not None
    assert {"stall", "finding"} <= {event.kind for event in recorded.events}


def test_reading_leaves_nothing_beside_the_file():
    before = sorted(stuck().parent.iterdir())
    read(stuck())
    assert sorted(stuck().parent.iterdir()) == before


def test_a_long_run_is_thinned_with_its_means_and_extremes_kept(tmp_path):
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(2, 120_000)).tolist()
    steps = [
        (number, step + 1, 0.01 * step, 1 + number, loss, 0.1)
        for number in (0, 1)
        for step, loss in enumerate(losses[number])
    ]
    layers = [
        (0, 1 + 10 * sample, f"layer{layer}", 2.0, 4.0, 1.0) for sample in range(2_000) for layer in range(3)
    ]
    samples = [(0, 1 + 10 * sample, 0.1 * sample, *[1.0] * 12) for sample in range(2_000)]
    recorded = read(handmade(tmp_path / "long.sqlite", steps=steps, layers=layers, samples=samples))
    for course, own in zip(recorded.optimizers, losses, strict=True):
        assert len(course.curve) <= POINTS
        assert sum(part.count for part in course.curve) == (1 + course.number) * len(own)
        mean = math.fsum(part.mean * part.count for part in course.curve) / ((1 + course.number) * len(own))
        assert mean == pytest.approx(np.mean(own))
        assert min(part.low for part in course.curve) == min(own)
        assert max(part.high for part in course.curve) == max(own)
    first, second = recorded.optimizers
    assert len(first.samples) <= POINTS
    assert len(first.layers.steps) <= COLUMNS
    assert {ratio for layer in first.layers.rows for ratio in layer.ratios} == {0.25}
    assert second.samples == ()


def test_a_loss_that_is_no_number_is_missing_and_not_zero(tmp_path):
    losses = (1.0, math.nan, None, math.inf, 3.0)
    steps = [(0, step, float(step), 1, loss, None) for step, loss in enumerate(losses, 1)]
    (course,) = read(handmade(tmp_path / "broken.sqlite", steps=steps)).optimizers
    assert [part.mean for part in course.curve] == [1.0, None, None, None, 3.0]
    assert [part.missing for part in course.curve] == [0, 1, 1, 1, 0]
    assert course.now.rate is None
    assert course.now.loss == 2.0


def test_a_run_that_goes_on_is_running_and_grows(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
        watched._store.flush()

    with watch(model, optimizer, out=tmp_path) as watched:
        train(3)
        first = read(tmp_path)
        train(4)
        second = read(tmp_path)
    assert (first.state, first.steps) == ("running", 3)
    assert (second.state, second.steps) == ("running", 7)
    assert read(tmp_path).state == "finished"


def test_a_killed_run_is_read_with_its_log():
    path = killed()
    assert path.with_name(f"{path.name}-wal").exists()
    recorded = read(path)
    assert recorded.state == "killed"
    assert recorded.steps >= 200
    assert [part.last for part in recorded.optimizers[0].curve][-1] == recorded.steps


@pytest.fixture
def everybodys():
    """A folder that everybody may look into; those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="unstuck-tests-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder
        for inside in (folder, *folder.iterdir()):
            inside.chmod(0o755)


@pytest.mark.parametrize("run", [stuck, killed], ids=lambda run: run.__name__)
def test_a_run_is_read_where_nothing_may_be_written(everybodys, run):
    path = copied(run(), everybodys / "runs")
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    path.parent.chmod(0o555)
    before, steps = sorted(path.parent.iterdir()), read(run()).steps
    with nobody():
        assert read(path).steps == steps
    assert sorted(path.parent.iterdir()) == before


def test_a_folder_that_may_not_be_looked_into_is_said(everybodys):
    copied(stuck(), everybodys / "runs").parent.chmod(0o000)
    with nobody(), pytest.raises(RunError, match="Permission denied"):
        read(everybodys / "runs" / "any.sqlite")


def test_a_process_that_only_has_the_same_number_is_not_the_run(tmp_path):
    begun = psutil.Process().create_time()
    path = changed(
        copied(stuck(), tmp_path),
        ("UPDATE about SET value = 'running' WHERE key = 'state'",),
        ("UPDATE about SET value = ? WHERE key = 'pid'", str(os.getpid())),
    )
    assert (
        read(changed(path, ("UPDATE about SET value = ? WHERE key = 'epoch'", str(begun + 5)))).state
        == "running"
    )
    assert (
        read(changed(path, ("UPDATE about SET value = ? WHERE key = 'epoch'", str(begun - 60)))).state
        == "killed"
    )
    away = read(
        changed(path, ("UPDATE about SET value = ? WHERE key = 'host'", f"not-{socket.gethostname()}"))
    )
    assert away.state == "elsewhere"


def test_of_a_folder_the_newest_run_is_read(tmp_path):
    for name in ("20260102-030405-9", "20260102-030406-1", "20251231-235959-5"):
        copied(stuck(), tmp_path / "from").rename(tmp_path / f"{name}.sqlite")
    recorded = read(tmp_path)
    assert recorded.path.name == "20260102-030406-1.sqlite"
    assert [path.name for path in recorded.others] == ["20260102-030405-9.sqlite", "20251231-235959-5.sqlite"]


def _empty_folder(where):
    return where


def _not_sqlite(where):
    (where / "notes.txt").write_text("a text that is long enough to be no database" * 100)
    return where / "notes.txt"


def _another_database(where):
    return changed(where / "other.sqlite", ("CREATE TABLE t (x)",), (f"PRAGMA user_version = {VERSION + 7}",))


def _newer(where):
    return changed(copied(stuck(), where), (f"PRAGMA user_version = {VERSION + 1}",))


def _damaged(where):
    path = copied(stuck(), where)
    whole = path.read_bytes()
    path.write_bytes(whole[:12_288] + b"\xff" * (len(whole) // 2 - 12_288))
    return path


def _without_a_table(where):
    return changed(copied(stuck(), where), ("DROP TABLE looks",))


def _without_steps(where):
    return handmade(where / "none.sqlite")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda where: where / "nowhere.sqlite", "there is no run"),
        (_empty_folder, "there is no run in the folder"),
        (_not_sqlite, "is not a run that unstuck recorded"),
        (_another_database, "is not a run that unstuck recorded"),
        (_newer, f"its schema is version {VERSION + 1}, this one reads up to version {VERSION}; update with"),
        (_damaged, "is damaged"),
        (_without_a_table, "is damaged: it has no table looks"),
        (_without_steps, "no step was recorded"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, make, says):
    with pytest.raises(RunError, match=says) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_error_of_a_noise_scale_is_its_spread_over_repetitions():
    rng = np.random.default_rng(0)

    def once():
        signal, noise = rng.normal(1.0, 0.5, 100), rng.normal(5.0, 2.0, 100)
        return noise_scale(list(zip(range(100), signal.tolist(), noise.tolist(), strict=True)))

    found = [once().value for _ in range(300)]
    values, errors = [one.value for one in found], [one.stderr for one in found]
    assert np.mean(values) == pytest.approx(5.0, rel=0.03)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_where_the_signal_may_be_nothing_the_noise_scale_is_only_bounded_from_below():
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(0.01, 1.0, 50).tolist(), [10.0] * 50
    scale = noise_scale(list(zip(range(50), signal, noise, strict=True)))
    assert scale.value is None
    assert 10.0 < scale.at_least < 1_000.0
    assert noise_scale([(1, 1.0, 1.0), (2, None, 1.0), (3, 1.0, None)]) is None


def test_where_every_gradient_is_zero_there_is_no_noise_scale():
    assert noise_scale([(step, 0.0, 0.0) for step in range(50)]) is None
    assert noise_scale([(step, 0.0, 1.0) for step in range(50)]) is None  # noise beyond all bounds
    assert noise_scale([(step, 1.0, 0.0) for step in range(50)]).value.value == 0.0


class TestTheDescriptionOfTheFile:
    text = (Path(__file__).parents[2] / "docs" / "run-store.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
    def test_names_every_column(self, table):
        part = self.text.split(f"## `{table.name}`")[1].split("\n## ")[0]
        assert [name for name in table.columns if f"`{name}`" not in part] == []

    def test_says_the_version(self):
        assert f"is the version of the schema: **{VERSION}**" in self.text

    def test_has_a_query_that_runs(self):
        (query,) = re.findall(r"```sql\n(.*?)```", self.text, re.DOTALL)
        with closing(sqlite3.connect(stuck())) as connection:
            assert [row[1] for row in connection.execute(query)] == [*range(0, 1000, 100)]
