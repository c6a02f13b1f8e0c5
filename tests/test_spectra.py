"""`unstuck.spectrum` and `unstuck spectrum`: from a training, or a target, to the answer."""

import json
import sys

import pytest
import torch
from torch import nn

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck.cli import arguments, main
from unstuck.errors import MeasurementError, UnstuckError


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command in this process; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["spectrum", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    training = unstuck.Training(
        model, unstuck.supervised(nn.CrossEntropyLoss()), zoo.batches(16, 16, 16, 10), optimizer
    )
    for batch in training.data:
        optimizer.zero_grad()
        training.loss(model, batch).backward()
        optimizer.step()
    return training


def test_after_ctrl_c_what_was_known_is_there_and_the_training_as_it_was():
    training = small()

    def interrupting(stage, share):
        if "metric" in stage and share > 0.6:
            raise KeyboardInterrupt

    with unchanged(training):
        found = unstuck.spectrum(training, budget=60.0, progress=interrupting)
    assert found.interrupted
    assert [spread.name for spread in found.bending.spreads] == ["hessian"]
    assert json.loads(found.to_json())["metric"] is None


def test_the_same_seed_gives_the_same_answer():
    one, other = (unstuck.spectrum(small(), budget=60.0, seed=3).bending.spreads for _ in range(2))
    assert [spread.highest for spread in one] == [spread.highest for spread in other]


def test_an_optimizer_without_a_step_has_no_metric_and_says_why():
    training = small()
    training.optimizer.state.clear()
    found = unstuck.spectrum(training, budget=60.0)
    assert [omission.name for omission in found.bending.omitted] == ["metric"]
    assert "no step" in str(found)


@pytest.mark.parametrize(("settings", "named"), [({"budget": 0.0}, "budget"), ({"top": 0}, "top")])
def test_what_makes_no_sense_is_refused(settings, named):
    with pytest.raises(UnstuckError, match=named):
        unstuck.spectrum(small(), **settings)


def test_an_unknown_figure_is_told_with_those_there_are():
    found = unstuck.spectrum(small(), budget=60.0)
    assert not found.bending.omitted
    with pytest.raises(MeasurementError, match="hessian, metric"):
        found.figure("density")


def test_json_on_standard_output_is_nothing_but_the_document(run):
    code, out, err = run("demo:lecture", "--json", "-")
    assert code == 0
    document = json.loads(out, parse_constant=pytest.fail)
    assert (document["schema"], document["complete"]) == (1, True)
    assert document["lambda_min"]["value"] == pytest.approx(-2.0)
    assert document["lambda_max"]["value"] == pytest.approx(2.0)
    assert document["trace"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert document["minimum_ratio"]["value"] == 0.5
    assert document["certificate"]["probability"] == 1.0
    assert "eigenvalues of the Hessian" in err


def test_page_and_json_are_written_where_asked(run, tmp_path):
    code, out, err = run(
        "demo:lecture", "--top", "1", "--html", "out/page.html", "--json", "out/numbers.json"
    )
    assert code == 0
    assert "How does the loss bend here?" in out
    assert "wrote out/page.html" in err
    assert (tmp_path / "out/page.html").read_text().startswith("<!DOCTYPE html>")
    assert len(json.loads((tmp_path / "out/numbers.json").read_text())["hessian"]["lowest"]) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["demo:lecture", "--top", "0"], "top"), (["demo:nothing"], "nothing"), ([], "TARGET")],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, told):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
    assert "Traceback" not in err


def test_memory_is_typed_with_its_unit_and_caps_the_sample(run):
    """A tenth of the memory is for the data: of some bytes, so that one batch is all there is room for."""
    whole, capped = (
        json.loads(run("demo:saddle", "--budget", "5s", "--json", "-", *more)[1])
        for more in ((), ("--memory", "2kB"))
    )
    assert whole["sample"]["examples"] > capped["sample"]["examples"]


def test_a_part_and_a_pattern_that_means_nothing_on_the_command_line(run):
    _, out, _ = run("demo:saddle", "--only", "*.weight", "--budget", "5s", "--json", "-")
    subject = json.loads(out)["subject"]
    assert subject["only"] == ["*.weight"]
    assert 0 < subject["parameters"] < subject["trainable"]
    code, _, err = run("demo:saddle", "--only", "*.weight", "--only", "nothing.*")
    assert code == 2
    assert err.startswith("error: `only`: no trained parameter matches 'nothing.*'")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 5.12e8), ("24GB", 2.4e10), ("1.5GiB", 1.5 * 2**30), ("1 k", 1e3), ("7", 7.0)]
)
def test_sizes_are_read_with_their_units(text, size):
    assert arguments.size(text) == size


@pytest.mark.parametrize("text", ["much", "-1GB", "0", "12 PB", "1e9"])
def test_what_is_no_size_is_told_in_one_line(run, text):
    code, _, err = run("demo:saddle", "--memory", text)
    assert code == 2
    assert f"'{text}' is not a size" in err
