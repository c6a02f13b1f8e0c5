"""A history is read from a recorded run as from a table, with what is not known and what is not a number apart."""

import math

import pytest
import torch

from recordings import changed, copied, handmade, stuck
from unstuck.errors import TrainingError
from unstuck.measurements.past import measure_past
from unstuck.watching.files.reading import read
from unstuck.watching.histories import read_history
from unstuck.watching.watch import watch


def recorded(folder, losses):
    """A run with these losses; None is a step without a backward pass."""
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer, out=folder) as watched:
        for loss in losses:
            optimizer.zero_grad()
            if loss is not None:
                (model.weight.sum() * 0.0 + loss).backward()
            optimizer.step()
    return watched.path


def test_a_loss_that_is_not_known_is_told_from_one_that_is_not_a_number(tmp_path):
    path = recorded(tmp_path, [2.0, None, math.nan, math.inf, 1.0])
    assert [part.missing for part in read(path).optimizers[0].curve] == [0, 0, 1, 1, 0]
    history = read_history(path)
    assert history.loss[:2] == [2.0, None]
    assert math.isnan(history.loss[2])
    assert history.loss[3:] == [math.inf, 1.0]
    assert history.steps == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert history.learning_rate == [0.0] * 5


def test_a_folder_stands_for_its_newest_run_and_the_record_is_summed_up():
    history = read_history(stuck().parent)
    assert history.loss == [part.mean for part in read(stuck()).optimizers[0].curve]
    norms = [norm for norm in history.gradient_norm if norm is not None]
    assert len(norms) == sum(sample.count for sample in read(stuck()).optimizers[0].samples)
    past = measure_past(history)
    assert (past.last, past.not_finite) == (len(history.loss), None)


def test_a_file_of_an_earlier_version_is_read_too(tmp_path):
    path = changed(copied(stuck(), tmp_path), ("ALTER TABLE steps DROP COLUMN not_a_number",))
    assert read_history(path) == read_history(stuck())
    assert read(path).optimizers[0].curve == read(stuck()).optimizers[0].curve


def test_a_sample_belongs_to_the_row_that_its_step_is_part_of(tmp_path):
    steps = [(0, 2, 0.1, 2, 3.0, 0.1, 0), (0, 4, 0.2, 2, 2.0, 0.1, 0)]
    samples = [(0, 3, 0.1, 7.0), (0, 9, 0.3, 8.0)]
    path = handmade(tmp_path / "run.sqlite", steps=steps, samples=samples)
    assert read_history(path).gradient_norm == [None, 7.0]


def test_of_several_optimizers_the_one_that_moves_most_is_read(tmp_path):
    optimizers = [(0, "SGD", None, 5), (1, "Adam", None, 50)]
    steps = [(0, 1, 0.1, 1, 3.0, 0.1, 0), (1, 1, 0.1, 1, 4.0, 0.1, 0)]
    path = handmade(tmp_path / "run.sqlite", optimizers=optimizers, steps=steps)
    assert read_history(path).loss == [4.0]


def test_a_table_is_read_as_before_and_what_is_neither_is_one_clear_line(tmp_path):
    table = tmp_path / "log.csv"
    table.write_text("step,loss\n1,2.5\n2,2.0\n")
    assert read_history(table).loss == [2.5, 2.0]
    with pytest.raises(TrainingError, match=r"cannot read .*nowhere"):
        read_history(tmp_path / "nowhere.csv")
    with pytest.raises(TrainingError, match="there is no run in the folder"):
        read_history(tmp_path)
    with pytest.raises(TrainingError, match="no step was recorded"):
        read_history(handmade(tmp_path / "empty.sqlite"))
