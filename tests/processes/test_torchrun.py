"""`torchrun -m unstuck diagnose` as the documentation shows it, and what happens when a process fails."""

import json
import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from starting import torchrun
from torch import nn

from unstuck.watching.defaults import FOLDER
from unstuck.watching.files.reading import read

PAGE = Path(__file__).parents[2] / "docs" / "processes.md"
DDP, SHARDED = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


def diagnosed(source: str, folder: Path, *options: str):
    return together(source, folder, "diagnose", *options)


def together(source: str, folder: Path, command: str, *options: str):
    (folder / "train.py").write_text(source)
    return torchrun("-m", "unstuck", command, "train.py:setup", *options, cwd=folder)


def test_the_documented_setup_of_ddp_is_diagnosed_and_treated_by_all_as_one(tmp_path):
    ended = diagnosed(DDP, tmp_path, "--json", "-", "--html", "page.html", "--budget", "25s")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)  # so one process has written, and nothing else
    assert document["cause"] == "saddle-point"
    assert document["sample"]["examples"] == 512
    assert document["division"] == {
        "processes": 2,
        "examples": [256, 256],
        "same_data": False,
        "parameters": None,
    }
    assert document["point"]["lambda_min"] < 0.0
    assert document["cost"]["engine"] == "retained"
    assert document["layers"] is not None
    assert not document["omitted"]
    escapes = [remedy for remedy in document["trials"]["tried"] if remedy["name"] == "escape"]
    assert escapes
    assert "2 processes; the data divided into 256 examples each" in (tmp_path / "page.html").read_text()


def test_the_documented_setup_of_fully_shard_is_diagnosed(tmp_path):
    ended = diagnosed(SHARDED, tmp_path, "--no-trials", "--budget", "25s", "--json", "found.json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads((tmp_path / "found.json").read_text())
    assert document["cause"] == "saddle-point"
    assert document["subject"]["model"] == "Sequential"
    assert document["division"]["parameters"] == [737, 737]
    assert document["cost"]["engine"] == "differences"
    assert not document["omitted"]  # what looks into the model is made on one that is put together again
    assert document["layers"] is not None
    said = " ".join(ended.stdout.split())  # lines are broken where the terminal ends
    assert said.count("the parameters divided into 737 numbers each (fully_shard)") == 1


@pytest.mark.parametrize(
    ("source", "command"), [(DDP, ("treat", "--remedy", "escape", "--more", "20")), (SHARDED, ("escape",))]
)
def test_a_run_of_several_processes_is_got_moving_and_its_checkpoint_is_that_of_one(
    source, command, tmp_path
):
    ended = together(source, tmp_path, *command, "--steps", "2", "--out", "moved.pt", "--budget", "12s")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "wrote moved.pt"
    before, after = map(float, re.findall(r"^loss (\S+) -> (\S+)", ended.stdout, flags=re.MULTILINE)[0])
    assert before == pytest.approx(math.log(2.0), rel=1e-2)  # two steps of the last bias
    assert after < 0.8 * before
    network = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 2))
    state = torch.load(tmp_path / "moved.pt", weights_only=True)["model_state_dict"]
    network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    torch.manual_seed(0)
    inputs = torch.randn(512, 20)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network(inputs), (inputs[:, 0] + inputs[:, 1] > 0).long())
    assert float(loss) == pytest.approx(after, rel=0.3, abs=1e-3)


def test_a_failure_in_one_process_is_one_line(tmp_path):
    source = "import os\n" + DDP.replace(
        "    torch.manual_seed(0)\n",
        "    if os.environ['RANK'] == '1':\n        raise OSError('no such folder here')\n",
    )
    ended = diagnosed(source, tmp_path)
    assert ended.returncode != 0
    assert not ended.stdout
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: process 1: setup() of train.py failed at")
    assert errors[0].endswith("OSError: no such folder here")


def test_a_process_that_is_killed_ends_all_with_a_line(tmp_path):
    source = "import os, signal\nfrom pathlib import Path\n" + DDP.replace(
        "loss=unstuck.supervised(nn.CrossEntropyLoss())", "loss=loss"
    )
    source += """

def loss(model, batch):
    if distributed.get_rank() == 1:
        with Path("calls").open("a") as calls:  # what is counted in memory is put back
            calls.write(".")
            if calls.tell() > 60:
                os.kill(os.getpid(), signal.SIGKILL)
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
"""
    ended = diagnosed(source, tmp_path, "--no-trials")
    assert ended.returncode != 0
    assert not ended.stdout
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert errors == ["error: process 0: another process has ended or does not answer, and so ends this one"]


WATCHED = """
import hashlib

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

distributed.init_process_group("gloo")
number = distributed.get_rank()
told = hashlib.sha256()
for divide in (DistributedDataParallel, fully_shard):
    torch.manual_seed(0)
    model = divide(nn.Sequential(nn.Linear(20, 33), nn.Tanh(), nn.Linear(33, 2)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs = torch.randn(512, 20)
    labels = (inputs[:, 0] > 0).long()
    for step in range(320):
        chosen = torch.randperm(512)[number::2][:16]
        loss = nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for parameter in model.parameters():
        held = parameter.detach()
        told.update((held.to_local() if divide is fully_shard else held).numpy().tobytes())
print(f"process {number}: {told.hexdigest()}\\n", end="")
distributed.destroy_process_group()
"""


def test_runs_of_several_processes_are_watched_and_come_to_the_same_weights(tmp_path):
    (tmp_path / "train.py").write_text(WATCHED)
    alone = torchrun("train.py", cwd=tmp_path)
    ended = torchrun("-m", "unstuck", "run", "--share=0.5", "train.py", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == sorted(alone.stdout.splitlines())
    said = [line for line in ended.stderr.splitlines() if line.startswith("unstuck")]
    assert len(said) == 1  # by one process, and nothing went wrong
    assert "320 steps recorded" in said[0]
    whole, divided = read(tmp_path / FOLDER).optimizers
    assert (whole.parameters, divided.parameters) == (761, 761)
    assert whole.looks
    assert not divided.looks  # without the others there is no model
    # The length of all weights, from the half of them that this process holds; at the same step.
    with closing(sqlite3.connect(next((tmp_path / FOLDER).glob("*.sqlite")))) as store:
        lengths = dict(store.execute("SELECT optimizer, weight_norm FROM samples WHERE step = 3"))
    assert lengths[1] == pytest.approx(lengths[0], rel=0.1)
