"""A command that is killed and asked again goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import unstuck
from unstuck import journal
from unstuck.errors import UnstuckError
from unstuck.objective import Objective, draw
from unstuck.remedies.run import Run

SCRIPT = """
import torch
import unstuck
from torch import nn


def setup():
    torch.manual_seed(0)
    inputs = torch.randn(2048, 400)
    targets = (inputs[:, :10].sum(dim=1) > 0).long()
    model = nn.Sequential(nn.Linear(400, 800), nn.Tanh(), nn.Linear(800, 800), nn.Tanh(), nn.Linear(800, 2))
    data = torch.utils.data.TensorDataset(inputs, targets)
    return unstuck.Training(
        model=model,
        loss=unstuck.supervised(nn.CrossEntropyLoss()),
        data=torch.utils.data.DataLoader(data, batch_size=128),
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-4),
    )
"""


def training(width: int = 16) -> unstuck.Training:
    torch.manual_seed(0)
    inputs, targets = torch.randn(64, 5), torch.randint(0, 2, (64,))
    model = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 2))
    batches = list(zip(inputs.split(16), targets.split(16), strict=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return unstuck.Training(model, unstuck.supervised(nn.CrossEntropyLoss()), batches, optimizer)


def objective(of: unstuck.Training) -> Objective:
    return Objective(of, draw(of.data, seed=0, enough=lambda *_: False).batches)


@pytest.fixture
def everything(monkeypatch):
    monkeypatch.setattr(journal, "_QUICK", 0.0)  # what these small models take counts as long


def test_what_is_recalled_is_what_was_made_to_the_bit(everything, tmp_path):
    first, second = objective(training()), objective(training())
    with journal.kept(tmp_path), first.products(first.theta) as products:
        vector = torch.ones_like(first.theta)
        made = (
            first.gradient(first.theta),
            products(vector),
            products.quotients(vector),
            first.value(first.theta),
        )
    evaluated = second.ledger.products

    def fail(*_):
        pytest.fail("it was evaluated again")

    with journal.kept(tmp_path), second.products(second.theta, memory=0.0) as products:
        products._product = products._quotients = second.replay.gradient = second.replay.value = fail
        again = (
            second.gradient(second.theta),
            products(vector),
            products.quotients(vector),
            second.value(second.theta),
        )
    assert second.ledger.products == evaluated + 2
    for one, other in zip(made, again, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.mark.parametrize("change", ["weights", "data", "mode", "model", "loss"])
def test_nothing_is_recalled_of_another_training(change, everything, tmp_path):
    of = training()
    with journal.kept(tmp_path):
        objective(of).gradient(objective(of).theta)
    names = {path.name for path in tmp_path.iterdir()}
    if change == "weights":
        with torch.no_grad():
            of.model[0].bias[0] += 1e-6
    elif change == "data":
        of.data[1][0][3, 2] += 1e-6
    elif change == "mode":
        of.model.eval()
    elif change == "model":
        of = training(width=17)
    else:
        of = unstuck.Training(of.model, lambda model, batch: model(batch[0]).square().mean(), of.data)
    with journal.kept(tmp_path):
        objective(of).gradient(objective(of).theta)
    fresh = {path.name for path in tmp_path.iterdir()} - names
    assert len(fresh) == (1 if change == "data" else 4)


def test_a_spectrum_that_was_killed_goes_on_where_it_was(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "unstuck", "spectrum", "train.py:setup", "--budget", "10s", "--top", "2"]
    command += ["--resume", "kept", "--json", "found.json", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    kept = tmp_path / "kept"
    for _ in range(600):
        time.sleep(0.1)
        if started.poll() is not None or (kept.exists() and len(list(kept.glob("*.safetensors"))) >= 8):
            break
    assert started.poll() is None
    started.send_signal(signal.SIGKILL)
    started.wait()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.safetensors")}
    assert not (tmp_path / "found.json").exists()
    again = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    after = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.safetensors")}
    assert before.items() <= after.items()  # read, and not written again
    document = json.loads((tmp_path / "found.json").read_text())
    assert document["cost"]["products"] > 0


def test_trials_are_not_tried_again(tmp_path, monkeypatch):
    of = training()
    of.optimizer.param_groups[0]["lr"] = 1e-6
    first = unstuck.diagnose(of, budget=30.0, resume=tmp_path).verdict.trials
    steps = []
    monkeypatch.setattr(Run, "step", lambda *_: steps.append(1))
    second = unstuck.diagnose(of, budget=30.0, resume=tmp_path).verdict.trials
    assert first.tried
    later = {(each.name, each.change): each for each in second.tried}  # more orders may rank them otherwise
    for before in first.tried:
        after = later[before.name, before.change]
        assert after.curves[: len(before.curves)] == before.curves
    assert bool(steps) == (
        second.orders > first.orders
    )  # a busy machine may have left some to the second run


@pytest.mark.parametrize(
    "content", ["", '{"key": "a"', "\x00\x01", '[1, 2]\n{"key": "b", "value": 3}\n{"key": "c", "va']
)
def test_what_a_killed_process_left_half_written_is_passed_over(content, tmp_path):
    (tmp_path / "numbers.jsonl").write_text(content)
    (tmp_path / "abc.safetensors").write_bytes(b"\x10\x00")
    held = journal.Journal(tmp_path)
    assert held.numbers("c", lambda: 5) == 5
    assert journal.Journal(tmp_path).numbers("c", lambda: pytest.fail("made again")) == 5
    made = held.tensors("abc", lambda: {"value": torch.ones(2)})
    assert torch.equal(made["value"], torch.ones(2))


def test_a_folder_that_is_none_gets_one_line(tmp_path):
    (tmp_path / "file").write_text("something")
    with pytest.raises(UnstuckError, match="`resume` must be a folder that can be written to") as caught:
        unstuck.diagnose(training(), resume=tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "something"


def test_a_full_disk_ends_the_keeping_and_not_the_command(everything, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "save_file", full)
    of = objective(training())
    with journal.kept(tmp_path), pytest.warns(UserWarning, match="nothing more is kept in .*No space left"):
        gradient = of.gradient(of.theta)
    assert torch.equal(gradient, of.gradient(of.theta))
    assert not list(tmp_path.glob("*.partial"))


def test_things_without_a_value_of_their_own_do_not_disturb_a_digest():
    assert journal.digest({"a": object()}) == journal.digest({"a": object()})
    assert journal.digest({"a": 1}) != journal.digest({"a": 2})
    assert journal.digest([torch.zeros(2)]) != journal.digest([torch.zeros(2, 1)])
    assert journal.digest(["ab", "c"]) != journal.digest(["a", "bc"])
