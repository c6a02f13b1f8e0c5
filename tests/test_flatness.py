"""`unstuck.sharpness` and `unstuck sharpness`: from a training, or a target, to the answer."""

import json
import sys
from dataclasses import replace
from textwrap import dedent

import pytest
import torch
from torch import nn

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck.cli import main
from unstuck.demos import DEMOS
from unstuck.errors import MeasurementError, UnstuckError


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command in this process; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["sharpness", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    yield run
    sys.modules.pop("train", None)


def small(**more):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    return unstuck.Training(
        model, unstuck.supervised(nn.CrossEntropyLoss()), zoo.batches(16, 16, 16, 10), optimizer, **more
    )


def test_nothing_of_the_training_is_changed():
    training = small(validation=zoo.batches(8, 8))
    with unchanged(training):
        found = unstuck.sharpness(training, budget=20.0)
    assert found.survey.sample.stochastic
    assert found.survey.gradient.decayed is not None
    assert set(found.measures) >= {"lambda_max", "trace", "keskar", "sam", "asam"}


def test_the_same_seed_gives_the_same_answer():
    one, other = (unstuck.sharpness(small(), budget=60.0, seed=3).measures for _ in range(2))
    assert {name: m.value for name, m in one.items()} == {name: m.value for name, m in other.items()}


def test_after_ctrl_c_what_was_known_is_there_and_the_training_as_it_was():
    training = small()

    def interrupting(stage, share):
        if "box" in stage:
            raise KeyboardInterrupt

    with unchanged(training):
        found = unstuck.sharpness(training, budget=20.0, progress=interrupting)
    assert found.interrupted
    assert not found.survey.complete
    assert {"sam", "asam", "lambda_max", "trace"} <= set(found.measures)
    assert "keskar" not in found.measures
    assert json.loads(found.to_json())["complete"] is False


def test_validation_data_that_fail_are_left_out_with_the_reason():
    found = unstuck.sharpness(small(validation=[torch.zeros(3)]), budget=20.0)
    assert {omission.name for omission in found.survey.omitted} == {"validation"}
    assert "`validation`" in found.survey.omitted[0].reason
    assert found.survey.profiles
    assert "validation loss" in str(found)


def test_a_loss_that_is_not_finite_everywhere_is_refused_in_one_line():
    inputs, targets = zoo.batches(16)[0]
    broken = replace(small(), data=[*zoo.batches(16, 16), (torch.full_like(inputs, torch.nan), targets)])
    with pytest.raises(MeasurementError, match="not finite"):
        unstuck.sharpness(broken, budget=20.0)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(UnstuckError, match="budget"):
        unstuck.sharpness(small(), budget=budget)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_every_demo_has_an_answer_within_its_time(name):
    found = unstuck.sharpness(DEMOS[name].setup(), budget=30.0)
    assert found.survey.complete
    assert found.survey.cost.seconds < 30.0
    assert {"lambda_max", "trace", "keskar", "sam"} <= set(found.measures)


def test_the_minimum_of_a_regularised_loss_is_told_from_one_of_the_loss():
    found = unstuck.sharpness(DEMOS["minimum"].setup(), budget=60.0)
    assert found.survey.gradient.decayed < 1e-6 < found.survey.gradient.norm
    assert "Weight decay" in str(found)


def test_json_on_standard_output_is_nothing_but_the_document(run):
    code, out, err = run("demo:lecture", "--json", "-")
    assert code == 0
    document = json.loads(out)
    assert document["measures"]["lambda_max"]["value"] == pytest.approx(2.0)
    assert document["measures"]["trace"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert "steepest curvature" in err


def test_page_and_json_are_written_where_asked(run, tmp_path):
    code, out, err = run("demo:lecture", "--html", "out/page.html", "--json", "out/numbers.json")
    assert code == 0
    assert "How sharp is it here?" in out
    assert "wrote out/page.html" in err
    assert (tmp_path / "out/page.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "out/numbers.json").read_text())["schema"] == 1


def test_steps_and_checkpoint_come_first(run, tmp_path):
    (tmp_path / "train.py").write_text(
        dedent("""
        import torch, unstuck

        def setup():
            torch.manual_seed(0)
            model = torch.nn.Linear(3, 1)
            batches = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(20)]
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            return unstuck.Training(model, unstuck.supervised(torch.nn.MSELoss()), batches, optimizer)
    """)
    )
    zeros = {"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}
    torch.save(zeros, tmp_path / "zeros.pt")
    _, out, err = run("train.py:setup", "--checkpoint", "zeros.pt", "--json", "-")
    assert "loaded" in err
    assert json.loads(out)["length"] == 0.0
    _, out, _ = run("train.py:setup", "--checkpoint", "zeros.pt", "--steps", "30", "--json", "-")
    assert json.loads(out)["length"] > 0.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.py:setup"], "nowhere.py"),
        (["demo:lecture", "--budget", "soon"], "not a time above zero"),
        (["demo:lecture", "--checkpoint", "none.pt"], "none.pt"),
        (["demo:nothing"], "nothing"),
        ([], "TARGET"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, told):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
    assert "Traceback" not in err
