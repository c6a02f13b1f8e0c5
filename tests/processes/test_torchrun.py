"""`torchrun -m unstuck diagnose` as the documentation shows it, and what happens when a process fails."""

import json
import re
from pathlib import Path

from starting import torchrun

PAGE = Path(__file__).parents[2] / "docs" / "processes.md"
DDP, SHARDED = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


def diagnosed(source: str, folder: Path, *options: str):
    (folder / "train.py").write_text(source)
    return torchrun("-m", "unstuck", "diagnose", "train.py:setup", *options, cwd=folder)


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
