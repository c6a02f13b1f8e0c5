"""Two processes against one: the same loss, gradient, products and eigenvalues, however the model is divided."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from starting import PROCESSES, torchrun
from together import PART, advanced, looks, numbers

DIVISIONS = ("ddp", "replicas", "fully_shard", "replicas of shards")
NUMBERS = ("value", "values", "length", "slope", "moved", "bend", "image", "quotients")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("together")
    ended = torchrun(str(Path(__file__).parent / "together.py"), str(folder / "found"), cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"found{number}").read_text()) for number in range(PROCESSES)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return numbers("one process", torch.float64)


@pytest.mark.parametrize("division", DIVISIONS)
def test_the_numbers_of_two_processes_are_those_of_one(found, alone, division):
    for each in found:
        here = each[division]
        assert here["examples"] == alone["examples"]
        assert here["whole"]
        tolerance = 1e-9 if here["engine"] == "retained" else 1e-6
        for name in NUMBERS:
            assert here[name] == pytest.approx(alone[name], rel=tolerance), name


@pytest.mark.parametrize("division", DIVISIONS)
def test_eigenvalues_of_two_processes_are_those_of_one(found, alone, division):
    for name in ("lambda_min", "lambda_max"):
        for each in found:
            assert each[division][name] == pytest.approx(alone[name], rel=1e-5)


def test_spectrum_sharpness_and_surface_of_two_processes_are_those_of_one(found):
    alone = looks("one process")
    for each in found:
        assert each["looks, ddp"] == pytest.approx(alone, rel=1e-6, abs=1e-9)
        divided = each["looks, fully_shard"]
        assert divided == pytest.approx({name: alone[name] for name in divided}, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("division", ["ddp", "fully_shard"])
def test_what_all_processes_have_kept_is_not_evaluated_again_and_what_one_has_lost_is(found, division):
    for each in found:
        assert each[f"recalled, {division}"] == {"counts": [4, 0, 1], "same": True}


@pytest.mark.parametrize("division", DIVISIONS)
def test_steps_of_two_processes_are_those_of_one_and_their_checkpoint_can_be_loaded(
    found, tmp_path, division
):
    alone = advanced("one process", tmp_path / "one.pt")
    first, second = (each[f"advanced, {division}"] for each in found)
    assert first["same"]
    assert first["loaded"] == list(alone["loaded"]) == ["model", "optimizer"]
    assert first["rate"] == second["rate"] == pytest.approx(alone["rate"])
    assert alone["rate"] < 1e-2  # so that the schedule was followed
    assert first["length"] == pytest.approx(alone["length"], rel=1e-9)
    assert first["moments"] == pytest.approx(alone["moments"], rel=1e-9)


def test_a_part_of_a_divided_model_is_that_of_the_whole_one(found):
    alone = numbers("one process", torch.float64, PART)
    for each in found:
        assert each["part"]["untouched"]
        for name in (*NUMBERS, "lambda_min", "lambda_max"):
            assert each["part"][name] == pytest.approx(alone[name], rel=1e-5), name


def test_differences_in_float32_know_the_eigenvalues_to_a_percent(found):
    reference = numbers("one process", torch.float32)
    for name in ("lambda_min", "lambda_max"):
        assert found[0]["float32"][name] == pytest.approx(reference[name], rel=1e-2)


def test_double_backward_serves_replicas_and_differences_serve_shards(found):
    engines = [found[0][division]["engine"] for division in DIVISIONS]
    assert engines == ["retained", "retained", "differences", "differences"]


def test_all_processes_hold_the_very_same_numbers(found):
    first, second = ({key: each["ddp"][key] for key in (*NUMBERS, "lambda_min")} for each in found)
    assert first == second


def test_a_divided_vector_is_held_once_and_replicas_hold_all(found, alone):
    whole = alone["held"]
    assert sum(each["fully_shard"]["held"] for each in found) == whole
    assert [each["ddp"]["held"] for each in found] == [whole, whole]
    assert [each["replicas of shards"]["held"] for each in found] == [whole, whole]


def test_the_training_is_given_back_bit_for_bit(found):
    assert all(each[division]["untouched"] for each in found for division in DIVISIONS)


def test_what_decides_is_the_same_everywhere(found):
    first, second = (each["decisions"] for each in found)
    assert first["clock"] == second["clock"]
    assert [first["agreed"], second["agreed"]] == [0.0, 0.0]
    assert [first["least"], second["least"]] == [-1.0, -1.0]
    assert [first["once"], second["once"]] == [0, 0]
    assert [first["own"], second["own"]] == [[1, 0.0], [1, 1.0]]


def test_what_fails_in_one_process_fails_in_all(found):
    first, second = (each["decisions"]["said"] for each in found)
    assert first == ["process 1: no good", "no good"]
    assert second == ["no good", "no good"]


def test_a_process_whose_data_end_first_takes_part_without_examples(found):
    first, second = (each["decisions"]["batches"] for each in found)
    assert first == [[4, 2], [4, 2], [2, 0]]
    assert second == [[4, 2], [4, 2], [2, 2]]
