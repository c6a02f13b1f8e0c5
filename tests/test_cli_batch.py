import json
import sys
from textwrap import dedent

import pytest

from unstuck.cli import main

SCRIPT = """
    import torch
    import unstuck
    from torch import nn

    def setup():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        x = torch.randn(400, 6)
        y = x[:, :1] * x[:, 1:2] + 0.3 * torch.randn(400, 1)
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 20, shuffle=True)
        print("this is printed while building")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return unstuck.Training(model, unstuck.supervised(nn.MSELoss()), data, optimizer)
"""


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "train.py").write_text(dedent(SCRIPT))

    def called(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["batch", *arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    yield called
    sys.modules.pop("train", None)


def test_the_answer_is_printed_and_written(run, tmp_path):
    code, out, err = run("train.py:setup", "--budget", "4s", "--html", "batch.html", "--json", "batch.json")
    assert code == 0
    assert "Every size" in out
    assert "this is printed" not in out
    assert "wrote batch.html" in err
    assert "<html" in (tmp_path / "batch.html").read_text()
    assert json.loads((tmp_path / "batch.json").read_text())["present"]["size"] == 20


def test_with_json_to_standard_output_there_is_nothing_but_the_document(run):
    code, out, _ = run("train.py:setup", "--budget", "10s", "--json", "-", "--to", "0.5")
    document = json.loads(out)
    assert code == 0
    assert {"recommended", "timing", "noise"} <= document.keys()
    assert document["noise"]["simple"]["value"] > 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train.py:setup", "--budget", "soon"), "soon"),
        (("nowhere.py:setup",), "nowhere.py"),
        (("train.py:setup", "--to", "low"), "'--to'"),
        (("train.py:setup", "--to", "nan"), "'nan' is not a finite loss"),
        (("train.py:setup", "--html", "."), "it is a folder"),
    ],
)
def test_bad_input_gets_one_line(run, arguments, said):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err
