"""`unstuck.surface` and `unstuck surface`: from a training, or a target, to the answer."""

import json
import sys

import pytest
import torch
from torch import nn

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck.cli import main
from unstuck.errors import MeasurementError, UnstuckError


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command in this process; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["surface", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def small(**more):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    return unstuck.Training(
        model, unstuck.supervised(nn.CrossEntropyLoss()), zoo.batches(16, 16, 16, 10), optimizer, **more
    )


def interrupting(at):
    """Press Ctrl-C at the so many-th place of a grid."""
    places = iter(range(10_000))

    def told(stage, share):
        if "places" in stage and next(places) == at:
            raise KeyboardInterrupt

    return told


def test_after_ctrl_c_what_was_seen_is_there_and_the_training_as_it_was():
    training = small(validation=zoo.batches(8, 8))
    with unchanged(training):
        found = unstuck.surface(training, budget=600.0, progress=interrupting(30))
    assert found.interrupted
    assert not found.view.complete
    assert [plane.evaluated for plane in found.view.planes] == [30, 0, 0]
    assert "30 of 9 by 9" in str(found)
    assert json.loads(found.to_json())["complete"] is False
    assert found.figure("random").data
    assert "figure-random" in found.to_html()


def test_the_same_seed_gives_the_same_picture_and_another_one_another():
    views = [
        unstuck.surface(small(), along="random", budget=600.0, seed=seed, progress=interrupting(81)).view
        for seed in (0, 0, 1)
    ]
    one, same, other = (view.plane("random").training for view in views)
    assert one == same
    assert one != other


def test_along_a_recorded_run_its_own_path_is_drawn_and_else_that_of_a_copy(tmp_path):
    training = small()
    with unstuck.watch(training.model, training.optimizer, out=tmp_path, path=20):
        for _ in range(10):
            for batch in training.data:
                training.optimizer.zero_grad()
                training.loss(training.model, batch).backward()
                training.optimizer.step()
    end = {"along": "path", "budget": 600.0, "progress": interrupting(81)}
    with unchanged(training):
        recorded = unstuck.surface(training, run=tmp_path, **end)
        copied = unstuck.surface(training, **{**end, "progress": interrupting(81)})
    path = recorded.view.plane("path").path
    assert (path.source, path.steps[0], path.steps[-1]) == ("run", 0, 40)
    assert path.apart < 1e-6
    assert "that of the recorded run over 40 steps" in " ".join(str(recorded).replace("\u2502", " ").split())
    other = copied.view.plane("path").path
    assert (other.source, other.steps[0]) == ("copy", 0)
    assert "a copy of the run, continued from here" in " ".join(copied.to_html().split())
    for found in (recorded, copied):
        assert json.loads(found.to_json())["planes"]["path"]["path"]["shares"][0] > 0.3
        names = [trace.name for trace in found.figure("path-surface").data]
        assert "the path, at its real loss" in names


def test_validation_data_that_fail_are_left_out_with_the_reason():
    found = unstuck.surface(
        small(validation=[torch.zeros(3)]), along="random", budget=600.0, progress=interrupting(5)
    )
    assert {omission.name for omission in found.view.omitted} == {"validation"}
    assert "`validation`" in found.view.omitted[0].reason
    assert "validation loss" in str(found)


@pytest.mark.parametrize("budget", [0.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(UnstuckError, match="budget"):
        unstuck.surface(small(), budget=budget)


def test_an_unknown_figure_is_told_with_those_there_are():
    found = unstuck.surface(small(), along="random", budget=600.0, progress=interrupting(5))
    with pytest.raises(MeasurementError, match="random, random-surface, slices"):
        found.figure("hessian")


def test_json_on_standard_output_is_nothing_but_the_document_within_the_time(run):
    code, out, err = run("demo:lecture", "--along", "hessian", "--budget", "2s", "--json", "-")
    assert code == 0
    document = json.loads(out, parse_constant=pytest.fail)
    assert document["lambda_min"]["value"] == pytest.approx(-2.0)
    assert set(document["planes"]) == {"hessian"}
    plane = document["planes"]["hessian"]
    assert len(plane["training"]) == len(plane["ys"])
    assert "9 by 9 places" in err
    assert document["cost"]["seconds"] < 6.0


def test_page_and_json_are_written_where_asked(run, tmp_path):
    code, out, err = run(
        "demo:lecture", "--budget", "1s", "--html", "out/page.html", "--json", "out/numbers.json"
    )
    assert code == 0
    assert "What does the loss look like here?" in out
    assert "wrote out/page.html" in err
    assert (tmp_path / "out/page.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "out/numbers.json").read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["demo:lecture", "--along", "nowhere"], "'nowhere' is not one of"),
        (["demo:lecture", "--run", "nowhere"], "there is no run nowhere"),
        (["demo:lecture", "--budget", "soon"], "not a time above zero"),
        (["demo:nothing"], "nothing"),
        ([], "TARGET"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, told):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
    assert "Traceback" not in err
